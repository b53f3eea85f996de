"""AIPP, the part of an Ascend NPU that turns pixels into a network's numbers, and what a model made for it says.

Source: ATC manual, AIPP configuration file template. Nothing of it was run on an NPU: it is experimental here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vidom.errors import BadDataError, UsageError

if TYPE_CHECKING:  # reading what a model says needs no pydantic
    from vidom.formats.views import ViewPlan

__all__ = ["METADATA_KEY", "Aipp", "aipp_of", "read_aipp"]

METADATA_KEY = "vidom.formats.aipp"
_SIDES = (2, 4096)
_BRIGHTEST = 255
_MOST_FRAMES = 1 << 20
_CONFIG = """\
# Static AIPP for {name}, written by vidom. Experimental: it was not run on an NPU.
# Files hold uint8 pixels, channels last, in the order that the network takes them: {frames} images per sample.
# The NPU computes (pixel - mean_chn - min_chn) * var_reci_chn; it keeps the latter two as float16.
aipp_op {{
    aipp_mode: static
    related_input_rank: 0
    input_format: RGB888_U8
    src_image_size_w: {width}
    src_image_size_h: {height}
    csc_switch: false
    rbuv_swap_switch: false
{numbers}
}}
"""


@dataclass(frozen=True)
class Aipp:
    """How AIPP normalises: (pixel - mean) / std for each of three channels, on the scale 0..255.

    A model for it takes [batch * frames_per_sample, 3, height, width], since AIPP makes images only; its files
    hold uint8 [frames_per_sample, height, width, 3].
    """

    frames_per_sample: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def metadata(self) -> dict[str, str]:
        """What an ONNX model says of it in its metadata, which `read_aipp` reads."""
        return {METADATA_KEY: json.dumps(asdict(self))}

    def config(self, *, name: str, width: int, height: int) -> str:
        """Return the file for ATC's --insert_op_conf; `name` is the model's, for a reader.

        The complete mean goes into min_chn, as in the configurations that Ascend's ModelZoo publishes, since mean_chn
        takes integers only. Raises UsageError for a size that AIPP does not take.
        """
        if not all(_SIDES[0] <= side <= _SIDES[1] for side in (width, height)):
            raise UsageError(
                f"AIPP takes images of {_SIDES[0]} to {_SIDES[1]} pixels a side, found {width}x{height}. Export with "
                "--input_dtype uint8 or float32."
            )
        lines = [f"mean_chn_{channel}: 0" for channel in range(3)]
        lines += [f"min_chn_{channel}: {mean:.15g}" for channel, mean in enumerate(self.mean)]
        lines += [f"var_reci_chn_{channel}: {1 / std:.15g}" for channel, std in enumerate(self.std)]
        numbers = "\n".join(f"    {line}" for line in lines)
        return _CONFIG.format(
            name=name, frames=self.frames_per_sample, width=width, height=height, numbers=numbers
        )


def aipp_of(plan: ViewPlan) -> Aipp:
    """Return the AIPP that normalises the plan's pixels.

    Raises UsageError where its samples are not an image sequence.
    """
    if plan.frame_size is not None:
        raise UsageError(
            "--input_dtype aipp takes crops that preprocessing cuts, but the recipe's views.frame_size leaves them to "
            "the graph. Leave frame_size out, or use --input_dtype uint8."
        )
    if plan.layout != "NCHW":
        raise UsageError(
            f"--input_dtype aipp is for networks of images (layout NCHW: TSM, PP-TSM), since AIPP makes four "
            f"dimensions of three channels; the recipe's layout is {plan.layout}. Use --input_dtype uint8 or float32."
        )
    mean = _three(plan.pixel_scale * mean for mean in plan.mean)
    std = _three(plan.pixel_scale * std for std in plan.std)
    if not all(0 <= number <= _BRIGHTEST for number in mean):
        raise UsageError(
            f"AIPP subtracts means from 0 to {_BRIGHTEST}, found {mean} on the scale of pixels. Use --input_dtype "
            "uint8 or float32."
        )
    return Aipp(plan.sample_shape[0], mean, std)


def read_aipp(metadata: Mapping[str, str], *, origin: object) -> Aipp | None:
    """Return what the metadata of the model `origin` say of AIPP, None when they say nothing.

    Raises BadDataError when they are damaged.
    """
    if METADATA_KEY not in metadata:
        return None
    try:
        document = json.loads(metadata[METADATA_KEY])
        found = Aipp(document["frames_per_sample"], _three(document["mean"]), _three(document["std"]))
        _check(found)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BadDataError(
            f"The metadata {METADATA_KEY} of {origin} are damaged ({str(error)[:200]}). Export the model again."
        ) from None
    return found


def _three(numbers: Iterable[Any]) -> tuple[float, float, float]:
    first, second, third = map(float, numbers)
    return first, second, third


def _check(found: Aipp) -> None:
    frames = found.frames_per_sample
    if type(frames) is not int or not 1 <= frames <= _MOST_FRAMES:
        raise ValueError(f"frames_per_sample is {frames!r}")
    if not all(0 <= mean <= _BRIGHTEST for mean in found.mean):
        raise ValueError(f"mean is {found.mean}")
    if not all(math.isfinite(std) and std > 0 for std in found.std):
        raise ValueError(f"std is {found.std}")
