"""The NPU's engine: ais_bench as an outside process, checked before and after."""
