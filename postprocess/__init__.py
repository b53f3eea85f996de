"""From an engine's outputs to numbers one can trust: top-1, top-5 and what they rest on."""
