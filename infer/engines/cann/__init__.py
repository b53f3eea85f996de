"""An engine in an interpreter of its own, that of onnxruntime-cann."""
