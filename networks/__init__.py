"""The networks as plain torch modules, and the checkpoints that fill them."""
