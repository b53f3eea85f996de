"""The NPU's engine: ais_bench as an external process, checked before and after."""
