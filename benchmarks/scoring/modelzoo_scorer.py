"""Scoring as in ModelZoo's TSM sample: `np.loadtxt` on each file, then a full sort for each k.

Reimplementation of Ascend ModelZoo-PyTorch, ACL_PyTorch, TSM for Something-Something V2, `TSM_postprocess.py`. It also
runs standalone under the sample's own versions (Python 3.7, numpy 1.21): each line of stdin is a summary, which is
read, or a summary and a list separated by a tab, which are scored; the reply is one line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["read_texts", "score_texts"]


def read_texts(summary: Path | str) -> list[Any]:
    """Return the array of each output in the order of the summary."""
    entries = json.loads(Path(summary).read_text(encoding="utf-8"))["filesinfo"].values()
    return [np.loadtxt(entry["outfiles"][0]) for entry in entries]


def score_texts(summary: Path | str, info: Path | str) -> list[float]:
    """Return top-1 and top-5 of the outputs, labels assigned by their position in the list."""
    scores = np.array(read_texts(summary))
    lines = Path(info).read_text(encoding="utf-8").splitlines()
    labels = np.array([int(line.split()[1]) for line in lines])[:, np.newaxis]
    accuracies = []
    for k in (1, 5):
        best = np.argsort(scores, axis=1)[:, -k:]
        accuracies.append(float((best == labels).any(axis=1).mean()))
    return accuracies


if __name__ == "__main__":
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}", flush=True)
    for order in sys.stdin:
        summary, *info = order.rstrip("\n").split("\t")
        print(score_texts(summary, *info) if info else len(read_texts(summary)), flush=True)
