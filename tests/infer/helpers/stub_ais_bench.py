"""A stub of ais_bench as the vendor's versions were seen to behave: options, checks, log lines, files. It uses no NPU.

Tests copy it to `ais_bench/__main__.py` and `ais_bench/infer/miscellaneous.py` on PYTHONPATH of the interpreter that
AIS_PYTHON names. The variable STUB_VERSION chooses one of four programs, of which three call themselves 0.0.2:
F23 (June 2023) and F24 (May 2024, needs pkg_resources) change the mode of the output folder to 0750; F25 (the vendor's
since June 2024, and the default) refuses one that is more open; F26 (0.1.0) spells options with dashes, has flags, and
prints a table. Its "offline model" is JSON: {"rows": batch, "weights": [[...], ...]}, and an output row is the input
row times the weights. With "dtype" its input is uint8. With "frames" it is one for AIPP: its input is uint8 and its
dimension 0 counts that many frames per row. Its times are invented; none is a measurement. The variable STUB makes it
fail in one of the ways that ais_bench fails.
"""

import argparse
import array
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

PADDING = "padding_infer_fake_file"
MODE = os.environ.get("STUB", "")
VERSION = os.environ.get("STUB_VERSION", "F25")
if __name__ != "__main__" and VERSION == "F26":
    raise ImportError("0.1.0 has its version check in a different module")


def say(text):
    print(text, flush=True)


def version_check(args):
    """What a run begins with; without pkg_resources the name is never bound, as in the vendor's own."""
    if VERSION != "F24":
        return
    try:
        import pkg_resources

        aclruntime_version = pkg_resources.get_distribution("aclruntime").version
    except Exception:
        say("[WARNING] can't find aclruntime")
        args.run_mode = "tensor"
    if aclruntime_version != "0.0.2":
        args.run_mode = "tensor"


def path_check(what, *, forbidden, limit):
    def check(value):
        for path in map(Path, value.split(",")):
            if path.is_symlink():
                refuse(what, path, f"path :{path} is a soft link, not supported")
            elif not path.exists() and what != "output":
                refuse(what, path, f"path: {path} not exist, please check if file or dir is exist")
            elif path.exists() and stat.S_IMODE(path.stat().st_mode) & forbidden:
                use = "export" if what == "output" else "import"
                refuse(
                    what,
                    path,
                    f"The file {path} is group writable, or is others writable, as {use} file(or directory), "
                    f"permission should not be over {limit}",
                )
        return value

    return check


def refuse(what, path, reason):
    say(f"[ERROR] {reason}")
    raise argparse.ArgumentTypeError(f"{what} path:{path} is illegal. Please check.")


def loop(text):
    if int(text) <= 0 or (VERSION == "F25" and int(text) > 100000):
        raise argparse.ArgumentTypeError(f"{text} is an invalid positive int value")
    return int(text)


read_check = {"forbidden": 0o022, "limit": "0o755(rwxr-xr-x)"}
write_check = {"forbidden": 0o027, "limit": "0o750(rwxr-x---)"} if VERSION in ("F25", "F26") else read_check


def read_options():
    parser = argparse.ArgumentParser(prog="__main__.py")

    def add(name, *short, **how):
        spelled = name.replace("_", "-").replace("dymBatch", "dym-batch") if VERSION == "F26" else name
        parser.add_argument(spelled, *short, dest=name.lstrip("-"), **how)

    add("--model", "-m", type=path_check("om", **read_check), required=True, help="The path of the om model")
    add("--input", "-i", type=path_check("input", **read_check))
    add("--output", "-o", type=path_check("output", **write_check))
    # A path of its own for the check, relative to the current folder.
    add("--output_dirname", type=path_check("output", **write_check), help="Actual output directory name")
    add("--pure_data_type")
    for name in ("--display_all_summary", "--debug"):
        add(name, **({"action": "store_true"} if VERSION == "F26" else {}), help="a switch")
    add("--loop", "-l", type=loop, default=1)
    add("--warmup_count", type=int, default=1)
    for name in ("--batchsize", "--dymBatch", "--output_batchsize_axis"):
        add(name, type=int)
    add("--device", "-d", default="0")
    add("--outfmt", choices=("NPY", "BIN", "TXT"), default="BIN")
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
    percentile = "P99" if VERSION == "F26" else "percentile(99%)"
    return {"min": times[0], "max": times[-1], "mean": sum(times) / len(times), "median": times[len(times) // 2],
            percentile: times[-1], "count": len(times)}  # fmt: skip


class Run:
    """One model, its batches and what was written."""

    def __init__(self, options):
        self.options = options
        model = json.loads(Path(options.model).read_text())
        self.rows, self.weights = options.dymBatch or model["rows"], model["weights"]
        self.item = "B" if "frames" in model or model.get("dtype") == "uint8" else "f"
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
            if VERSION in ("F23", "F24"):
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
        throughput = f"1000*batchsize.mean({batch})/NPU_compute_time.mean({mean}): {1000 * batch / mean}"
        say("[INFO] -----------------Performance Summary------------------")
        if VERSION == "F26":
            say("╒═══════════════════════╤══════╤══════╕")
            say("│ Metric                │  min │  P99 │")
            say(f"│ NPU_compute_time (ms) │ {min(self.times):4} │ {max(self.times):4} │")
            say(f"[INFO] Throughput {throughput}")
        else:
            say(
                f"[INFO] NPU_compute_time (ms): min = {min(self.times)}, max = {max(self.times)}, mean = {mean}"
            )
            say(f"[INFO] throughput {throughput}")
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
    version_check(options)
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
