"""Evaluate a list without storing tensors: plan, row sources, executors, record, conclusion."""
