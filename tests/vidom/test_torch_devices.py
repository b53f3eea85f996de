"""The devices that torch computes on, with stubs of those that this machine lacks."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vidom.errors import UnavailableError
from vidom.system import torch_devices
from vidom.system.torch_devices import chosen_devices, lay_out, use_precision


@pytest.mark.parametrize(("npus", "expected"), [(8, "refused"), (0, "cpu")])
def test_npus_without_torch_npu_are_not_replaced_by_the_cpu(
    npus: int, expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(sys.modules, "torch_npu", None)
    monkeypatch.setattr(torch_devices, "visible_npus", lambda: npus)
    if expected == "cpu":
        assert torch_devices.device_kind() == "cpu"
        return
    with pytest.raises(UnavailableError, match=r"8 NPU.*torch_npu cannot be imported.*set_env\.sh") as caught:
        torch_devices.device_kind()
    assert f"torch {torch.__version__.partition('+')[0]};" in str(caught.value)


@pytest.fixture
def two_npus(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Two NPUs without bfloat16, as torch_npu shows them."""
    npu = SimpleNamespace(
        device_count=lambda: 2,
        is_bf16_supported=lambda: False,
        get_device_name=lambda device: "Ascend910A",
        conv=SimpleNamespace(allow_hf32=True),
        matmul=SimpleNamespace(allow_hf32=False),
    )
    monkeypatch.setattr(torch, "npu", npu, raising=False)
    monkeypatch.setattr(torch_devices, "device_kind", lambda: "npu")
    return npu


def test_devices_are_the_numbers_of_the_kind_that_is_there(
    two_npus: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(UnavailableError, match="2 NPU device.* device 2 does not exist"):
        chosen_devices((0, 2))
    monkeypatch.setattr(torch_devices, "device_kind", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert chosen_devices((1, 0)) == (torch.device("cuda:1"), torch.device("cuda:0"))
    with pytest.raises(UnavailableError, match="2 CUDA device.*CUDA_VISIBLE_DEVICES"):
        chosen_devices((2,))


def test_float32_on_an_npu_is_not_rounded_to_hf32(two_npus: SimpleNamespace):
    use_precision(SimpleNamespace(type="npu"), "f32")  # type: ignore[arg-type]
    assert not two_npus.conv.allow_hf32 and not two_npus.matmul.allow_hf32
    with pytest.raises(UnavailableError, match="bfloat16, which Ascend910A is not"):
        use_precision(SimpleNamespace(type="npu"), "bf16")  # type: ignore[arg-type]


def test_the_cpu_is_number_0_of_a_machine_without_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch_devices, "device_kind", lambda: "cpu")
    assert chosen_devices((0,)) == (torch.device("cpu"),)
    for numbers in ((1,), (0, 1)):
        with pytest.raises(UnavailableError, match="torch .* finds none on this machine"):
            chosen_devices(numbers)


@pytest.mark.parametrize(
    ("kind", "layout"), [("cuda", torch.channels_last), ("cpu", torch.contiguous_format)]
)
def test_only_cuda_gets_channels_last_convolutions_of_the_same_values(
    kind: str, layout: torch.memory_format
) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(4, 5, 3), nn.Linear(5, 6))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    lay_out(network, torch.device(kind))
    after = network.state_dict()
    assert after["0.weight"].is_contiguous(memory_format=layout)
    assert all(after[key].is_contiguous() for key in ("1.weight", "2.weight"))
    assert all(torch.equal(before[key], after[key]) for key in before)
