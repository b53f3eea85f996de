"""Synthetic results of a run in the three formats of the engines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidom.formats.engine_outputs import OUTPUT_FORMATS, OutputFormat, encode_output

__all__ = ["SyntheticResults", "write_results"]


@dataclass(frozen=True)
class SyntheticResults:
    """A folder with `samples` outputs of each format, and summaries and lists of the first of them."""

    folder: Path
    samples: int
    classes: int

    def paths(self, outfmt: OutputFormat) -> list[str]:
        """Return the files of a format in the order of the samples."""
        suffix = outfmt.lower()
        return [f"{self.folder}/{suffix}/{index:06d}_0.{suffix}" for index in range(self.samples)]

    def summary(self, outfmt: OutputFormat, samples: int) -> Path:
        """Write and return the summary of the first `samples` outputs."""
        names = self.paths(outfmt)[:samples]
        files = {
            str(index): {"infiles": [f"clips/{index:06d}.bin"], "outfiles": [name]}
            for index, name in enumerate(names)
        }
        path = self.folder / f"{outfmt.lower()}_{samples}_summary.json"
        path.write_text(json.dumps({"filesinfo": files}))
        return path

    def info(self, samples: int) -> Path:
        """Write and return the list of the first `samples` labels."""
        labels = np.random.default_rng(1).integers(self.classes, size=self.samples)
        path = self.folder / f"{samples}.info"
        path.write_text("".join(f"{index} {label}\n" for index, label in enumerate(labels[:samples])))
        return path


def write_results(folder: Path, *, samples: int, classes: int) -> SyntheticResults:
    """Write results to `folder`: probabilities of seeded normal logits, one row per file."""
    logits = 2 * np.random.default_rng(0).standard_normal((samples, classes), np.float32)
    odds = np.exp(logits)
    scores = odds / odds.sum(axis=1, keepdims=True)
    results = SyntheticResults(folder, samples, classes)
    for outfmt in OUTPUT_FORMATS:
        (folder / outfmt.lower()).mkdir(parents=True)
        for row, path in zip(scores, results.paths(outfmt), strict=True):
            Path(path).write_bytes(encode_output(row[None], outfmt))
    return results
