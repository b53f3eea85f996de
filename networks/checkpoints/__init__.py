"""Readers of what the frameworks saved, as data: nothing in a file is executed, nothing is loaded by halves."""
