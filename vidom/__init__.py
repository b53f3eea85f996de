"""What every stage shares: recipes, file contracts, user errors, atomic files, command-line manners.

Importing it sets what other libraries read from the environment once they are imported: ONNX Runtime and Ray send no
usage data, and torch imports none of the back ends installed next to it, of which torch-npu without CANN would end
every command. A variable that is set already stays as it is.
"""

import os

__version__ = "0.1.0"

for _variable, _value in {
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
}.items():
    os.environ.setdefault(_variable, _value)
