"""Pickles as data: their contents without running anything, and the tensors and arrays in them."""
