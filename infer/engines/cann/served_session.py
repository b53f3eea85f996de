"""One session of ONNX Runtime for the process that started this one: `CANN_PYTHON served_session.py FOLDER`.

It runs in the interpreter of onnxruntime-cann, which has numpy 1 and nothing of vidom. A request is a line of JSON
with `do`, the name of a method of `_Served`, its arguments in `with`, and `arrays`, the dtypes, shapes and sizes of
the arrays whose bytes follow the line. So is the answer, with `answer`, or with `error` and `reason` where the method
has raised an exception. The process ends with its standard input, and removes the folder.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import IO, Any


class _Served:
    onnxruntime: Any
    session: Any
    feeds: dict[str, Any]
    values: list[Any]

    def open(self, model: str, provider: str, options: dict[str, str], threads: int) -> dict[str, Any]:
        import onnxruntime

        self.onnxruntime = onnxruntime
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise ImportError(f"onnxruntime {onnxruntime.__version__} has {', '.join(available)} only")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        self.session = onnxruntime.InferenceSession(
            model, settings, providers=[(provider, options)], enable_fallback=0
        )
        return self._description()

    def _description(self) -> dict[str, Any]:
        assignment = getattr(self.session, "get_provider_graph_assignment_info", list)
        nodes: dict[str, int] = {}
        for part in assignment():
            nodes[part.ep_name] = nodes.get(part.ep_name, 0) + len(part.get_nodes())
        return {
            "version": self.onnxruntime.__version__,
            "providers": self.session.get_providers(),
            "nodes": nodes,
            "inputs": [(node.name, node.type, node.shape) for node in self.session.get_inputs()],
            "outputs": [(node.name, node.type, node.shape) for node in self.session.get_outputs()],
            "metadata": self.session.get_modelmeta().custom_metadata_map,
        }

    def upload(self, *arrays: Any) -> None:
        names = [node.name for node in self.session.get_inputs()]
        to_value = self.onnxruntime.OrtValue.ortvalue_from_numpy
        self.feeds = {name: to_value(array) for name, array in zip(names, arrays, strict=True)}

    def execute(self) -> None:
        names = [node.name for node in self.session.get_outputs()]
        self.values = self.session.run_with_ort_values(names, self.feeds)

    def download(self) -> list[Any]:
        return [value.numpy() for value in self.values]


def _arrays(stream: IO[bytes], described: list[Any]) -> list[Any]:
    if not described:
        return []
    import numpy as np

    return [np.frombuffer(stream.read(nbytes), dtype).reshape(shape) for dtype, shape, nbytes in described]


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    served = _Served()
    for line in requests:
        request = json.loads(line)
        arrays: list[Any] = []
        try:
            arrays = _arrays(requests, request["arrays"])
            answer = getattr(served, request["do"])(*request["with"], *arrays)
            arrays = answer if isinstance(answer, list) else []
            head = {"answer": None if arrays else answer}
        except Exception as error:
            head, arrays = {"error": type(error).__name__, "reason": " ".join(str(error).split())}, []
        head["arrays"] = [(array.dtype.str, array.shape, array.nbytes) for array in arrays]
        answers.write(json.dumps(head).encode() + b"\n")
        for array in arrays:
            answers.write(array.tobytes())
        answers.flush()


if __name__ == "__main__":
    with os.fdopen(os.dup(0), "rb") as stdin, os.fdopen(os.dup(1), "wb") as stdout:
        # CANN's compiler starts programs, and its libraries print: neither is part of the conversation.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        try:
            _serve(stdin, stdout)
        finally:
            # Nobody else does where the process that started this one was killed.
            shutil.rmtree(sys.argv[1], ignore_errors=True)
