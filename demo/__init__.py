import vidom  # noqa: F401 - before torch, whose environment it sets
