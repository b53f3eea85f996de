"""What the stages of this package need of a machine; standard library only."""

from __future__ import annotations

from vidom.doctor.stages import Stage

__all__ = ["STAGES"]

STAGES = (
    Stage(
        "train",
        "make train",
        (
            *("accelerate", "torch", "numpy", "tqdm"),
            *("pydantic", "pyyaml", "av", "opencv-python-headless", "pillow"),
        ),
    ),
)
