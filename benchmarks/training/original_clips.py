"""mmaction2's training pipeline, step by step with OpenCV and numpy as it computes them.

Random decisions are those of vidom, which are mmaction2's own; they take no time compared with the pixels.
Source: mmaction/datasets/pipelines/{loading,augmentations,formatting}.py of mmaction2 0.24, mmcv/image/*.py of 1.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preprocess.tensors.training_clips import TrainingClip
from vidom.formats.views import ViewPlan

__all__ = ["Images", "decoded_files", "decoded_video", "original_batch", "original_clip"]

Images = list[NDArray[Any]]


def decoded_files(paths: Sequence[Path]) -> Images:
    """RawFrameDecode: return the images of these files, RGB."""
    images: Images = []
    for path in paths:
        image = np.asarray(cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR))
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image)
        images.append(image)
    return images


def decoded_video(path: Path, positions: Sequence[int]) -> Images:
    """PyAVDecode: return the frames at these positions, RGB; it converts every frame up to the last one."""
    import av

    images: Images = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number > max(positions):
                break
            images.append(frame.to_rgb().to_ndarray())
    return [images[position] for position in positions]


def original_clip(images: Images, plan: ViewPlan, decided: TrainingClip) -> NDArray[np.float32]:
    """Resize, MultiScaleCrop, Resize, Flip, Normalize, FormatShape: return float32 [frames, 3, size, size].

    `decided` says which crop and flip were sampled.
    """
    height, width = images[0].shape[:2]
    scale = plan.short_side / min(height, width)
    size = int(width * scale + 0.5), int(height * scale + 0.5)
    images = [cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) for image in images]
    box = decided.box
    images = [image[box.top : box.bottom, box.left : box.right] for image in images]
    square = (plan.crop_size, plan.crop_size)
    images = [cv2.resize(image, square, interpolation=cv2.INTER_LINEAR) for image in images]
    if decided.mirrored:
        for image in images:
            cv2.flip(image, 1, image)
    clip = np.empty((len(images), *images[0].shape), np.float32)
    for number, image in enumerate(images):
        clip[number] = image
    mean = np.array([plan.mean], np.float32).astype(np.float64)
    reciprocal = 1 / np.array([plan.std], np.float32).astype(np.float64)
    for image in clip:
        cv2.subtract(image, mean, image)
        cv2.multiply(image, reciprocal, image)
    return np.transpose(clip, (0, 3, 1, 2))


def original_batch(clips: Sequence[NDArray[np.float32]]) -> Tensor:
    """ToTensor and the collation of DataLoader: return one float32 tensor of the clips."""
    return torch.stack([torch.from_numpy(clip) for clip in clips])
