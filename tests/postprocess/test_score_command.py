from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from engine_runs import CLASSES, WriteInfo, WriteRun, one_a_file

from postprocess.score import ScoreOptions, main, score
from vidom.errors import CheckFailedError, UsageError

SCRIPT = Path(__file__).resolve().parents[2] / "postprocess" / "score.py"


def test_thresholds(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    write_info: WriteInfo,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [
        "--result-path",
        str(write_run(one_a_file(probabilities))),
        "--info-path",
        str(write_info(truth)),
    ]
    exact = ["--threshold", f"top1={13 / 22!r}"]
    assert main([*arguments, *exact]) is None
    met, missed = (
        ["--threshold", "top1=0.59", "top5=0.77"],
        ["--threshold", "top1=0.59", "--threshold", "top5=0.78"],
    )
    assert main([*arguments, *met]) is None
    capsys.readouterr()
    with pytest.raises(CheckFailedError, match=r"top5 is 0\.7727, below 0\.78\.$"):
        main([*arguments, *missed])
    assert capsys.readouterr().out == "\ntop1_acc\t0.5909\n\ntop5_acc\t0.7727\n"
    with pytest.raises(UsageError, match=r"Did you mean top1\?$"):
        main([*arguments, "--threshold", "top_1=0.6"])
    with pytest.raises(UsageError, match="fraction from 0 to 1"):
        main([*arguments, "--threshold", "top1=61.87"])
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--threshold", "top1"])
    assert caught.value.code == 2


def test_class_names_and_output_path(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    write_info: WriteInfo,
    tmp_path: Path,
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"推 {index}\n" for index in range(CLASSES)), encoding="utf-8")
    raw = write_run(one_a_file(probabilities), outfmt="BIN")
    info = write_info(truth)
    with pytest.raises(UsageError, match="--num_classes"):
        score(ScoreOptions(result_path=raw, info_path=info))
    with pytest.raises(UsageError, match="1 or more"):
        score(ScoreOptions(result_path=raw, info_path=info, num_classes=0))
    place = tmp_path / "new" / "m.json"
    scores = score(ScoreOptions(result_path=raw, info_path=info, labels=labels, output=place))
    assert scores.metrics_path == place
    assert json.loads(place.read_text(encoding="utf-8"))["per_class"][2]["name"] == "推 2"
    assert not raw.with_name("out_metrics.json").exists()


def test_remarks(write_run: WriteRun, write_info: WriteInfo) -> None:
    info = write_info({0: 0, 1: 1, 2: 2})
    constant = {str(index): np.full((1, 6), 1 / 6) for index in range(3)}
    scores = score(ScoreOptions(result_path=write_run(constant), info_path=info))
    remarks = " ".join(scores.remarks)
    assert "exactly the same scores" in remarks
    assert "top-1 of 3 and top-5 of 3" in remarks
    logits = {str(index): np.eye(6)[index : index + 1] * 30 - 9 for index in range(3)}
    scores = score(ScoreOptions(result_path=write_run(logits, name="logits"), info_path=info))
    assert "not probabilities" in " ".join(scores.remarks)
    assert scores.metrics.top1.value == 1
    assert "exactly the same scores" not in " ".join(scores.remarks)
    off = {str(index): np.eye(6)[index : index + 1] * 1.02 for index in range(3)}
    scores = score(ScoreOptions(result_path=write_run(off, name="off"), info_path=info))
    assert "rows sum to 1.02 .. 1.02" in " ".join(scores.remarks)
    negative = {str(index): np.eye(6)[index : index + 1] * 2 - np.full((1, 6), 1 / 6) for index in range(3)}
    scores = score(ScoreOptions(result_path=write_run(negative, name="negative"), info_path=info))
    assert "not probabilities" in " ".join(scores.remarks)
    single = write_run({"0": np.eye(6)[:1]}, name="single")
    assert score(ScoreOptions(result_path=single, info_path=write_info({0: 0}))).remarks == ()
    info = write_info({0: 0, 1: 1, 2: 2})
    plain = {str(index): np.eye(6)[index : index + 1] for index in range(3)}
    assert score(ScoreOptions(result_path=write_run(plain, name="plain"), info_path=info)).remarks == ()


@pytest.mark.slow
def test_as_a_script(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    summary, info = write_run(one_a_file(probabilities), outfmt="TXT"), write_info(truth)

    def call(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), f"--result_path={summary}", f"--info_path={info}", *more]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    low = call("--threshold", "top1=0.9")
    assert low.returncode == 1
    assert low.stdout == "\ntop1_acc\t0.5909\n\ntop5_acc\t0.7727\n"
    assert low.stderr.splitlines()[-1] == "error: Accuracy is below the threshold: top1 is 0.5909, below 0.9."
    assert summary.with_name("out_metrics.json").is_file()
    (summary.with_name("out") / "000005_0.txt").write_text("0.1 nan 0.2 0.3 0.1 0.1 0.1 \n")
    damaged = call()
    assert (damaged.returncode, damaged.stdout) == (4, "")
    assert "Traceback" not in damaged.stderr
    assert "NaN or infinite: 5." in damaged.stderr
    assert call("--threshold", "top2=0.9").returncode == 2


def test_scoring_imports_no_heavy_library(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    words = [f"--result_path={write_run(one_a_file(probabilities))}", f"--info_path={write_info(truth)}"]
    program = (
        "import importlib, pkgutil, sys, postprocess\n"
        "for module in pkgutil.iter_modules(postprocess.__path__):\n"
        "    importlib.import_module('postprocess.' + module.name)\n"
        "importlib.import_module('postprocess.score').main(sys.argv[1:])\n"
        "heavy = {'torch', 'onnx', 'onnx_ir', 'onnxruntime', 'openvino', 'av', 'cv2', 'ray'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
