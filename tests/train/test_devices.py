"""The kind of device, what differs on an NPU (with a stub of torch_npu; no real one was available), and precisions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from train_sections import section

from train import devices
from vidom.errors import UnavailableError

STUBS = Path(__file__).parent / "stubs"
ON_NPU = """
import json, torch
from train.devices import accelerator_of
from train_sections import section
from vidom.system.torch_devices import device_kind
found = []
for precision in ("no", "fp16", "bf16"):
    accelerator = accelerator_of(section(), precision)
    found.append([str(accelerator.device), accelerator.mixed_precision, accelerator.scaler is not None])
print(json.dumps({
    "kind": device_kind(), "found": found, "chosen": torch.npu.chosen[:1],
    "backend": torch.distributed.get_backend(), "processes": accelerator.num_processes,
}))
torch.distributed.destroy_process_group()
"""


def test_with_torch_npu_accelerate_takes_the_npu_and_hccl():
    helpers = Path(__file__).parent / "helpers"
    one_process = {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", ON_NPU],
        env={**os.environ, **one_process, "PYTHONPATH": os.pathsep.join(map(str, (STUBS, helpers)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "kind": "npu",
        "found": [["npu:0", "no", False], ["npu:0", "fp16", True], ["npu:0", "bf16", False]],
        "chosen": ["npu:0"],
        "backend": "hccl",
        "processes": 1,
    }


@pytest.fixture
def two_npus(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Torch with two NPUs; returns the environments of the processes that are started, which end at once."""
    started: list[dict[str, str]] = []

    def start(words: list[str], *, env: dict[str, str]) -> SimpleNamespace:
        started.append(env)
        return SimpleNamespace(poll=lambda: 0, wait=lambda: 0, returncode=0)

    monkeypatch.setattr(devices, "device_kind", lambda: "npu")
    monkeypatch.setattr(torch, "npu", SimpleNamespace(device_count=lambda: 2), raising=False)
    monkeypatch.setattr(devices.subprocess, "Popen", start)
    return started


def test_each_npu_gets_a_process_that_sees_the_chosen_ones(two_npus: list[dict[str, str]]):
    assert devices.run_on_cards([], (1, 0)) == 0
    assert [one["LOCAL_RANK"] for one in two_npus] == [one["RANK"] for one in two_npus] == ["0", "1"]
    assert {one["ASCEND_RT_VISIBLE_DEVICES"] for one in two_npus} == {"1,0"}
    assert {one["WORLD_SIZE"] for one in two_npus} == {"2"}


def test_an_npu_that_does_not_exist_is_refused(two_npus: list[dict[str, str]]):
    with pytest.raises(UnavailableError, match=r"2 NPU device\(s\) .* device 2 does not exist"):
        devices.run_on_cards([], (0, 1, 2))
    assert not two_npus


def test_a_cpu_refuses_fp16_which_accelerate_would_leave_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "device_kind", lambda: "cpu")
    with pytest.raises(UnavailableError, match="fp16"):
        devices.accelerator_of(section(), "fp16")
    assert devices.accelerator_of(section(), "bf16").mixed_precision == "bf16"
    assert devices.accelerator_of(section(), "no").mixed_precision == "no"
