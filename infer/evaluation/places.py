"""Where an evaluation is run: on this machine, or in a Ray cluster."""

from __future__ import annotations

from pathlib import Path

from infer.evaluation.on_ray import run_on_ray
from infer.evaluation.one_window import WindowedModel
from infer.evaluation.plan import OnBad, Plan, Ran
from infer.evaluation.ray_stages import EngineOptions
from infer.evaluation.ray_windows import run_windows_on_ray
from infer.evaluation.streamed import run_streamed
from infer.evaluation.windowed import run_windowed
from vidom.errors import UsageError
from vidom.system.machine import usable_cores

__all__ = ["run_batches", "run_windows"]


def run_windows(
    plan: Plan,
    model: WindowedModel,
    output_dir: Path,
    window_bytes: int,
    *,
    ray: str | None,
    workers: int | None,
    on_bad: OnBad,
) -> Ran:
    """What `run_windowed` does is done here, or by the NPUs of the Ray cluster at the address `ray`."""
    if ray is None:
        workers = workers or usable_cores()
        return run_windowed(
            plan, model, output_dir, window_bytes=window_bytes, workers=workers, on_bad=on_bad
        )
    if model.device != "0":
        raise UsageError(
            f"--device {model.device} is not for --ray: Ray gives each window an NPU. Leave it out."
        )
    return run_windows_on_ray(
        plan, model, output_dir, address=ray, window_bytes=window_bytes, workers=workers, on_bad=on_bad
    )


def run_batches(
    plan: Plan,
    options: EngineOptions,
    output_dir: Path,
    *,
    ray: str | None,
    workers: int | None,
    on_bad: OnBad,
) -> Ran:
    """What `run_streamed` does is done here, or by the nodes of the Ray cluster at the address `ray`."""
    if ray is None:
        return run_streamed(
            plan, options.open(), output_dir, workers=workers or usable_cores(), on_bad=on_bad
        )
    return run_on_ray(plan, options, output_dir, address=ray, workers=workers, on_bad=on_bad)
