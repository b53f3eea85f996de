"""What an interpreter with ais_bench prints when it is asked for versions and help, written by hand."""

from __future__ import annotations

import json

# The vendor's program, and the rewrite that spells options with dashes and has flags.
UNDERSCORES = """
usage: __main__.py [-h] --model MODEL [--input INPUT]

options:
  -h, --help            show this help message and exit
  --model MODEL, -m MODEL
                        The path of the om model
  --input INPUT, -i INPUT
                        Input file or dir
  --output OUTPUT, -o OUTPUT
                        Inference data output path
  --output_dirname OUTPUT_DIRNAME
                        Actual output directory name. Used with parameter output
  --outfmt {NPY,BIN,TXT}
                        Output file format (NPY or BIN or TXT)
  --debug DEBUG         Debug switch,print model information
  --device DEVICE, -d DEVICE
                        the NPU device ID to use.valid value range is [0, 255]
  --dymBatch DYM_BATCH  dynamic batch size param, such as --dymBatch 2
  --output_batchsize_axis OUTPUT_BATCHSIZE_AXIS
                        Splitting axis number
"""
DASHES = """
usage: ais_bench [-h] -m MODEL

options:
  -h, --help            show this help message and exit
  -m, --model MODEL     path of the offline model
  -i, --input INPUT     files or folders
  -o, --output OUTPUT   folder of the results
  --output-dirname OUTPUT_DIRNAME
                        name of the folder in it
  --outfmt {NPY,BIN,TXT}
  --debug               print model information
  -d, --device DEVICE   device numbers
  --dym-batch DYM_BATCH
"""
OTHER_PROGRAM = """
usage: ais_bench [-h] [--models MODELS [MODELS ...]] [--datasets DATASETS [DATASETS ...]]

options:
  -h, --help            show this help message and exit
  --models MODELS [MODELS ...]
                        model tasks
  -m, --mode {all,infer,eval}
"""
_VERSIONS = {"python": "3.10.13", "aclruntime": "0.0.2", "ais_bench": "0.0.2", "numpy": "1.26.4"}


def answer(text: str = UNDERSCORES, **changes: object) -> str:
    """Return the versions, but for `changes`, and the help as one interpreter prints them."""
    return json.dumps({**_VERSIONS, **changes}) + "\n" + text
