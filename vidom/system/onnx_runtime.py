"""ONNX Runtime and the types of its errors, imported here and nowhere else: after what `vidom` sets, and only on use.

Without ORT_DISABLE_TELEMETRY its import writes the number of this device below HOME and queues events of usage.
"""

from __future__ import annotations

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

__all__ = ["onnxruntime", "ort_errors"]
