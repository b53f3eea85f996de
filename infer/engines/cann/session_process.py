"""The other end of `served_session`: an interpreter with onnxruntime-cann, spoken to through pipes."""

from __future__ import annotations

import json
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from infer.engines.tensor_specs import Array
from vidom.errors import ExternalToolError
from vidom.system.cann_onnx_runtime import VARIABLE, cann_interpreter
from vidom.system.process_group import kill_group, start_group

__all__ = ["RemoteError", "SessionProcess"]

_SCRIPT = Path(__file__).with_name("served_session.py")
_LONGEST_LINE = 1 << 24
_LAST_WORDS = 400


class RemoteError(Exception):
    """An exception in the other interpreter: its class, by name, and its text on one line."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class SessionProcess:
    """A process of the interpreter that CANN_PYTHON names; it ends with this object, at the latest with this process.

    Its current folder is a temporary one, because CANN's compiler writes files there.
    """

    def __init__(self) -> None:
        self.interpreter = cann_interpreter()
        folder = tempfile.TemporaryDirectory(prefix="vidom-cann-")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self._process = start_group(
            [self.interpreter, str(_SCRIPT), folder.name],
            folder=Path(folder.name),
            stdin=subprocess.PIPE,
            stderr=self._errors,
        )
        weakref.finalize(self, _end, self._process, folder)

    def call(self, method: str, *arguments: Any, arrays: Sequence[Array] = ()) -> Any:
        """Return the answer of a method of the session there; a list is one of arrays.

        Raises RemoteError when it raises an exception, ExternalToolError when the process ends or is none of ours.
        """
        to, from_ = self._process.stdin, self._process.stdout
        if to is None or from_ is None:
            raise RuntimeError("the process was started with pipes")
        head = {"do": method, "with": arguments, "arrays": [_described(array) for array in arrays]}
        try:
            to.write(json.dumps(head).encode() + b"\n")
            for array in arrays:
                to.write(np.ascontiguousarray(array).data)
            to.flush()
            answer = json.loads(from_.readline(_LONGEST_LINE))
            found = [_read(from_, *described) for described in answer["arrays"]]
            failed = answer.get("error")
            result = found if found or failed else answer["answer"]
        except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise self._lost(method) from None
        if failed:
            raise RemoteError(str(failed), str(answer.get("reason")))
        return result

    def _lost(self, method: str) -> ExternalToolError:
        kill_group(self._process)
        code = self._process.wait()
        ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        self._errors.seek(0)
        printed = " ".join(self._errors.read()[-_LAST_WORDS:].decode(errors="replace").split())
        return ExternalToolError(
            f"The process of {self.interpreter} that runs onnxruntime-cann {ended} at the step `{method}`"
            f" ({printed or 'it printed nothing'}). Is {VARIABLE} a Python with onnxruntime-cann? Check the device "
            "(npu-smi info) and the environment (make doctor)."
        )


def _described(array: Array) -> tuple[str, tuple[int, ...], int]:
    return array.dtype.str, array.shape, array.nbytes


def _read(stream: IO[bytes], dtype: str, shape: Sequence[int], nbytes: int) -> Array:
    content = bytearray(nbytes)
    if stream.readinto(content) != nbytes:  # type: ignore[attr-defined]
        raise EOFError
    return np.frombuffer(content, dtype).reshape(shape)


def _end(process: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    kill_group(process)
    process.wait()
    for stream in (process.stdin, process.stdout):
        # What was not sent is lost with the process.
        with suppress(OSError):
            if stream:
                stream.close()
    folder.cleanup()
