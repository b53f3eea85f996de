"""A stub of an interpreter with auto-optimizer: takes the arguments of the bridge and behaves as configured."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

_PROGRAM = """#!{python}
# STUB of auto-optimizer, written by vidom's tests. It optimizes nothing.
import json, os, signal, subprocess, sys, time
from pathlib import Path

here = Path(__file__).parent
behaviour = here.joinpath("behaviour").read_text()
bridge, given, written, report, *rules = sys.argv[1:]
here.joinpath("seen.json").write_text(
    json.dumps(dict(bridge=bridge, rules=rules, environ=dict(os.environ), pid=os.getpid(), cwd=os.getcwd()))
)

def finish(applied):
    Path(report).write_text(json.dumps(dict(applied=applied, versions={{"ait-surgeon": "stub"}})))
    sys.exit(0)

if behaviour == "no auto-optimizer":
    print("auto-optimizer cannot be imported here: No module named 'onnx.mapping'", file=sys.stderr)
    sys.exit(3)
print("applying " + rules[0], flush=True)
if behaviour == "raises":
    raise KeyError("Slice_77")
if behaviour == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "hangs":
    child = subprocess.Popen(["sleep", "600"])
    here.joinpath("child").write_text(str(child.pid))
    time.sleep(600)
if behaviour == "no report":
    sys.exit(0)
if behaviour == "wrong report":
    Path(report).write_text("[1, 2]")
    sys.exit(0)
if behaviour == "matches nothing":
    finish([])
if behaviour == "writes nothing":
    finish(rules)

import onnx
from onnx import numpy_helper
model = onnx.load(given)
if behaviour == "new opset":
    model.opset_import[0].version = 12
if behaviour == "new ir":
    model.ir_version = 9
if behaviour == "renames":
    model.graph.output[0].name = model.graph.node[-1].output[0] = "other"
if behaviour == "other outputs":
    for tensor in model.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, "w"))
if behaviour == "leaves an unused weight":
    model.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(model.graph.initializer[0]), "unused"))
content = model.SerializeToString()
Path(written).write_bytes(content[: len(content) // 2] if behaviour == "half" else content)
finish(rules[:1])
"""


class StubAutoOptimizer:
    """The stub's folder, and the arguments and environment it was called with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "python"
        self.program.write_text(_PROGRAM.format(python=sys.executable))
        self.program.chmod(0o755)

    def behaves(self, behaviour: str) -> None:
        """Set the behaviour of the next calls."""
        (self.folder / "behaviour").write_text(behaviour)

    def seen(self) -> dict[str, Any]:
        seen: dict[str, Any] = json.loads((self.folder / "seen.json").read_text())
        return seen

    def alive(self) -> list[int]:
        """Return the processes of the stub that are still running."""
        numbers = [self.seen()["pid"], int((self.folder / "child").read_text())]
        return [number for number in numbers if _runs(number)]


def _runs(number: int) -> bool:
    try:
        os.kill(number, 0)
        return "Z" not in Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
