"""The word of the ATC command that sets the precision of the network."""

from __future__ import annotations

from typing import Literal, get_args

from export.atc.cann_versions import Release, knows_precision_mode_v2
from vidom.errors import UsageError

__all__ = ["PRECISION_MODES", "PRECISION_MODES_V2", "PrecisionMode", "PrecisionModeV2", "precision_word"]

PrecisionModeV2 = Literal[
    "fp16",
    "origin",
    "cube_fp16in_fp32out",
    "mixed_float16",
    "mixed_bfloat16",
    "mixed_hif8",
    "cube_hif8",
]
PrecisionMode = Literal[
    "force_fp16",
    "force_fp32",
    "cube_fp16in_fp32out",
    "allow_fp32_to_fp16",
    "must_keep_origin_dtype",
    "allow_mix_precision",
    "allow_mix_precision_fp16",
    "allow_mix_precision_bf16",
    "allow_fp32_to_bf16",
]
PRECISION_MODES_V2: tuple[str, ...] = get_args(PrecisionModeV2)
PRECISION_MODES: tuple[str, ...] = get_args(PrecisionMode)
_KEEPS_ORIGIN = ("origin", "must_keep_origin_dtype")
_BFLOAT16_CHIPS = ("Ascend310B", "Ascend910B1", "Ascend910B2", "Ascend910B3", "Ascend910B4", "Ascend910_93")


def precision_word(
    *,
    precision_mode_v2: str | None,
    precision_mode: str | None,
    keep_dtype: bool,
    soc_version: str,
    cann: Release | None,
) -> str:
    """Return `--precision_mode_v2=MODE` or `--precision_mode=MODE`, fp16 where neither is given.

    The default uses the older name where the release is unknown or at most 6, since every release accepts it.
    `keep_dtype` says whether operators keep their types. Raises UsageError for a mode that does not exist, that the
    release or the chip does not support, or that makes keep_dtype ineffective (ATC manual, --precision_mode_v2).
    """
    name, mode = _named(precision_mode_v2, precision_mode, cann)
    legal = PRECISION_MODES_V2 if name == "precision_mode_v2" else PRECISION_MODES
    if mode not in legal:
        raise UsageError(f"Invalid --{name} {mode}; choose one of {', '.join(legal)}.")
    if name == "precision_mode_v2" and cann is not None and not knows_precision_mode_v2(cann):
        raise UsageError(
            f"CANN {cann[0]}.{cann[1]} does not support --precision_mode_v2; use --precision_mode, one of "
            f"{', '.join(PRECISION_MODES)}."
        )
    if ("bf" in mode and not soc_version.startswith(_BFLOAT16_CHIPS)) or "hif8" in mode:
        raise UsageError(
            f"--{name} {mode} needs a number format that {soc_version} does not support; it supports fp16."
        )
    if keep_dtype and mode in _KEEPS_ORIGIN:
        raise UsageError(
            f"--keep_dtype has no effect with --{name} {mode}, which already keeps every type; remove one of them."
        )
    return f"--{name}={mode}"


def _named(v2: str | None, older: str | None, cann: Release | None) -> tuple[str, str]:
    if v2 and older:
        raise UsageError("--precision_mode and --precision_mode_v2 are mutually exclusive; give one of them.")
    if older:
        return "precision_mode", older
    if v2:
        return "precision_mode_v2", v2
    return (
        ("precision_mode_v2", "fp16") if knows_precision_mode_v2(cann) else ("precision_mode", "force_fp16")
    )
