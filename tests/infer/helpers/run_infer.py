"""`infer` with its options as keywords."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from infer.batches.performance import InferenceResult
from infer.inference import InferOptions, infer


def run_infer(*, say: Callable[[str], None] = print, **options: Any) -> InferenceResult:
    return infer(InferOptions(**options), say=say)
