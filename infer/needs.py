"""What the stages of this package need of a machine; standard library only."""

from __future__ import annotations

from vidom.doctor.stages import Stage

__all__ = ["STAGES"]

_VIDEO = ("av", "opencv-python-headless", "pillow")
_RUN = ("numpy", "tqdm", "onnx", "pydantic", "pyyaml")
STAGES = (
    Stage("infer-onnxruntime", "make infer ENGINE=onnxruntime", (*_RUN, "onnxruntime")),
    Stage("infer-openvino", "make infer ENGINE=openvino", (*_RUN, "openvino")),
    Stage(
        "infer-ascend",
        "make infer ENGINE=ascend",
        _RUN,
        ("npu", "cann", "ais_bench", "umask"),
    ),
    Stage("infer-cann", "make infer ENGINE=cann", _RUN, ("npu", "cann", "cann_onnx_runtime")),
    Stage("infer-torch", "make evaluate ENGINE=torch", (*_RUN, "torch", *_VIDEO)),
    Stage("predict", "make predict", (*_RUN, "onnxruntime", *_VIDEO)),
)
