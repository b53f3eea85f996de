"""How time and memory of inference grow with the batch, each point in a process of its own."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.inference.growth_point import run_point
from benchmarks.inference.naive_graph import naive_graph
from benchmarks.inference.variants import CHECKPOINT, built, openvino_precisions
from benchmarks.measuring.memory import peak_rss_of
from benchmarks.measuring.report import Table
from infer.engines.options import Precision
from vidom.formats.recipe import Recipe

__all__ = ["Growth", "Point", "measured_growth"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """One way at one batch: the seconds of its fastest run, and the most bytes that its process held."""

    way: str
    batch: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Growth:
    """The points of a recipe, by batch and within it by way."""

    recipe: Recipe
    points: tuple[Point, ...]

    @property
    def table(self) -> Table:
        """The points, a line each, those of a way after one another."""
        ordered = sorted(self.points, key=lambda point: self.ways.index(point.way))
        rows = [
            (point.way, point.batch, point.seconds, 1e3 * point.seconds / point.batch, point.peak_bytes / 1e9)
            for point in ordered
        ]
        return Table(
            f"Growth with the batch: {self.recipe.name}, {self.recipe.views.arithmetic}",
            ("way", "batch", "seconds", "ms a sample", "peak memory, GB"),
            rows,
            "Each point in a process of its own; its memory is all that it held, interpreter and weights included.",
        )

    @property
    def ways(self) -> tuple[str, ...]:
        """The names of the ways, each once."""
        return tuple(dict.fromkeys(point.way for point in self.points))


def measured_growth(recipe: Recipe, batches: Sequence[int], folder: Path) -> Growth:
    """Return seconds and peak memory of each way at each batch; the graphs are in `folder` now."""
    source = folder / f"{recipe.name}_growth.yaml"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(yaml.safe_dump(json.loads(recipe.model_dump_json())), encoding="utf-8")
    points = []
    for batch in batches:
        stem = folder / f"{recipe.name}_growth_bs{batch}"
        naive = stem.with_name(f"{stem.name}_naive.onnx")
        naive_graph(recipe=recipe, checkpoint=CHECKPOINT, output=naive, batch_size=batch)
        _, modified = built(recipe, batch, stem)
        ways = [
            _Way("torch eager", "torch", source),
            _Way("ONNX Runtime, naive", "onnxruntime", naive),
            _Way("ONNX Runtime, modified", "onnxruntime", modified),
            *(_Way(f"OpenVINO {one}, modified", "openvino", modified, one) for one in openvino_precisions()),
        ]
        for way in ways:
            _log.info(f"growth: {way.name}, batch {batch}")
            points.append(_point(way, recipe.input_shape(batch)))
    return Growth(recipe, tuple(points))


@dataclass(frozen=True)
class _Way:
    name: str
    engine: str
    model: Path
    precision: Precision = "f32"


def _point(way: _Way, shape: tuple[int, ...]) -> Point:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "point.json"
        sizes = ",".join(map(str, shape))
        peak = peak_rss_of(run_point, way.engine, str(way.model), way.precision, sizes, str(result))
        seconds = json.loads(result.read_text(encoding="utf-8"))["seconds"]
    return Point(way.name, shape[0], seconds, peak)
