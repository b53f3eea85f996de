from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest

from vidom.cli import VERBS, main, steps_of
from vidom.command import Parser
from vidom.errors import ExitCode, UsageError
from vidom.formats.recipe import recipe_folder

NAMES = [verb.name for verb in VERBS]


@pytest.fixture(autouse=True)
def own_program_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parser, "prog_override", None)
    monkeypatch.setattr(Parser, "help_note", None)


def steps(line: str) -> list[tuple[str, str]]:
    name, *words = line.split()
    return [(step.target, " ".join(step.words)) for step in steps_of(VERBS[NAMES.index(name)], words)]


def vidom(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vidom.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | variables,
    )


def test_verbs_are_listed_in_workflow_order_with_a_line_each(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line.split()[0] in NAMES]
    assert listed == NAMES
    order = ["data", "preprocess", "export", "om", "infer", "score", "bench"]
    assert [name for name in NAMES if name in order] == order
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize("verb", VERBS, ids=NAMES)
def test_every_verb_leads_to_a_command_with_a_help(
    verb: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    name = verb.name  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith(f"usage: vidom {name} ")
    assert (f"`vidom {name} RECIPE` fills in" in shown) is (verb.fill is not None)  # type: ignore[attr-defined]


def test_targets_that_only_a_recipe_leads_to_exist():
    lines = [
        "export tsm_demo",
        "om tsm_demo",
        "bench tsm_demo --batches 1",
        "infer tsm_demo",
        "evaluate tsm_demo",
    ]
    for target, _ in (step for line in lines for step in steps(line)):
        module, _, function = target.partition(":")
        assert callable(getattr(import_module(module), function))


def test_a_wrong_verb_names_the_nearest_one(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["scroe"])
    assert ended.value.code == ExitCode.USAGE
    assert "did you mean 'score'?" in capsys.readouterr().err


def test_the_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--version"])
    version = next(
        line.split('"')[1]
        for line in (Path(__file__).parents[2] / "pyproject.toml").read_text().splitlines()
        if line.startswith("version")
    )
    assert capsys.readouterr().out.split() == ["vidom", version]


def test_a_recipe_fills_in_the_paths_and_options_come_after_them():
    ((target, words),) = steps("infer tsm_sthv2 --batch_size 8 --loop 2")
    assert target == "infer.__main__:main"
    assert words == (
        "--model om_models/build/tsm_sthv2/bs8/tsm_sthv2_new_bs8.onnx --input run/tsm_sthv2/store/clips "
        "--output run/tsm_sthv2/result --output_dirname bs8 --outfmt NPY --loop 2"
    )
    ((_, words),) = steps("score tsm_sthv2 --batch-size 8 --out elsewhere")
    assert words == "--result_path elsewhere/result/bs8_summary.json"
    ((_, words),) = steps("preprocess i3d_k400 --per_view --dtype uint8 --ann_file a")
    assert words == (
        "--recipe i3d_k400 --per_view --dtype uint8 --output_dir run/i3d_k400_views_uint8/store --ann_file a"
    )


@pytest.mark.parametrize("engine", [["--engine", "ascend"], ["--engine=ascend"]])
def test_the_npu_runs_the_offline_model(engine: Sequence[str]):
    for verb in ("infer", "bench", "evaluate"):
        ((_, words),) = steps(" ".join([verb, "tsm_demo", *engine]))
        assert "tsm_demo_new_bs1.om" in words


def test_torch_runs_the_recipe_with_the_batch_and_dtype_that_a_built_model_would_have():
    words = "tsm_demo --batch_size 4 --dtype uint8 --engine torch --checkpoint best.pth"
    network = "--recipe tsm_demo --input_dtype uint8"
    for verb, own in (
        ("evaluate", f"{network} --batch_size 4 --output_dir run/tsm_demo_uint8/evaluation"),
        ("predict", network),
        ("drift", "--recipe tsm_demo"),
        ("bench", "--input_dtype uint8 --recipe tsm_demo --dymBatch 4 --loop 20"),
    ):
        assert steps(f"{verb} {words}")[0][1] == f"{own} --engine torch --checkpoint best.pth"
    ((_, infer),) = steps(f"infer {words}")
    assert infer.startswith(
        "--input_dtype uint8 --recipe tsm_demo --dymBatch 4 --input run/tsm_demo_uint8/store"
    )
    for refused in ("--per_view", "--dtype aipp"):
        with pytest.raises(UsageError, match="takes complete samples"):
            steps(f"evaluate tsm_demo {refused} --engine torch")


def test_bench_is_the_loop_or_the_table():
    ((target, words),) = steps("bench tsm_demo --batch_size 4 --loop 5")
    assert target == "infer.__main__:main"
    assert words.endswith("tsm_demo_new_bs4.onnx --loop 20 --loop 5")
    ((target, words),) = steps("bench tsm_demo --batches 1 4")
    assert target == "benchmarks.batch_table.__main__:main"
    assert words.endswith("--output_dir run/tsm_demo/bench --batches 1 4")


def test_om_optimizes_for_the_npu_first_where_the_export_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert [target for target, _ in steps("om tsm_demo")] == ["export.to_om:main"]
    exported = tmp_path / "om_models/build/tsm_demo/bs1/tsm_demo_bs1.onnx"
    exported.parent.mkdir(parents=True)
    exported.touch()
    (target, words), last = steps("om tsm_demo --dry_run")
    assert target == "export.modify_onnx:main"
    assert words.endswith("--target ascend310p")
    assert last[1].endswith("--dry_run")


def test_limits_have_folders_of_their_own():
    ((_, words),) = steps("evaluate tsm_demo --limit 10")
    assert "--output_dir run/tsm_demo/evaluation_10 " in words


def test_without_a_recipe_words_pass_as_they_are():
    assert steps("infer --model a.onnx --batchsize 3") == [
        ("infer.__main__:main", "--model a.onnx --batchsize 3")
    ]


def test_user_errors_of_a_stage_keep_their_exit_code(tmp_path: Path):
    done = vidom("score", "--result_path", str(tmp_path / "absent.json"), "--info_path", "x.info")
    assert done.returncode in (ExitCode.USAGE, ExitCode.BAD_DATA)
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("vidom ev", {"evaluate"}),
        ("vidom score --result", {"--result_path"}),
        ("vidom infer tsm_demo --outf", {"--outfmt"}),
    ],
)
def test_a_shell_completes_verbs_and_options(line: str, completions: set[str], tmp_path: Path):
    out = tmp_path / "completions"
    command = f'"{sys.executable}" -m vidom.cli 8>"{out}" 9>/dev/null'
    shell = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "|",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    subprocess.run(["bash", "-c", command], check=False, capture_output=True, env=os.environ | shell)
    assert {word.strip() for word in out.read_text().split("|")} == completions


@pytest.mark.parametrize("words", [["../../evil"], ["tsm_demo", "--dtype", "../../evil"]])
def test_names_of_folders_do_not_lead_elsewhere(words: list[str], tmp_path: Path):
    ended = vidom("infer", *words, "--result_path", str(tmp_path))
    assert ended.returncode == ExitCode.USAGE
    assert "../../evil" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize("entry", ["{:05}.jpg", "({:05}).jpg", '"{:05}.jpg"', "$$HOME-{}.png"])
def test_make_passes_entries_as_they_are(entry: str):
    setting = f"dataset.frame_template={entry}"
    command = [
        "make",
        "-s",
        "preprocess",
        "NEEDED=",
        "VIDOM=printf '%s\\n'",
        f"SET={setting} head.softmax=true",
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=recipe_folder().parent)
    words = printed.stdout.splitlines()
    given = [value for option, value in itertools.pairwise(words) if option == "--set"]
    assert given == [setting.replace("$$", "$"), "head.softmax=true"]
