"""Arguments of networks that are out of their range."""

from __future__ import annotations

from vidom.errors import UsageError

__all__ = ["require"]


def require(value: object, condition: bool, *, network: str, name: str, wanted: str) -> None:
    """Do nothing if `condition` holds, else raise UsageError: the network takes `name` as `wanted`, found `value`."""
    if not condition:
        raise UsageError(
            f"The {network} network takes {name} {wanted}, but found {value!r}. Correct it in the recipe."
        )
