from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ascend_bench import Bench

from benchmarks.batch_table.__main__ import BatchTableOptions, batch_table, main
from benchmarks.batch_table.plot import plot
from benchmarks.batch_table.row import Row, Settings
from benchmarks.batch_table.table import document, markdown
from export.to_om import ToOmOptions
from infer.engines.engine_options import AscendOptions, OnnxRuntimeOptions, OpenVinoOptions
from networks.deployable import build_deployable
from vidom.errors import BadDataError, UsageError
from vidom.files import crc32_file
from vidom.formats.clip_store import ClipFile, Packed, Sample, StoreHeader
from vidom.formats.clip_store_writer import ClipStoreWriter
from vidom.formats.recipe import load_recipe

SAMPLES, RIGHT = 7, 4


def store_with(folder: Path, recipe_path: Path, *, right: int) -> Path:
    """Write a store of random tensors, labelled so that the network in torch is right on the first `right`."""
    recipe = load_recipe(str(recipe_path))
    shape = recipe.views.sample_shape
    clips = np.random.default_rng(5).normal(size=(SAMPLES, *shape)).astype(np.float32)
    network, _ = build_deployable(recipe, "seeded:0")
    with torch.no_grad():
        order = network(torch.from_numpy(clips)).argsort(dim=1, descending=True).numpy()
    header = StoreHeader("tiny", recipe.digest, "0", "float32", shape, "TCHW", True, 1, "none")
    writer = ClipStoreWriter(folder, header)
    for number, clip in enumerate(clips):
        path = writer.clips / writer.file_name(number)
        path.write_bytes(clip.tobytes())
        label = int(order[number, 0 if number < right else 6])
        clip_file = ClipFile(path.name, path.stat().st_size, crc32_file(path), (number,), 0)
        writer.add(Packed((clip_file,), (Sample(number, f"clip{number}", label, "synthetic", (1,)),), ()))
    writer.finish([f"class {number}" for number in range(7)], "tiny.info")
    return folder


