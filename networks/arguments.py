"""Checks of the arguments of networks."""

from __future__ import annotations

from vidom.errors import UsageError

__all__ = ["require"]


def require(value: object, condition: bool, *, network: str, name: str, allowed: str) -> None:
    """Raise UsageError unless `condition` holds: `name` must be `allowed` but is `value`."""
    if not condition:
        raise UsageError(
            f"The network {network} needs {name} {allowed}, but found {value!r}. Fix it in the recipe."
        )
