"""What the stages of this package need of a machine; standard library only."""

from __future__ import annotations

from vidom.doctor.stages import Stage

__all__ = ["STAGES"]

_GRAPHS = ("numpy", "tqdm", "pydantic", "pyyaml", "onnx", "onnx-ir", "onnxscript")
STAGES = (
    Stage("export", "make export", (*_GRAPHS, "torch", "onnxruntime")),
    Stage("om", "make om", _GRAPHS, ("atc",)),
)
