"""Differences between CANN releases: the opsets that ATC reads and the name of its precision option."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vidom.errors import UsageError

__all__ = ["EVERY_RELEASE", "OpsetRange", "Release", "knows_precision_mode_v2", "opset_range", "parse_cann"]

Release = tuple[int, int]


@dataclass(frozen=True)
class OpsetRange:
    """The opsets `first` to `last`, which ATC reads according to `source`."""

    first: int
    last: int
    source: str

    def __str__(self) -> str:
        return f"{self.first} to {self.last}"


# The first release of each range, newest first.
_OPSETS: tuple[tuple[Release, OpsetRange], ...] = (
    ((9, 0), OpsetRange(11, 18, "CANN 9 ATC guide, operator specification")),
    ((8, 0), OpsetRange(9, 18, "CANN 8 lists opsets per operator; its ONNX plugins register up to 18")),
    ((7, 0), OpsetRange(9, 18, "CANN 7.0 ATC guide, ONNX operator specification")),
    ((0, 0), OpsetRange(9, 13, "CANN 5.0.4 and 6.0.1 ATC guides, ONNX operator specification")),
)
EVERY_RELEASE = OpsetRange(11, 13, "the opsets that all releases from CANN 5.0.4 to 9 read")


def parse_cann(text: str) -> Release:
    """Return major and minor of a CANN version such as `8.0`, `6.0.RC1` or `7.0.0.alpha001`.

    Raises UsageError for anything else.
    """
    found = re.match(r"\s*[vV]?(\d{1,3})\.(\d{1,3})(?:\D|$)", text)
    if found is None:
        raise UsageError(
            f"Invalid CANN version {text!r}; two numbers are expected, as in 8.0 or 6.0.RC1. "
            "`cat $ASCEND_TOOLKIT_HOME/version.cfg` shows the one installed."
        )
    return int(found[1]), int(found[2])


def opset_range(cann: Release | None) -> OpsetRange:
    """Return the opsets that ATC of release `cann` reads; for None, those that every release reads."""
    if cann is None:
        return EVERY_RELEASE
    return next(span for since, span in _OPSETS if cann >= since)


def knows_precision_mode_v2(cann: Release | None) -> bool:
    """Return whether ATC of release `cann` supports `--precision_mode_v2`: from CANN 7 on, not for an unknown version.

    Every release up to 9 accepts the older `--precision_mode`, so that one suits a machine of unknown release.
    Source: ATC guides of CANN 6.0.1 and 9, `--precision_mode_v2`.
    """
    return cann is not None and cann >= (7, 0)
