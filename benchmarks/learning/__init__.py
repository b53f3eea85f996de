"""What small networks learn on generated clips, and their controls."""
