"""A stub of torch_npu: two devices `npu` that compute nothing, and a back end `hccl` that is gloo."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import torch
from torch.distributed import Backend, ProcessGroupGloo

torch.utils.rename_privateuse1_backend("npu")
npu = ModuleType("torch.npu")
npu.chosen = []
npu.is_available = lambda: True
npu.is_initialized = lambda: False
npu.device_count = lambda: 2
npu.set_device = lambda device: npu.chosen.append(str(device))
npu.amp = SimpleNamespace(GradScaler=lambda **settings: torch.amp.GradScaler("cpu", **settings))
torch._register_device_module("npu", npu)
Backend.register_backend("hccl", ProcessGroupGloo, devices=["npu"])
