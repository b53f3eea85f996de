"""Results in the layouts of the engines, and the error text of a rejected run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from postprocess.score import ScoreOptions, score
from vidom.errors import BadDataError

WriteRun = Callable[..., Path]
WriteInfo = Callable[[Mapping[int, int]], Path]
N, CLASSES = 22, 7


def one_a_file(values: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{index:06d}": values[index : index + 1] for index in range(len(values))}


def modelzoo(values: np.ndarray, batch: int) -> dict[str, np.ndarray]:
    """Return the published layout: files 0, 1, 2 ... of `batch` rows, the last one padded."""
    padding = np.full((-len(values) % batch, values.shape[1]), 1 / values.shape[1], values.dtype)
    full = np.concatenate([values, padding])
    return {str(k): full[k * batch : (k + 1) * batch] for k in range(len(full) // batch)}


def refusal(summary: Path, info: Path, **options: object) -> str:
    with pytest.raises(BadDataError) as caught:
        score(ScoreOptions(result_path=summary, info_path=info, **options))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)
