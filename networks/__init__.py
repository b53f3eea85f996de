"""The networks as plain torch modules, and readers of their checkpoints."""

import vidom  # noqa: F401 - before torch, whose environment it sets
