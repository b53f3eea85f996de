"""What the stages of this package need of a machine; standard library only."""

from __future__ import annotations

from vidom.doctor.stages import Stage

__all__ = ["STAGES"]

_GRAPHS = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime")
STAGES = (
    Stage(
        "demo",
        "make demo",
        ("numpy", "tqdm", "pydantic", "pyyaml", "av", "opencv-python-headless", "pillow", *_GRAPHS),
    ),
)
