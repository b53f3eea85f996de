"""Where the files of a model are: the only place that knows how built files and result folders are named."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vidom.errors import UsageError
from vidom.wording import shown

__all__ = ["Workspace"]

# Folders have this name, and files a longer one.
_NAME = re.compile(r"\w[\w .-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """The paths of one recipe's files, relative to the current folder.

    `recipe` is the name of a recipe or the path of its .yaml; folders are named after its stem. dtype and views are
    part of the names, so that variants of a model do not overwrite each other. `out` and `store` replace the folder of
    computed files and that of the clip store. Raises UsageError for a name that is no plain one.
    """

    recipe: str
    batch_size: int = 1
    dtype: str = "float32"
    per_view: bool = False
    out: Path | None = None
    store_folder: Path | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self._recipe_name):
            raise UsageError(
                f"{shown(self._recipe_name)!r} cannot name a recipe: expected up to 64 letters, digits, '_', '-', '.' "
                "or spaces. A recipe of your own is named by the path of its .yaml file."
            )

    @property
    def _recipe_name(self) -> str:
        return Path(self.recipe).stem if self.recipe.endswith((".yaml", ".yml")) else self.recipe

    @property
    def variant(self) -> str:
        """The name of the recipe with its views and dtype, such as `tsm_sthv2_views_uint8`."""
        return (
            self._recipe_name
            + "_views" * self.per_view
            + (f"_{self.dtype}" if self.dtype != "float32" else "")
        )

    @property
    def build(self) -> Path:
        """The folder of the models of one batch size."""
        return Path("om_models", "build", self.variant, f"bs{self.batch_size}")

    @property
    def exported(self) -> Path:
        """The ONNX model as exported."""
        return self.build / f"{self._name}_bs{self.batch_size}.onnx"

    @property
    def optimized(self) -> Path:
        """The ONNX model after surgery."""
        return self.build / f"{self._name}_new_bs{self.batch_size}.onnx"

    @property
    def om(self) -> Path:
        """The offline model, next to the graph that it is compiled from, where `--engine auto` looks for it."""
        return self.optimized.with_suffix(".om")

    @property
    def run(self) -> Path:
        """The folder of everything that is computed with the model."""
        return self.out or Path("run", self.variant)

    @property
    def store(self) -> Path:
        """The clip store, which serves all batch sizes."""
        return self.store_folder or self.run / "store"

    @property
    def clips(self) -> Path:
        """The folder of input files in the clip store."""
        return self.store / "clips"

    @property
    def results(self) -> Path:
        """The folder of the outputs of all batch sizes, `--output` of `infer`."""
        return self.run / "result"

    @property
    def result_name(self) -> str:
        """The outputs' folder in `results`, `--output_dirname` of `infer`."""
        return f"bs{self.batch_size}"

    @property
    def summary(self) -> Path:
        """The summary of the outputs, `--result_path` of `score`."""
        return self.results / f"{self.result_name}_summary.json"

    @property
    def bench(self) -> Path:
        """The folder of the table by batch size."""
        return self.run / "bench"

    @property
    def training(self) -> Path:
        """The folder of a training run."""
        return self.run / "training"

    def evaluation(self, limit: int | None = None) -> Path:
        """Return the folder of an evaluation, of all samples or of a subset of `limit`."""
        return self.run / ("evaluation" if limit is None else f"evaluation_{limit}")

    @property
    def _name(self) -> str:
        return Path(self.recipe).stem if self.recipe.endswith((".yaml", ".yml")) else self.recipe