@pytest.fixture(scope="module")
def store(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_with(tmp_path_factory.mktemp("table") / "store", tiny_recipe, right=RIGHT)


def killed_after_the_first_row(words: list[str], rows: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.batch_table", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and not rows.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()


@pytest.mark.slow
def test_a_killed_table_resumes_with_the_next_row_and_every_cell_is_filled(
    tiny_recipe: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    words = ["--recipe", str(tiny_recipe), "--checkpoint", "seeded:0", "--store", str(store)]
    words += ["--engine", "onnxruntime", "--output_dir", str(out), "--loop", "3", "--batches", "1", "2", "3"]
    killed_after_the_first_row(words, out / "rows.json")
    kept = list(json.loads((out / "rows.json").read_text()).values())
    assert [row["batch_size"] for row in kept] == [1]

    main(words)
    printed = capsys.readouterr()
    assert "batch 1: measured before" in printed.err and "batch 2: measured before" not in printed.err
    assert printed.out == (out / "batch_table.md").read_text()
    table = json.loads((out / "batch_table.json").read_text())
    assert table["measured"][0] == kept[0]
    assert table["npu_used"] is False and table["published"] == []
    for row, batch in zip(table["measured"], (1, 2, 3), strict=True):
        assert (row["batch_size"], row["n"], row["dataset"]) == (batch, SAMPLES, "tiny")
        assert row["top1"][0] == RIGHT / SAMPLES and row["top5"][0] == RIGHT / SAMPLES
        assert row["top1"][1:] == pytest.approx([0.2505, 0.8418], abs=1e-4)  # Wilson, 4 of 7
        assert row["padded_rows"] == -SAMPLES % batch and row["engine"].startswith("onnxruntime")
        assert row["fps"] > 0 and row["samples_per_second"] > 0
    lines = [line for line in printed.out.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len(cells) == 5 and {len(row) for row in cells} == {12} and all(map(all, cells))
    sample_mb = 24 * 3 * 32 * 32 * 4 / 1e6
    for row, measured in zip(cells[2:], table["measured"], strict=True):
        assert float(row[9]) == pytest.approx(measured["fps"] * sample_mb, abs=0.05)
    assert "no NPU was used" in printed.out and "pure compute" in printed.out
    assert (out / "batch_table.png").read_bytes().startswith(b"\x89PNG")

    main(words)
    assert capsys.readouterr().out == printed.out


@pytest.mark.slow
def test_a_different_store_is_measured_again_and_without_one_there_is_no_accuracy(
    tiny_recipe: Path, store: Path, tmp_path: Path
):
    recipe = load_recipe(str(tiny_recipe))
    options = {
        "recipe": recipe,
        "batches": (2,),
        "checkpoint": "seeded:0",
        "engine": OnnxRuntimeOptions(),
        "loop": 2,
    }
    first = batch_table(BatchTableOptions(**options, store=store, output_dir=tmp_path / "out")).rows[0]
    other = store_with(tmp_path / "other", tiny_recipe, right=2)
    second = batch_table(BatchTableOptions(**options, store=other, output_dir=tmp_path / "out")).rows[0]
    assert first.top1 and second.top1 and (first.top1[0], second.top1[0]) == (RIGHT / SAMPLES, 2 / SAMPLES)
    assert (
        batch_table(BatchTableOptions(**options, store=store, output_dir=tmp_path / "out")).rows[0] == first
    )
    without = batch_table(BatchTableOptions(**options, output_dir=tmp_path / "out"))
    assert (without.rows[0].top1, without.rows[0].n, without.rows[0].samples_per_second) == (None, None, None)
    row = next(line for line in without.text.splitlines() if "| tiny |" in line)
    assert row.count("no store given") == 4 and f"{without.rows[0].fps:.2f}" in row
    (tmp_path / "out" / "rows.json").write_text('{"a": {"fps": 1}}')
    with pytest.raises(BadDataError, match="does not contain rows"):
        batch_table(BatchTableOptions(**options, output_dir=tmp_path / "out"))


@pytest.mark.slow
def test_openvino_in_bf16_shows_its_flips(tiny_recipe: Path, store: Path, tmp_path: Path):
    openvino = pytest.importorskip("openvino", reason="needs the package openvino (make extras)")
    able = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    precision = "bf16" if able else "f32"
    table = batch_table(
        BatchTableOptions(
            recipe=load_recipe(str(tiny_recipe)),
            batches=(2,),
            checkpoint="seeded:0",
            store=store,
            engine=OpenVinoOptions(precision=precision),
            loop=2,
            output_dir=tmp_path,
        )
    )
    (row,) = table.rows
    assert row.engine == f"openvino {openvino.__version__.split('-')[0]} {precision}"
    assert row.top1 and row.top1[0] == pytest.approx(RIGHT / SAMPLES, abs=1 / SAMPLES)
    if able:
        assert row.flips is not None and row.flips[1] == SAMPLES
        assert f"bf16, flips {row.flips[0]} of {SAMPLES} |" in table.text
    assert batch_table(BatchTableOptions(
        recipe=load_recipe(str(tiny_recipe)), batches=(2,), checkpoint="seeded:0", store=store,
        engine=OpenVinoOptions(precision=precision), loop=2, output_dir=tmp_path,
    )).rows == (row,)  # fmt: skip


def settings_of(name: str) -> Settings:
    return Settings(
        recipe=load_recipe(name),
        checkpoint="seeded:0",
        ignore_meta=False,
        input_dtype="float32",
        store=None,
        engine=AscendOptions(),
        soc_version="Ascend310P3",
        loop=20,
        output_dir=Path(),
    )


ROWS = tuple(
    Row(batch, "NPU 0 (Ascend310P3)", "ascend stub", "sthv2", 100, (0.5, 0.4, 0.6), (0.9, 0.8, 0.95), 20.77, 9.0, 0)
    for batch in (1, 2)
)  # fmt: skip


def test_published_numbers_stand_apart_with_their_averaging_and_chip():
    order = settings_of("tsm_sthv2")
    first, second = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in markdown(order, ROWS).splitlines()
        if "| sthv2 |" in line
    )
    assert first[:8] == [
        "NPU 0 (Ascend310P3)", "ascend stub", "1", "sthv2", "100",
        "0.5000 (0.4000 – 0.6000)", "0.9000 (0.8000 – 0.9500)", "20.77",
    ]  # fmt: skip
    assert first[9] == "784.0"  # 20.77 samples of 48 × 3 × 256 × 256 float32 a second
    assert first[10] == "0.6187 / 0.8721 (score, Ascend310P3); 0.6182 / 0.8680 (prob)"
    assert first[11] == "20.77 (Ascend310P3)" and second[11] == "none"
    table = document(order, ROWS)
    assert table["npu_used"] is True and [entry["top1"] for entry in table["published"]] == [0.6187, 0.6182]
    assert all("published" not in row for row in table["measured"])


def test_the_figure_names_engine_and_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda self, *words, **options: (figures.append(self), save(self, *words, **options)),
    )
    plot(tmp_path / "table.png", settings_of("tsm_sthv2"), ROWS)
    (figure,) = figures
    assert "ascend stub" in figure.get_suptitle() and "Ascend310P3" in figure.get_suptitle()
    measured, published = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["batch size"] * 2
    assert [axes.get_ylabel() for axes in figure.axes] == ["samples/s"] * 2
    assert measured.get_title() == "measured" and "not measured here" in published.get_title()
    assert [list(line.get_ydata()) for line in measured.lines] == [[20.77, 20.77], [9.0, 9.0]]
    assert list(published.lines[0].get_ydata()) == [20.77, 18.41, 17.67, 17.12, 17.36]


@pytest.mark.parametrize("batches", [[], [0], [2, 2], [-1]])
def test_wrong_batches_are_rejected(batches: list[int], tmp_path: Path):
    with pytest.raises(UsageError, match="--batches"):
        batch_table(BatchTableOptions(recipe=load_recipe("tsm_demo"), batches=batches, output_dir=tmp_path))
    with pytest.raises(UsageError, match="--loop"):
        batch_table(
            BatchTableOptions(recipe=load_recipe("tsm_demo"), batches=(1,), loop=0, output_dir=tmp_path)
        )


@pytest.mark.slow
def test_with_an_npu_the_model_is_compiled_and_run_by_ais_bench(
    tiny_recipe: Path, store: Path, bench: Bench, fixtures: Path, monkeypatch: pytest.MonkeyPatch
):
    """Stubs of npu-smi, ATC and ais_bench: checks what is passed on; no number is a measurement."""
    bench.npu_smi(fixtures / "ascend" / "npu_smi" / "real_310P3_modelzoo_22.x.txt")
    clips = np.stack([np.fromfile(path, np.float32) for path in sorted((store / "clips").iterdir())])
    weights = np.random.default_rng(1).integers(-1, 2, size=(clips.shape[1], 7))

    def stub(options: ToOmOptions) -> Path:
        assert options.model.name == "tiny_new_bs2.onnx"
        assert (options.batch_size, options.soc_version) == (2, "310P3")
        options.output.write_text(json.dumps({"rows": 2, "weights": weights.tolist()}))
        return options.output

    monkeypatch.setattr("export.to_om.to_om", stub)
    (row,) = batch_table(
        BatchTableOptions(
            recipe=load_recipe(str(tiny_recipe)),
            batches=(2,),
            checkpoint="seeded:0",
            store=store,
            engine=AscendOptions(),
            soc_version="310P3",
            output_dir=bench.folder / "table",
        )
    ).rows
    labels = [int(line.split()[1]) for line in (store / "tiny.info").read_text().splitlines()]
    assert row.top1 and row.top1[0] == np.mean((clips @ weights).argmax(axis=1) == labels)
    assert (row.chip, row.n, row.padded_rows) == ("NPU 0 (Ascend310P3)", SAMPLES, 1)
    assert row.engine.startswith("ascend ais_bench 0.0.2, aclruntime 0.0.2")
    assert row.fps == pytest.approx(1000.0)  # the stub's 2 ms for a batch of 2
