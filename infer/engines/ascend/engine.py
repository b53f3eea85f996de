"""ais_bench as a file engine: an offline model that runs on folders of files."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path

from infer.engines.ascend.ais_bench_run import run_ascend
from infer.engines.ascend.installed import installed
from infer.engines.ascend.om_input import clip_dtype
from infer.engines.base import ClipDtype, FileEngine, FileRun
from infer.engines.engine_options import AscendOptions
from infer.infer_options import InferOptions

__all__ = ["AscendEngine"]

_log = logging.getLogger(__name__)

# ais_bench takes it for a path in the current folder as well, where nothing should have this name.
_DIRNAME = "vidom_outputs"


class AscendEngine(FileEngine):
    """An .om that ais_bench runs on the NPUs of the options; `batch_size` is for one without a build record."""

    name = "ascend"

    def __init__(
        self,
        model_path: Path | str,
        options: AscendOptions = AscendOptions(),
        *,
        batch_size: int | None = None,
    ) -> None:
        self.path = Path(model_path)
        self.batch_size = batch_size
        self.options = options

    @cached_property
    def version(self) -> str:
        """The versions of ais_bench, aclruntime and CANN."""
        return installed().versions

    @cached_property
    def input_dtype(self) -> ClipDtype:
        """That of the build record, float32 without one."""
        return clip_dtype(self.path)

    def infer_files(self, files: Path, output: Path) -> FileRun:
        """Run ais_bench on the folder; what it prints is logged."""
        options = InferOptions(
            model=self.path,
            engine=self.options,
            input=files,
            output=output,
            output_dirname=_DIRNAME,
            outfmt="NPY",
            batchsize=self.batch_size,
        )
        result = run_ascend(options, self.options, say=_log.info)
        if result.summary is None:
            raise RuntimeError("a run with an output folder has a summary")
        return FileRun(result.summary, result.seconds)
