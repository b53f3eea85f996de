"""Train a network: from lists of videos to a checkpoint."""
