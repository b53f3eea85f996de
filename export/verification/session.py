"""ONNX Runtime on the CPU, with its errors as errors of the graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from vidom.errors import BadDataError
from vidom.system.onnx_runtime import onnxruntime, ort_errors
from vidom.wording import shown

__all__ = ["TIME_LIMIT", "Session"]

Array = npt.NDArray[Any]
# Seconds. A batch of 8 samples with 30 views of I3D takes 40 minutes on two cores.
TIME_LIMIT = 3600.0
_FATAL = 4

_REJECTIONS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class Session:
    """A graph, or the file of one, that ONNX Runtime can run on the CPU.

    `threads` are those of one operator, by default all cores; with `optimized` False ONNX Runtime runs the graph as it
    is written. It is stopped where loading or one run takes longer than `time_limit` seconds, after the operator that
    it is computing then. Raises BadDataError when it rejects the graph or is stopped.
    """

    def __init__(
        self,
        model: bytes | Path,
        *,
        threads: int | None = None,
        optimized: bool = True,
        time_limit: float = TIME_LIMIT,
    ) -> None:
        levels = onnxruntime.GraphOptimizationLevel
        options = onnxruntime.SessionOptions()
        # Its warnings concern every weight that an old exporter lists as an input; its errors are raised as well.
        options.log_severity_level = _FATAL
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
        if threads is None:
            # Threads that spin between operators slow down everything else that the machine is doing.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        else:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        self._time_limit = time_limit
        content = str(model) if isinstance(model, Path) else model
        with self._bounded("rejects", partial(options.set_load_cancellation_flag, True)):
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return tuple(output.name for output in self._session.get_outputs())

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """Return the outputs, by default all, for these inputs. Raises BadDataError when the graph cannot be run."""
        options = onnxruntime.RunOptions()
        options.log_severity_level = _FATAL
        with self._bounded("cannot run", partial(setattr, options, "terminate", True)):
            return list(self._session.run(outputs, dict(feeds), options))

    @contextmanager
    def _bounded(self, what: str, stop: Callable[[], None]) -> Iterator[None]:
        """Call `stop` in a thread once the time limit has passed; raise what ONNX Runtime raises as BadDataError."""
        stopped = threading.Event()

        def expire() -> None:
            stopped.set()
            stop()

        timer = threading.Timer(self._time_limit, expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        except _REJECTIONS as error:
            if stopped.is_set():
                raise BadDataError(
                    f"ONNX Runtime had not finished with the graph after {self._time_limit:g} s and was stopped. Use a "
                    "smaller batch size, or raise the --time_limit of modify_onnx.py."
                ) from None
            reason = shown(" ".join(str(error).split()), 1000)
            raise BadDataError(f"ONNX Runtime {what} the graph: {reason}") from None
        finally:
            timer.cancel()
