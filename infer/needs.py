"""What the stages of this package need of a machine; standard library only."""

from __future__ import annotations

from vidom.doctor.stages import Stage

__all__ = ["STAGES"]

_VIDEO = ("pydantic", "pyyaml", "av", "opencv-python-headless", "pillow")
STAGES = (
    Stage("infer-onnxruntime", "make infer ENGINE=onnxruntime", ("numpy", "tqdm", "onnxruntime")),
    Stage("infer-openvino", "make infer ENGINE=openvino", ("numpy", "tqdm", "openvino")),
    Stage(
        "infer-ascend",
        "make infer ENGINE=ascend",
        ("numpy", "tqdm"),
        ("npu", "cann", "ais_bench", "umask"),
    ),
    Stage("predict", "make predict", ("numpy", "tqdm", "onnxruntime", *_VIDEO)),
)
