"""The one word of the ATC command that says in which precision the network computes."""

from __future__ import annotations

from export.atc.cann_versions import Release, knows_precision_mode_v2
from vidom.errors import UsageError

__all__ = ["PRECISION_MODES", "PRECISION_MODES_V2", "precision_word"]

PRECISION_MODES_V2 = (
    "fp16",
    "origin",
    "cube_fp16in_fp32out",
    "mixed_float16",
    "mixed_bfloat16",
    "mixed_hif8",
    "cube_hif8",
)
PRECISION_MODES = (
    "force_fp16",
    "force_fp32",
    "cube_fp16in_fp32out",
    "allow_fp32_to_fp16",
    "must_keep_origin_dtype",
    "allow_mix_precision",
    "allow_mix_precision_fp16",
    "allow_mix_precision_bf16",
    "allow_fp32_to_bf16",
)
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

    Its default is the older name where the release is unknown or no newer than 6, since every release takes that.
    `keep_dtype` says whether operators are to keep their types. Raises UsageError for a mode that does not exist, that
    the release or the chip does not have, or that makes keep_dtype void (ATC manual, --precision_mode_v2).
    """
    name, mode = _named(precision_mode_v2, precision_mode, cann)
    legal = PRECISION_MODES_V2 if name == "precision_mode_v2" else PRECISION_MODES
    if mode not in legal:
        raise UsageError(f"--{name} {mode} is none of {', '.join(legal)}.")
    if name == "precision_mode_v2" and cann is not None and not knows_precision_mode_v2(cann):
        raise UsageError(
            f"CANN {cann[0]}.{cann[1]} does not know --precision_mode_v2; give --precision_mode, one of "
            f"{', '.join(PRECISION_MODES)}."
        )
    if ("bf" in mode and not soc_version.startswith(_BFLOAT16_CHIPS)) or "hif8" in mode:
        raise UsageError(
            f"--{name} {mode} needs a number format that {soc_version} does not have; fp16 is what it has."
        )
    if keep_dtype and mode in _KEEPS_ORIGIN:
        raise UsageError(
            f"--keep_dtype has no effect with --{name} {mode}, which keeps every type already; drop one."
        )
    return f"--{name}={mode}"


def _named(v2: str | None, older: str | None, cann: Release | None) -> tuple[str, str]:
    if v2 and older:
        raise UsageError("--precision_mode and --precision_mode_v2 exclude each other; give one of them.")
    if older:
        return "precision_mode", older
    if v2:
        return "precision_mode_v2", v2
    return (
        ("precision_mode_v2", "fp16") if knows_precision_mode_v2(cann) else ("precision_mode", "force_fp16")
    )
