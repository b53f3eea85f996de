"""The networks as plain torch modules, and readers of their checkpoints."""
