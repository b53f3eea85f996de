"""What the stages of the checkout itself need; standard library only."""

from __future__ import annotations

from vidom.doctor.stages import Stage

__all__ = ["STAGES"]

_RUNTIME = ("av", "numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "opencv-python-headless", "pillow")
STAGES = (
    Stage("setup", "make setup", (), ("venv",)),
    Stage(
        "test",
        "make test",
        (
            *_RUNTIME,
            *("pydantic", "pyyaml", "torch", "tqdm"),
            *("pytest", "pytest-timeout", "hypothesis", "setuptools"),
        ),
    ),
    Stage("lint", "make lint", ("ruff", "mypy")),
)
