"""`commands.sh`: the complete pipeline from ONNX to accuracy and speed, to be read and run manually."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from export.atc.command_line import shown

__all__ = ["commands_script"]

_SCRIPT = """\
#!/usr/bin/env bash
# {name}: from ONNX to .om, accuracy and speed on an Ascend NPU, step by step. Written by export/to_om.py on a
# machine where none of these commands was run: nothing in this file was measured on an NPU.
# Copy this folder, a clip store and a checkout of vidom to a machine with CANN and ais_bench, and run there:
#   STORE=/data/store VIDOM=~/vidom AIS_PYTHON=python3.10 bash commands.sh
{experimental}set -euo pipefail
cd "$(dirname "$0")"

# The clip store written by preprocess/pack.py (clips/ and one .info file); absolute, or relative to this folder.
STORE="${{STORE:-store}}"
# The checkout of vidom, for postprocess/score.py, and a Python with its packages.
VIDOM="${{VIDOM:-{vidom}}}"
PYTHON="${{PYTHON:-python3}}"
# The Python that has ais_bench and aclruntime, whose wheels exist up to Python 3.12.
AIS_PYTHON="${{AIS_PYTHON:-python3}}"
DEVICE="${{DEVICE:-0}}"

# 1. CANN's environment. set_env.sh reads variables that may be unset.
for script in /usr/local/Ascend/ascend-toolkit/set_env.sh /usr/local/Ascend/cann/set_env.sh; do
  if ! command -v atc > /dev/null && [ -f "$script" ]; then
    set +u; source "$script"; set -u
  fi
done
if ! command -v atc > /dev/null; then
  echo "atc is not on PATH: install the CANN toolkit and source its set_env.sh" >&2
  exit 3
fi

# 2. Compile. --soc_version is "Ascend" and the name that `npu-smi info` shows.
rm -f {om} {stem}_linux_*.om
{atc}
# ATC adds operating system and processor to the name of a model that contains host libraries.
[ -f {om} ] || mv {stem}_linux_*.om {om}

# 3. Inference on every clip. ais_bench rejects group-writable files and folders of results more open than 0750, and
#    keeps the files of an earlier run.
umask 027
rm -rf inference_result/out inference_result/out_summary.json
mkdir -p inference_result
chmod 750 inference_result
"$AIS_PYTHON" -m ais_bench --model {om} --input "$STORE/clips" --output ./inference_result --output_dirname out \\
  --outfmt TXT --device "$DEVICE"{batch}

# 4. Accuracy.
"$PYTHON" "$VIDOM/postprocess/score.py" --result_path=inference_result/out_summary.json \\
  --info_path="$(ls "$STORE"/*.info)"

# 5. Speed: computation only, without copies and file reading.
{loops}
"""
_AIPP = """\
# Experimental: the .om normalises uint8 pixels with AIPP. The store must be packed with --dtype aipp, and --batchsize
# gives ais_bench the number of samples, since dimension 0 of the model counts frames.
"""


def commands_script(
    *,
    command: Sequence[str],
    name: str,
    vidom: str,
    profiles: Sequence[int] = (),
    samples: int | None = None,
) -> str:
    """Return a bash script that runs the ATC `command`, then ais_bench, the scorer and the pure-performance loop.

    `name` is the model's name without `.om`; `vidom` the path from the script's folder to the checkout; `profiles` the
    declared batch sizes, empty for a fixed one; `samples` the batch size of a model with AIPP. The lines are those of
    ModelZoo's published TSM guide; paths are relative to the script.
    """
    om = shlex.quote(f"{name}.om")
    batches = [f" --dymBatch {size}" for size in profiles] or [f" --batchsize {samples}" if samples else ""]
    loops = "\n".join(
        f'"$AIS_PYTHON" -m ais_bench --model={om} --loop=20 --device="$DEVICE"{batch}' for batch in batches
    )
    return _SCRIPT.format(
        name=name,
        stem=shlex.quote(name),
        om=om,
        atc=shown(command),
        vidom=vidom,
        experimental=_AIPP if samples else "",
        batch=batches[-1],
        loops=loops,
    )
