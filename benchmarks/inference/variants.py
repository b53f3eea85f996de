"""The variants of running a recipe's network that the inference benchmark compares, and their graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.inference.naive_graph import naive_graph
from export.modify_onnx import ModifyOnnxOptions, modify_onnx
from export.to_onnx import ToOnnxOptions, to_onnx
from infer.engines.engine_options import PRECISIONS, OnnxRuntimeOptions, OpenVinoOptions, Precision
from infer.engines.open import open_engine
from networks.deployable import Deployable, build_deployable
from vidom.errors import CheckFailedError
from vidom.formats.recipe import Recipe, load_recipe
from vidom.parity import render
from vidom.system.machine import usable_cores
from vidom.system.onnx_runtime import onnxruntime

__all__ = [
    "CHECKPOINT",
    "Subject",
    "Variant",
    "built",
    "gpu_engines",
    "opened",
    "openvino_precisions",
    "subject_of",
    "variants_of",
]

CHECKPOINT = "seeded:0"
Array = npt.NDArray[Any]
GraphName = Literal["network", "naive", "exported", "modified", "no shift"]
EngineLabel = Literal["torch eager", "ONNX Runtime", "OpenVINO"]


@dataclass(frozen=True)
class Variant:
    """An engine, its graph (`network` is the torch module), its precision, and whether it runs on a GPU."""

    engine: EngineLabel
    graph: GraphName
    precision: Precision = "f32"
    gpu: bool = False

    @property
    def name(self) -> str:
        """The variant in words."""
        return ", ".join([self.engine, self.graph, self.precision, *(["CUDA"] if self.gpu else [])])


@dataclass(frozen=True)
class Subject:
    """A recipe at one batch size: its torch module and its graphs."""

    recipe: Recipe
    batch: int
    deployable: Deployable
    graphs: Mapping[GraphName, Path]

    @property
    def name(self) -> str:
        """Recipe and batch size."""
        return f"{self.recipe.name}, batch {self.batch}"

    @property
    def peer(self) -> GraphName:
        """The graph that ours is compared with: mmaction2's if there is one, otherwise the exported one."""
        return "naive" if "naive" in self.graphs else "exported"

    def sample(self, seed: int) -> Array:
        """Return a batch of normal numbers."""
        generator = np.random.default_rng(seed)
        return generator.standard_normal(self.recipe.input_shape(self.batch), dtype=np.float32)


def subject_of(name: str, batch: int, folder: Path) -> Subject:
    """Build the graphs of the recipe in `folder` with random weights and return both.

    Of a recipe with large samples (I3D's 30 views) it is one view. The naive graph and the one without shift
    are TSM's. Raises CheckFailedError when surgery changes the results of a graph.
    """
    recipe, still = load_recipe(name), None
    if recipe.network.arch == "i3d":
        recipe = recipe.one_view()
    graphs: dict[GraphName, Path] = {}
    stem = f"{recipe.name}_bs{batch}"
    if recipe.network.arch == "tsm":
        graphs["naive"] = folder / f"{stem}_naive.onnx"
        naive_graph(recipe=recipe, checkpoint=CHECKPOINT, output=graphs["naive"], batch_size=batch)
        still = recipe.model_copy(update={"network": recipe.network.model_copy(update={"shift": False})})
    graphs["exported"], graphs["modified"] = built(recipe, batch, folder / stem)
    if still is not None:
        _, graphs["no shift"] = built(still, batch, folder / f"{stem}_no_shift")
    deployable, _ = build_deployable(recipe, CHECKPOINT)
    return Subject(recipe, batch, deployable, graphs)


def built(recipe: Recipe, batch: int, stem: Path) -> tuple[Path, Path]:
    """Write the exported graph and that after surgery under names that begin with `stem` and return both.

    Raises CheckFailedError when surgery changes the results of the graph.
    """
    exported, modified = (stem.with_name(f"{stem.name}{suffix}.onnx") for suffix in ("", "_new"))
    to_onnx(ToOnnxOptions(recipe=recipe, checkpoint=CHECKPOINT, output=exported, batch_size=batch))
    done = modify_onnx(ModifyOnnxOptions(model=exported, output=modified, batch_size=batch, target="cpu"))
    if not done.passed:
        raise CheckFailedError(f"Surgery changed the results of {exported}:\n{render(done.parities)}")
    return exported, modified


def variants_of(subject: Subject) -> tuple[Variant, ...]:
    """Return the variants that this machine supports: OpenVINO if installed, a GPU if there is one."""
    variants = [
        Variant("torch eager", "network"),
        *(Variant("ONNX Runtime", graph) for graph in subject.graphs),
    ]
    ours: tuple[GraphName, ...] = (subject.peer, "modified")
    variants += [
        Variant("OpenVINO", graph, precision) for precision in openvino_precisions() for graph in ours
    ]
    if "torch" in gpu_engines():
        variants.append(Variant("torch eager", "network", gpu=True))
    if "ONNX Runtime" in gpu_engines():
        variants += [Variant("ONNX Runtime", graph, gpu=True) for graph in ours]
    return tuple(variants)


def gpu_engines() -> tuple[str, ...]:
    """Return which of torch and ONNX Runtime can use a CUDA device."""
    found = {
        "torch": torch.cuda.is_available(),
        "ONNX Runtime": "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    }
    return tuple(name for name, able in found.items() if able)


def openvino_precisions() -> Sequence[Precision]:
    """Return OpenVINO's precisions on this processor, none if it is not installed."""
    if find_spec("openvino") is None:
        return ()
    from openvino import Core

    return PRECISIONS if "BF16" in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else PRECISIONS[:1]


@contextmanager
def opened(variant: Variant, subject: Subject) -> Iterator[Callable[[Array], Array]]:
    """Yield a function from a batch of samples to the rows of this variant; the engine is closed afterwards.

    All variants use the usable cores of this process.
    """
    if variant.engine == "torch eager":
        yield _torch_rows(subject.deployable, "cuda" if variant.gpu else "cpu")
        return
    if variant.engine == "OpenVINO":
        engine = open_engine(subject.graphs[variant.graph], OpenVinoOptions(precision=variant.precision))
    else:
        engine = open_engine(
            subject.graphs[variant.graph], OnnxRuntimeOptions(provider="CUDA" if variant.gpu else None)
        )
    yield lambda batch: engine.run([batch])[0]


def _torch_rows(deployable: Deployable, device: str) -> Callable[[Array], Array]:
    torch.set_num_threads(usable_cores())
    module = deployable.to(device)

    def rows(batch: Array) -> Array:
        with torch.inference_mode():
            found: Array = module(torch.from_numpy(batch).to(device)).cpu().numpy()
        return found

    return rows
