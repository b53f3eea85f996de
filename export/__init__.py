"""From a checkpoint to the model that is deployed: export, surgery, parity checks, and compilation with ATC."""

import vidom  # noqa: F401 - before torch, whose environment it sets
