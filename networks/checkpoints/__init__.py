"""Readers of the frameworks' checkpoint files; nothing in a file is executed, and no file is loaded partially."""
