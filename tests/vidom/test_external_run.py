from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from vidom.errors import ExternalToolError
from vidom.system.external_run import Ended, Job, Stream, run_streamed


def python(code: str, log_file: Path | None = None) -> Job:
    return Job([sys.executable, "-c", code], log_file)


class Output(list[tuple[int, Stream, str]]):
    def __call__(self, number: int, stream: Stream, text: str) -> None:
        self.append((number, stream, text))

    def text(self, stream: Stream) -> str:
        return "".join(text for _, name, text in self if name == stream)


def run(*jobs: Job, output: Output | None = None, time_limit: float | None = 30) -> tuple[Ended, ...]:
    return run_streamed(jobs, on_output=Output() if output is None else output, time_limit=time_limit)


def test_lines_and_progress_stream_through_and_the_log_has_every_byte(tmp_path: Path):
    output = Output()
    code = (
        "import sys; print('one\\ntwo'); sys.stdout.flush(); sys.stderr.write('\\r50%\\r100% \u2588'); "
        "sys.stderr.flush(); sys.stdout.buffer.write(b'bad \\xff end')"
    )
    (ended,) = run(python(code, tmp_path / "log"), output=output)
    assert [text for _, stream, text in output if stream == "stdout"] == ["one", "two", "bad \ufffd end"]
    assert output.text("stderr") == "\r50%\r100% \u2588"
    log = (tmp_path / "log").read_bytes()
    assert b"one\ntwo\n" in log and "\r50%\r100% \u2588".encode() in log and b"bad \xff end" in log
    assert (ended.code, ended.timed_out, ended.stopped) == (0, False, False)
    assert "two" in ended.output and "100%" in ended.output


def test_much_output_is_kept_whole_in_the_log_and_at_its_end_in_memory(tmp_path: Path):
    (ended,) = run(python("for n in range(60000): print(n, 'x' * 10)", tmp_path / "log"))
    assert len((tmp_path / "log").read_text().splitlines()) == 60000
    assert ended.output.endswith("59999 xxxxxxxxxx\n") and len(ended.output) < 300_000


def test_an_end_is_seen_however_the_pipes_are_closed():
    (ended,) = run(python("import os, time; os.close(1); os.close(2); time.sleep(0.3); os._exit(7)"))
    assert (ended.code, ended.stopped, ended.timed_out) == (7, False, False)
    (ended,) = run(python("import os, signal; print('last words', flush=True); os.kill(os.getpid(), 9)"))
    assert ended.code == -9 and "last words" in ended.output


@pytest.mark.slow
@pytest.mark.parametrize("detached", [False, True])
def test_a_worker_left_behind_holds_nothing_up(detached: bool):
    code = f"import subprocess; print(subprocess.Popen(['sleep', '300'], start_new_session={detached}).pid)"
    (ended,) = run(python(code))
    assert ended.code == 0
    if detached:  # out of reach of its parent's group, and so still there
        os.kill(int(ended.output), signal.SIGKILL)


def test_the_first_failure_stops_the_others():
    ended = run(
        python("import time; time.sleep(60)"), python("import sys; print('broken', flush=True); sys.exit(3)")
    )
    assert [one.stopped for one in ended] == [True, False]
    assert ended[1].code == 3 and "broken" in ended[1].output


@pytest.mark.slow
def test_the_time_limit_stops_even_what_is_deaf_to_sigterm(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vidom.system.process_group._GRACE", 0.3)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    (ended,) = run(python(code), time_limit=2)
    assert (ended.timed_out, ended.code) == (True, -9)


def test_an_exception_of_the_listener_stops_the_job():
    def refuse(number: int, stream: Stream, text: str) -> None:
        raise ValueError(text)

    with pytest.raises(ValueError, match="hello"):
        run_streamed([python("import time; print('hello', flush=True); time.sleep(600)")], on_output=refuse)


def test_what_cannot_be_started_is_output_and_its_siblings_are_stopped(tmp_path: Path):
    with pytest.raises(ExternalToolError, match="no-such-program` could not be started"):
        run(python("import time; time.sleep(60)"), Job([str(tmp_path / "no-such-program")]))
