"""A stub of ais_bench, written from the reference: its options, its log lines, its files. It uses no NPU.

Tests copy it to `ais_bench/__main__.py` on PYTHONPATH of the interpreter that AIS_PYTHON names. Its "offline model" is
JSON: {"rows": batch, "weights": [[...], ...]}, and an output row is the input row times the weights. With "frames" it
is one for AIPP: its input is uint8 and its dimension 0 counts that many frames per row. Its times are invented; none is
a measurement. The variable STUB makes it fail in one of the ways that ais_bench fails.
"""

import argparse
import array
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PADDING = "padding_infer_fake_file"
MODE = os.environ.get("STUB", "")


def say(text):
    print(text, flush=True)


def read_options():
    parser = argparse.ArgumentParser(prog="__main__.py")
    for name in (
        "--input",
        "--output",
        "--output_dirname",
        "--pure_data_type",
        "--display_all_summary",
        "--debug",
    ):
        parser.add_argument(name)
    for name in ("--loop", "--warmup_count"):
        parser.add_argument(name, type=int, default=1)
    for name in ("--batchsize", "--dymBatch", "--output_batchsize_axis"):
        parser.add_argument(name, type=int)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="0")
    parser.add_argument("--outfmt", choices=("NPY", "BIN", "TXT"), default="BIN")
    options = parser.parse_args()
    if not options.model.endswith(".om"):
        parser.error(f"argument --model/-m: om path:{options.model} is illegal. Please check.")
    return options


def natural(path):
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r"([0-9]+)", path)]


def files_of(text):
    if Path(text).is_dir():
        names = [path.name for path in Path(text).iterdir() if path.suffix in (".bin", ".npy")]
        return sorted((f"{text.rstrip('/')}/{name}" for name in names), key=natural)
    return text.split(",")


def encode(rows, outfmt):
    if outfmt == "TXT":
        return "".join("".join(f"{value:f} " for value in row) + "\n" for row in rows).encode()
    body = array.array("f", [value for row in rows for value in row]).tobytes()
    if outfmt == "BIN":
        return body
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0])}), }}"
    head = head.ljust(128 - 10 - 1) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + body


def fail_if_told(options):
    """What goes wrong before anything is computed."""
    mode, _, device = MODE.partition("@")
    if device and device != options.device:
        mode = "hang"
    if mode == "say":
        sys.stdout.write(Path(os.environ["STUB_TEXT"]).read_text())
        sys.exit(int(os.environ["STUB_CODE"]))
    if mode == "hang":
        worker = subprocess.Popen(["sleep", "300"])
        Path(f"worker_{options.device}.pid").write_text(str(worker.pid))
        say("[INFO] acl init success")
        time.sleep(300)
    if mode == "replay":
        replay(options)


def replay(options):
    """A recorded run of the real ais_bench frontend: its log, its files and its summary."""
    recorded, name = os.environ["STUB_RECORDED"], options.output_dirname
    sys.stdout.write(Path(f"{recorded}/log_{name}.txt").read_text())
    shutil.copytree(f"{recorded}/res/{name}", f"{options.output}/{name}", dirs_exist_ok=True)
    shutil.copy(f"{recorded}/res/{name}_summary.json", f"{options.output}/{name}_summary.json")
    sys.exit(0)


