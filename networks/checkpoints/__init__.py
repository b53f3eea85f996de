"""Readers and writers of the frameworks' checkpoints; nothing in a file is executed, and none is loaded partially."""
