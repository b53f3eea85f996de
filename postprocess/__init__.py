"""Scoring of an engine's outputs: metrics, paired statistics, consistency checks."""
