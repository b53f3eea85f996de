"""A cluster on this machine alone is heard on 127.0.0.1 only and leaves nothing, however its command ends."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from ray_nodes import descendants, title
from ray_preparation import folders, prepare_words, write_source

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}
LISTENS = "0A"


def heard_at(pids: set[int]) -> set[str]:
    """Return the local addresses, as the kernel writes them, of all TCP and UDP ports that the processes listen on."""
    sockets = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                sockets.add(str(descriptor.readlink()))
    found = set()
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path("/proc/net", protocol).read_text().splitlines()[1:]:
            words = line.split()
            if f"socket:[{words[9]}]" in sockets and (words[3] == LISTENS or protocol.startswith("udp")):
                found.add(words[1].partition(":")[0])
    return found


@pytest.mark.slow
def test_a_folder_whose_name_is_too_long_for_sockets_is_reported(tmp_path: Path):
    pytest.importorskip("ray", reason="needs ray: make extras")
    temporary = tmp_path / ("long" * 20)
    temporary.mkdir()
    words = prepare_words(write_source(tmp_path / "src", 2), "--ray", "--workers", "1")
    env = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "TMPDIR" in done.stderr and "Traceback" not in done.stderr
    assert list(temporary.iterdir()) == []


def pid_of(name: str, pids: set[int]) -> int:
    (pid,) = (pid for pid in pids if Path(title(pid).partition(" ")[0]).name == name)
    return pid


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "code", "report"),
    [
        ("Ctrl-C", 130, "Interrupted; what was finished is kept."),
        ("kill -9", -9, ""),
        ("raylet", 3, "The Ray cluster failed: its process raylet has ended."),
    ],
)
def test_nothing_is_left_of_a_local_cluster(ending: str, code: int, report: str, tmp_path: Path):
    pytest.importorskip("ray", reason="needs ray: make extras")
    source = write_source(tmp_path / "src", 24)
    # Sockets lie in it, whose names may not be long.
    with tempfile.TemporaryDirectory(prefix="v") as temporary:
        process = subprocess.Popen(
            prepare_words(source, "--ray", "--workers", "2"),
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": temporary},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            # Where tests run in the background of a shell, they inherit that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        pids: set[int] = set()
        # Six are extracted by the command itself, to see how large they are.
        while folders(tmp_path / "out") < 8 and process.poll() is None:
            pids |= descendants(process.pid)
            time.sleep(0.01)
        (inner,) = Path(temporary).iterdir()
        assert inner.stat().st_mode & 0o077 == 0
        assert heard_at(pids | {process.pid}) == LOOPBACK
        assert any(title(pid).startswith("ray::") for pid in pids)
        if ending == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        else:
            os.kill(process.pid if ending == "kill -9" else pid_of(ending, pids), signal.SIGKILL)
        output, errors = process.communicate()
        assert process.returncode == code, errors
        assert output == ""
        assert report in " ".join(errors.split()) and "Traceback" not in errors
        # A killed command cannot wait for the process that removes the rest.
        deadline = time.monotonic() + (20 if ending == "kill -9" else 0)
        while (left := [title(pid) for pid in pids if title(pid)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert left == []
        assert list(Path(temporary).iterdir()) == []
        assert not list(tmp_path.glob("out/.ray-witness*"))
