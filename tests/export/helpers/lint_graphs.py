"""Small graphs written to files and linted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from export.atc.cann_versions import parse_cann
from export.lint.linter import lint
from export.lint.rule import Finding
from export.lint.subject import read_subject

Array = np.ndarray[Any, Any]


def model_file(
    folder: Path, text: str, *, opset: int = 11, domains: str = "", weights: Array | None = None
) -> Path:
    proto = onnx.parser.parse_model(f'<ir_version: 6, opset_import: ["" : {opset}{domains}]>\n{text}')
    if weights is not None:
        proto.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    path = folder / "planted.onnx"
    onnx.save(proto, path)
    return path


def found(
    folder: Path,
    text: str,
    *,
    opset: int = 11,
    domains: str = "",
    cann: str | None = None,
    batch_size: int | None = None,
    profiles: tuple[int, ...] = (),
    weights: Array | None = None,
) -> tuple[Finding, ...]:
    path = model_file(folder, text, opset=opset, domains=domains, weights=weights)
    release = parse_cann(cann) if cann else None
    return lint(read_subject(path, cann=release, batch_size=batch_size, profiles=profiles))


def names(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(finding.rule, finding.severity) for finding in findings]