def statistics(times):
    times = sorted(times)
    return {"min": times[0], "max": times[-1], "mean": sum(times) / len(times), "median": times[len(times) // 2],
            "percentile(99%)": times[-1], "count": len(times)}  # fmt: skip


class Run:
    """One model, its batches and what was written."""

    def __init__(self, options):
        self.options = options
        model = json.loads(Path(options.model).read_text())
        self.rows, self.weights = options.dymBatch or model["rows"], model["weights"]
        self.item = "B" if "frames" in model else "f"
        self.row_bytes = array.array(self.item).itemsize * len(self.weights)
        self.lead = self.rows * model.get("frames", 1)
        self.prefix = None
        self.info, self.times = {}, []

    def prepare(self):
        say(f"[INFO] open device {self.options.device} success")
        say(f"[INFO] load model {self.options.model} success")
        say("[INFO] create model description success")
        if not self.options.batchsize:
            say(f"[INFO] try get model batchsize:{self.lead}")
        if self.options.output:
            Path(self.options.output).mkdir(parents=True, exist_ok=True)
            Path(self.options.output).chmod(0o750)
            self.prefix = f"{self.options.output}/{self.options.output_dirname}"
            Path(self.prefix).mkdir(0o750, parents=True, exist_ok=True)
            say(f"[INFO] output path:{self.prefix}")

    def batches(self):
        """Batches of files as ais_bench packs them: by the size of the first file, the last one padded."""
        if self.options.input is None:
            say(f"[INFO] warm up {self.options.warmup_count} done")
            return [["pure_infer_data"]]
        files, tensor = files_of(self.options.input), self.rows * self.row_bytes
        first = Path(files[0]).stat().st_size
        if first > tensor or tensor % first:
            say(f"[ERROR] arg0 tensorsize: {tensor} filesize: {first} not match")
            raise RuntimeError
        packed = tensor // first
        runs = -(-len(files) // packed)
        say(
            f"[INFO] get filesperbatch files0 size:{first} tensor0size:{tensor} filesperbatch:{packed} runcount:{runs}"
        )
        say(f"[INFO] warm up {self.options.warmup_count} done")
        batches = [files[start : start + packed] for start in range(0, len(files), packed)]
        batches[-1] += [PADDING] * (packed - len(batches[-1]))
        return batches

    def execute(self, batch):
        values = array.array(self.item)
        for path in batch:
            if path == "pure_infer_data":
                values.frombytes(bytes(self.rows * self.row_bytes))
            else:
                values.frombytes(Path(batch[0] if path == PADDING else path).read_bytes())
        size, needed = values.itemsize * len(values), self.rows * self.row_bytes
        if size != needed:
            say(f"[ERROR] Check i:0 name:x in size:{size} needsize:{needed} not match")
            raise RuntimeError("[-1][ACL: general failure] ")
        width = len(self.weights)
        rows = [values[start : start + width] for start in range(0, len(values), width)]
        self.times += [float(self.rows + len(self.times))] * self.options.loop
        columns = list(zip(*self.weights, strict=True))
        return [[sum(x * w for x, w in zip(row, column, strict=True)) for column in columns] for row in rows]

    def save(self, batch, rows):
        share = len(rows) // len(batch)
        for number, path in enumerate(batch):
            if path == PADDING or self.prefix is None:
                continue
            stem = Path(path).name.split(".")[0]
            outfile = f"{self.prefix}/{stem}_0.{self.options.outfmt.lower()}"
            own = rows[number * share : (number + 1) * share]
            Path(outfile).write_bytes(encode(own, self.options.outfmt))
            self.info[str(len(self.info))] = {"infiles": [path], "outfiles": [outfile]}

    def finish(self):
        batch = self.options.batchsize or self.lead
        mean = sum(self.times) / len(self.times)
        say("[INFO] -----------------Performance Summary------------------")
        say(f"[INFO] NPU_compute_time (ms): min = {min(self.times)}, max = {max(self.times)}, mean = {mean}")
        say(
            f"[INFO] throughput 1000*batchsize.mean({batch})/NPU_compute_time.mean({mean}): {1000 * batch / mean}"
        )
        say("[INFO] ------------------------------------------------------")
        if self.prefix is None or MODE == "no_summary":
            return
        if MODE == "lost_output":
            Path(self.info["1"]["outfiles"][0]).unlink()
        if MODE == "forgotten_input":
            del self.info["1"]
        copies = statistics([0.5 + number for number in range(len(self.times))])
        summary = {
            "filesinfo": self.info, "args": sys.argv, "NPU_compute_time": statistics(self.times),
            "H2D_latency": copies, "D2H_latency": copies, "npu_compute_time_list": self.times,
            "throughput": 1000 * batch / mean, "pid": os.getpid(),
        }  # fmt: skip
        Path(f"{self.prefix}_summary.json").write_text(json.dumps(summary))


def main():
    options = read_options()
    fail_if_told(options)
    run = Run(options)
    run.prepare()
    batches = run.batches()
    for number, batch in enumerate(batches):
        sys.stderr.write(f"\rInference array Processing: {number}/{len(batches)}")
        if number == len(batches) // 2 and MODE == "half":
            raise RuntimeError("[507011][ACL: model execute failed] ")
        if number == len(batches) // 2 and MODE == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        run.save(batch, run.execute(batch))
    run.finish()


if __name__ == "__main__":
    main()
