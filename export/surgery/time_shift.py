"""Recognition of temporal shifts in graphs of any exporter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from export.surgery.slice_bounds import cuts_of
from export.surgery.values import integers, only_use, static_dims

__all__ = ["Part", "TimeShift", "find_time_shifts"]

_TIME, _CHANNEL = 1, 2


@dataclass(frozen=True)
class Part:
    """Channels [start, end) of a shift: frame t takes them from frame t + step of its clip, zeros outside the clip."""

    start: int
    end: int
    step: int


@dataclass(frozen=True)
class TimeShift:
    """A shift of channels in time within each clip: `output` is `source`, [frames, C, H, W], with its parts moved."""

    source: ir.Value
    output: ir.Value
    segments: int
    parts: tuple[Part, ...]

    def inner_values(self) -> set[ir.Value]:
        """Return the values computed between `source` and `output`, without these two."""
        found: set[ir.Value] = set()
        producer = self.output.producer()
        waiting = [] if producer is None else list(producer.inputs)
        while waiting:
            value = waiting.pop()
            node = None if value is None else value.producer()
            if value is not None and node is not None and value is not self.source and value not in found:
                found.add(value)
                waiting += node.inputs
        return found


def find_time_shifts(model: ir.Model, known: Mapping[str, ir.Value]) -> list[TimeShift]:
    """Return the shifts of `model`, in the graph's order; `known` are the values that `resolved` returns for it.

    A shift is a Reshape of [frames, C, H, W] to clips [N, T, C, ...], Slices of it, some of them padded with zeros to T
    frames again, a Concat of them along the channels, and a Reshape back. That is what `fold_constants`,
    `concat_zeros_to_pad` and `merge_slices` leave of mmaction2's and of our own exports.
    """
    concats = [node for node in model.graph if not node.domain and node.op_type == "Concat"]
    found = (_shift_of(node, known) for node in concats)
    return [shift for shift in found if shift is not None]


def _shift_of(concat: ir.Node, known: Mapping[str, ir.Value]) -> TimeShift | None:
    back = only_use(concat.outputs[0])
    sources = {_source_of(value) for value in concat.inputs}
    clips = sources.pop() if len(sources) == 1 else None
    split = None if clips is None else clips.producer()
    if (
        clips is None
        or split is None
        or split.op_type != "Reshape"
        or back is None
        or back.op_type != "Reshape"
    ):
        return None
    source, dims = split.inputs[0], _dims(clips, known)
    if source is None or dims is None or len(dims) not in (4, 5):
        return None
    frames = _dims(source, known)
    if (
        frames is None
        or _dims(back.outputs[0], known) != frames
        or concat.attributes["axis"].as_int() % len(dims) != 2
    ):
        return None
    if len(frames) != 4 or frames[0] != dims[0] * dims[_TIME] or frames[1] != dims[_CHANNEL]:
        return None
    parts = [_part_of(value, dims) for value in concat.inputs]
    known_parts = tuple(part for part in parts if part is not None)
    if len(known_parts) != len(parts) or not any(part.step for part in known_parts):
        return None
    return TimeShift(source, back.outputs[0], dims[_TIME], known_parts)


def _dims(value: ir.Value, known: Mapping[str, ir.Value]) -> tuple[int, ...] | None:
    found = known.get(str(value.name))
    return None if found is None else static_dims(found)


def _source_of(value: ir.Value | None) -> ir.Value | None:
    """Return the input of the Slice that gives `value`, with or without a Pad after it."""
    node = None if value is None else value.producer()
    if node is not None and node.op_type == "Pad" and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node.inputs[0] if node is not None and node.op_type == "Slice" else None


def _part_of(value: ir.Value | None, dims: tuple[int, ...]) -> Part | None:
    node = None if value is None else value.producer()
    before = after = 0
    if node is not None and node.op_type == "Pad" and node.inputs[0] is not None:
        pads = integers(node.inputs[1]) if len(node.inputs) == 2 else None
        mode = node.attributes.get("mode")
        if pads is None or (mode is not None and mode.as_string() != "constant"):
            return None
        before, after = pads[_TIME], pads[_TIME + len(dims)]
        if sum(map(abs, pads)) != before + after or min(before, after) < 0:
            return None
        node = node.inputs[0].producer()
    cuts = None if node is None else cuts_of(node, len(dims))
    if cuts is None or not cuts.keys() <= {_TIME, _CHANNEL}:
        return None
    time, channels = (
        range(dims[axis])[cut.start : cut.end : cut.step] if (cut := cuts.get(axis)) else range(dims[axis])
        for axis in (_TIME, _CHANNEL)
    )
    step = time.start - before
    expected = range(max(step, 0), dims[_TIME] + min(step, 0))
    if (
        time != expected
        or (before, after) != (max(-step, 0), max(step, 0))
        or channels.step != 1
        or not channels
    ):
        return None
    return Part(channels.start, channels.stop, step)
