"""What all measurements share: turns, settings, memory, reports, and what a graph costs."""
