"""The torch engine: the network of a recipe with the weights of a checkpoint, before any export.

The one module of `infer` that imports torch and `networks`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infer.engines.base import first_line
from infer.engines.engine_options import TorchOptions
from infer.engines.tensor_specs import Array, TensorSpec, accepted_arrays
from networks.deployable import INPUT_NAME, Deployable, build_deployable, output_name
from vidom.errors import ExternalToolError, UnavailableError
from vidom.system.machine import usable_cores
from vidom.system.source_digest import sources_digest
from vidom.system.torch_devices import VISIBLE, chosen_devices, use_precision

__all__ = ["TorchEngine"]

_log = logging.getLogger(__name__)


class TorchEngine:
    """A network in torch's eager mode, with what the exported model has around it.

    Each device computes `batch_size` samples (default 1) at a time, so that rows do not depend on the number of
    devices; the batch of the engine is theirs together. `model_path` is for messages only. With the precision bf16,
    torch's autocast computes in bfloat16 what it may; inputs and outputs keep their types.

    Raises UnavailableError for a device that does not exist and for bf16 on one that has none, UsageError without a
    checkpoint, BadDataError for one that is damaged or does not fit the recipe, ExternalToolError when a GPU or NPU
    fails during a run.
    """

    name = "torch"
    version = str(torch.__version__)
    dynamic_batch = True

    def __init__(
        self, model_path: Path | str, options: TorchOptions, *, batch_size: int | None = None
    ) -> None:
        recipe = options.recipe
        if recipe is None:
            raise ValueError("the options of the torch engine have no recipe")
        self.path = Path(model_path)
        self.threads = options.threads or usable_cores()
        self.precision = options.precision
        devices = chosen_devices(options.devices)
        self._kind = devices[0].type
        use_precision(devices[0], self.precision)
        torch.set_num_threads(self.threads)
        network, provenance = build_deployable(
            recipe, options.checkpoint, input_dtype=options.input_dtype, ignore_meta=options.ignore_meta
        )
        _log.info(f"weights: {provenance.description}")
        self.model_sha256 = provenance.sha256
        with self._device_failures():
            self._networks = [(device, deepcopy(network).to(device)) for device in devices]
        self._numbers = ",".join(str(device.index) for device in devices)
        rows = (batch_size or 1) * len(devices)
        samples = TensorSpec(INPUT_NAME, recipe.input_shape(rows), np.dtype(options.input_dtype))
        scores = TensorSpec(output_name(recipe), recipe.output_shape(rows), np.dtype("float32"))
        self.inputs: tuple[TensorSpec, ...] = (samples,)
        self.outputs: tuple[TensorSpec, ...] = (scores,)

    @property
    def device(self) -> str:
        """The device as the summary names it, e.g. `CPU (torch, f32)` or `CUDA 0,1 (torch, f32)`."""
        numbers = "" if self._kind == "cpu" else f" {self._numbers}"
        return f"{self._kind.upper()}{numbers} (torch, {self.precision})"

    @property
    def facts(self) -> dict[str, Any]:
        """The precision of the arithmetic, and the code of the networks, which an exported model contains."""
        return {"precision": self.precision, "networks_sha256": sources_digest(("networks",))}

    @property
    def clock(self) -> str:
        """What the time called NPU_compute_time is."""
        if self._kind == "cpu":
            return "no NPU was used, despite the name NPU_compute_time"
        return f"NPU_compute_time is the time of {self._kind.upper()}, the copies of the scores included"

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the network's rows for the array of samples, in a list."""
        return self.download(self.execute(self.upload(arrays)))

    def upload(self, arrays: Sequence[Array]) -> list[Tensor]:
        """Return each device's share of the samples, on it; on the CPU it shares the array's memory."""
        (samples,) = accepted_arrays(self.path, self.inputs, arrays)
        shares = torch.from_numpy(np.require(samples, requirements=["C", "W"])).chunk(len(self._networks))
        with self._device_failures():
            return [share.to(device) for share, (device, _) in zip(shares, self._networks, strict=True)]

    def execute(self, feeds: Sequence[Tensor]) -> list[Tensor]:
        """Return the rows for uploaded samples, in their order; devices compute at the same time."""
        with self._device_failures(), torch.inference_mode():
            rows = [
                self._rows(network, share) for (_, network), share in zip(self._networks, feeds, strict=True)
            ]
            return [torch.cat([share.cpu() for share in rows])]

    def download(self, values: Sequence[Tensor]) -> list[Array]:
        """Return the rows as arrays."""
        return [value.numpy() for value in values]

    def _rows(self, network: Deployable, samples: Tensor) -> Tensor:
        with torch.autocast(self._kind, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = network.clip_logits(samples)
        return network.average(logits.float())

    @contextmanager
    def _device_failures(self) -> Iterator[None]:
        """Raise UnavailableError where a device has too little memory, ExternalToolError where it fails otherwise."""
        try:
            yield
        except RuntimeError as error:
            kind, reason = self._kind.upper(), first_line(error)
            if kind == "CPU":
                raise
            if "out of memory" in reason:
                raise UnavailableError(
                    f"The memory of a {kind} device does not suffice ({reason}). Give a smaller --batch_size (make: "
                    "BS), or free it."
                ) from None
            raise ExternalToolError(
                f"{kind} fails while it runs the network of {self.path} ({reason}). Check the device and its driver; "
                f"whether the network is at fault, a run on the CPU shows, with {VISIBLE[self._kind]} set to nothing."
            ) from None
