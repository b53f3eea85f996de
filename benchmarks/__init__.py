"""Measurements. Whatever they print names the engine and the device that the numbers came from."""
