"""Time and memory of inference by batch size, each point in a separate process."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.inference.naive_graph import naive_graph
from benchmarks.inference.scaling_point import run_point
from benchmarks.inference.variants import CHECKPOINT, built, openvino_precisions
from benchmarks.measuring.memory import peak_rss_of
from benchmarks.measuring.report import Table
from infer.engines.engine_options import Precision
from vidom.formats.recipe import Recipe

__all__ = ["Point", "Scaling", "measured_scaling"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """One variant at one batch size: the seconds of its fastest run and the peak bytes of its process."""

    variant: str
    batch: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Scaling:
    """The points of a recipe, by batch size and variant."""

    recipe: Recipe
    points: tuple[Point, ...]

    @property
    def table(self) -> Table:
        """The points, a row each, ordered by variant."""
        ordered = sorted(self.points, key=lambda point: self.variants.index(point.variant))
        rows = [
            (
                point.variant,
                point.batch,
                point.seconds,
                1e3 * point.seconds / point.batch,
                point.peak_bytes / 1e9,
            )
            for point in ordered
        ]
        return Table(
            f"Scaling with the batch size: {self.recipe.name}, {self.recipe.views.arithmetic}",
            ("variant", "batch", "seconds", "ms per sample", "peak memory, GB"),
            rows,
            "Each point in a separate process; its memory includes interpreter and weights.",
        )

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of the variants, each once."""
        return tuple(dict.fromkeys(point.variant for point in self.points))


def measured_scaling(recipe: Recipe, batches: Sequence[int], folder: Path) -> Scaling:
    """Build the graphs in `folder` and return seconds and peak memory of each variant at each batch size."""
    source = folder / f"{recipe.name}_scaling.yaml"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(yaml.safe_dump(json.loads(recipe.model_dump_json())), encoding="utf-8")
    points = []
    for batch in batches:
        stem = folder / f"{recipe.name}_scaling_bs{batch}"
        naive = stem.with_name(f"{stem.name}_naive.onnx")
        naive_graph(recipe=recipe, checkpoint=CHECKPOINT, output=naive, batch_size=batch)
        _, modified = built(recipe, batch, stem)
        variants = [
            _Variant("torch eager", "torch", source),
            _Variant("ONNX Runtime, naive", "onnxruntime", naive),
            _Variant("ONNX Runtime, modified", "onnxruntime", modified),
            *(
                _Variant(f"OpenVINO {one}, modified", "openvino", modified, one)
                for one in openvino_precisions()
            ),
        ]
        for variant in variants:
            _log.info(f"scaling: {variant.name}, batch {batch}")
            points.append(_point(variant, recipe.input_shape(batch)))
    return Scaling(recipe, tuple(points))


@dataclass(frozen=True)
class _Variant:
    name: str
    engine: str
    model: Path
    precision: Precision = "f32"


def _point(variant: _Variant, shape: tuple[int, ...]) -> Point:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "point.json"
        sizes = ",".join(map(str, shape))
        peak = peak_rss_of(
            run_point, variant.engine, str(variant.model), variant.precision, sizes, str(result)
        )
        seconds = json.loads(result.read_text(encoding="utf-8"))["seconds"]
    return Point(variant.name, shape[0], seconds, peak)
