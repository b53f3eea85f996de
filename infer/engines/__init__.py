"""What executes a model inside this process."""
