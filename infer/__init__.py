"""Engines that execute a built model, and the ais_bench-compatible command around them."""
