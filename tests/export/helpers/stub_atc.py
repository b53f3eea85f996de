"""A stub of ATC: a program of that name that behaves as the reference says and compiles nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from lint_graphs import model_file

GRAPH = "g (float[8,3] clips) => (float[8,3] y) { y = Relu(clips) }"
START = "ATC start working now, please wait for a moment."
SUCCESS = "ATC run success, welcome to the next use."
FAILED = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"

_PROGRAM = '''#!{python}
# STUB of ATC, written by vidom's tests. It compiles nothing.
import json, os, signal, subprocess, sys, time
from pathlib import Path

plan = json.loads(Path(__file__).with_name("plan.json").read_text())
LEGAL = set("""model framework output input_format input_shape dynamic_batch_size log soc_version precision_mode
precision_mode_v2 op_precision_mode keep_dtype insert_op_conf output_type out_nodes""".split())

def end(code, *lines):
    print(*lines, sep="\\n", flush=True)
    sys.exit(code)

def reject(line):
    end(255, "{failed}", line)

print("{start}", flush=True)
given = {{}}
for word in sys.argv[1:]:
    name, equals, value = word.lstrip("-").partition("=")
    if name not in LEGAL or not equals:
        reject("E10001: Value [" + word + "] for parameter [option] is invalid. Reason: no such option.")
    if value != value.strip() or not value:
        reject("E10001: Value [" + value + "] for parameter [--" + name + "] is invalid. Reason: whitespace.")
    given[name] = value
for name in ("model", "framework", "output", "soc_version"):
    if name not in given:
        reject("E10054: The required parameter [--" + name + "] for ATC is empty.")
if "precision_mode" in given and "precision_mode_v2" in given:
    reject("E10001: Value for parameter [precision_mode] is invalid. Reason: exclusive.")
if ("-1" in given["input_shape"].split(":")[1].split(",")) != ("dynamic_batch_size" in given):
    reject("E10001: Value [-1] for parameter [Inputs] is invalid. Reason: maybe you should set input_shape.")
if not given["soc_version"].startswith("Ascend310"):
    reject("EE1001: Soc version [" + given["soc_version"] + "] is invalid")
if not Path(given["model"]).is_file():
    reject("E10041: Failed to load the model from " + given["model"] + ".")

seen = dict(cwd=os.getcwd(), words=sys.argv[1:], pid=os.getpid())
Path(__file__).with_name("seen.json").write_text(json.dumps(seen))
Path("fusion_result.json").write_text("{{}}")
Path("kernel_meta").mkdir(exist_ok=True)

behaviour = plan["behaviour"]
if behaviour == "hang":
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(__file__).with_name("worker.txt").write_text(str(worker.pid))
    print("compiling", flush=True)
    time.sleep(60)
if behaviour == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("compiling", flush=True)
    time.sleep(60)
if behaviour == "orphan":
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(__file__).with_name("worker.txt").write_text(str(worker.pid))
if behaviour == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "reject":
    Path(given["output"] + ".om").write_bytes(b"half")
    end(255, "{failed}", *plan["lines"])
if behaviour != "no model":
    name = given["output"] + ("_linux_x86_64" if behaviour == "second name" else "") + ".om"
    Path(name).write_bytes(b"" if behaviour == "empty" else b"OM of the stub")
if behaviour == "no banner":
    end(0)
end(1 if behaviour == "code only" else 0, "{success}")
'''


class StubAtc:
    """The stub's folder, which a test puts on PATH, and the arguments that the stub got."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "atc"
        folder.mkdir()
        self.program.write_text(
            _PROGRAM.format(python=sys.executable, start=START, failed=FAILED, success=SUCCESS)
        )
        self.program.chmod(0o755)
        self.behave("succeed")

    def behave(self, behaviour: str, lines: Sequence[str] = ()) -> None:
        """Set the behaviour of the next calls; with "reject" they print `lines`."""
        (self.folder / "plan.json").write_text(json.dumps({"behaviour": behaviour, "lines": list(lines)}))

    @property
    def called(self) -> bool:
        """Whether a call passed the stub's checks of the arguments."""
        return (self.folder / "seen.json").exists()

    @property
    def words(self) -> list[str]:
        """The arguments of the last call."""
        return list(json.loads((self.folder / "seen.json").read_text())["words"])

    @property
    def cwd(self) -> Path:
        """The working folder of the last call."""
        return Path(json.loads((self.folder / "seen.json").read_text())["cwd"])

    @property
    def pid(self) -> int:
        """The process of the last call."""
        return int(json.loads((self.folder / "seen.json").read_text())["pid"])

    @property
    def worker(self) -> int:
        """The child process of the last call."""
        return int((self.folder / "worker.txt").read_text())

    def on_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the stub on PATH as `atc` and hide any CANN of this machine."""
        monkeypatch.setenv("PATH", f"{self.folder}:{os.environ['PATH']}")
        for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH"):
            monkeypatch.delenv(name, raising=False)


def alive(process: int) -> bool:
    """Return whether `process` is running; a zombie is not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def build_folder(folder: Path) -> Path:
    """Return a new build folder in `folder` that holds an ONNX model of batch 8."""
    build = folder / "bs8"
    build.mkdir()
    model_file(build, GRAPH).rename(build / "tsm_new_bs8.onnx")
    return build


def arguments(build: Path, *more: str, batch: str = "8", chip: str = "310P3") -> list[str]:
    """Return the arguments of to_om for the model in `build`."""
    words = ["--model", str(build / "tsm_new_bs8.onnx"), "--output", str(build / "tsm_bs8.om")]
    return [
        *words,
        *(["--batch_size", batch] if batch else []),
        *(["--soc_version", chip] if chip else []),
        *more,
    ]
