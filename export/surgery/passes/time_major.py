"""The pass that orders frames by time first, so that a temporal shift moves contiguous frames."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from export.surgery.frame_flow import FrameMean, frame_means
from export.surgery.pass_types import Options
from export.surgery.shapes import record_shapes, resolved
from export.surgery.time_shift import TimeShift, find_time_shifts
from export.surgery.values import add_constant, data_input, drop_unused, insert_mean, insert_node, static_dims

__all__ = ["time_major"]


def time_major(model: ir.Model, options: Options) -> bool:
    """Order frames by time, then by clip, from the input to the mean over them; every shift becomes four-dimensional.

    Before and after, for a shift of b channels in each direction, N clips of T frames::

        x [N*T, C, H, W]                                        x [T*N, C, H, W]
          |                                                       |
        Reshape [N, T, C, H*W]                                    |
          |                                                       |
          +- Slice t 1:,  c :b   - Pad 1 after  -+                +- Slice rows N:,  c :b   - Pad N after  -+
          +- Slice t :-1, c b:2b - Pad 1 before -+                +- Slice rows :-N, c b:2b - Pad N before -+
          +- Slice c 2b: ------------------------+                +- Slice c 2b: ---------------------------+
                                                 |                                                          |
                                         Concat channels                                            Concat channels
                                                 |                                                          |
                                      Reshape [N*T, C, H, W]                                        y [T*N, C, H, W]

    On the right, row t * N + n is frame t of clip n.

    Rewritten, if the graph has temporal shifts (`find_time_shifts`), all with the same number of segments T:

    1. The input of N clips is reordered from clip-major to time-major by Reshape to [N, T, ...], Transpose and Reshape,
       where frames have the fewest bytes; with one clip both orders are equal and nothing is added.
    2. Frame t + 1 of a clip is then N frames after frame t, so that each part of the channels moves as a block along
       dimension 0. For the CPU that is one Pad whose pads are negative where it cuts: channels, frames and zeros
       in one copy. ATC does not document negative pads; there it is a Slice over both dimensions and a Pad. The
       two Reshapes around each shift, and with them every tensor of frames that is not [frames, C, H, W], disappear.
    3. The mean over the segments, or over all frames of a sample, becomes a mean over the dimensions that hold
       them now.

    On the CPU it applies to shifts that `split_shift` left, and saves operators rather than time: on TSM-R50 and ONNX
    Runtime 1.43 of the time without any shift, mmaction2's own graph 1.44, since all channels still leave the
    runtime's blocked layout for Slice and Concat.

    Not rewritten; the graph is left unchanged: without static shapes; if shifts differ in T or do not cover all frames;
    if frames are mixed anywhere but in shifts and means (`frame_means` lists the operators known to keep them apart);
    if an output has a row per frame.
    """
    known = resolved(model)
    shifts = find_time_shifts(model, known)
    segments = {shift.segments for shift in shifts}
    means = frame_means(model, shifts, known) if len(segments) == 1 else None
    if means is None:
        return False
    (count,) = segments
    frames = (static_dims(known[str(shifts[0].source.name)]) or (0,))[0]
    clips = frames // count
    if any(mean.dims[1] % count for mean in means):
        return False
    for shift in shifts:
        _move(model.graph, shift, clips=clips, known=known, by_pad=options.target == "cpu")
    if clips > 1:
        _sort_input(model, segments=count, clips=clips)
        for mean in means:
            _average(model, mean, segments=count)
    drop_unused(model)
    record_shapes(model)
    return True


def _sort_input(model: ir.Model, *, segments: int, clips: int) -> None:
    entry = data_input(model)
    dims = static_dims(entry) or ()
    users = [(usage.node, usage.idx) for usage in entry.uses()]
    first = next(node for node in model.graph if any(node is user for user, _ in users))
    size = int(np.prod(dims, dtype=np.int64)) // (segments * clips)
    name = f"{entry.name}_by_time"
    value = _reshaped(model.graph, first, entry, (clips, segments, size), name=f"{entry.name}_by_clip")
    value = insert_node(model.graph, first, "Transpose", [value], name=name, perm=[1, 0, 2])
    restored = None
    for node, index in users:
        if node.op_type != "Reshape":
            restored = restored or _reshaped(model.graph, first, value, dims, name=f"{name}_restored")
        node.replace_input_with(index, value if node.op_type == "Reshape" else restored)


def _move(
    graph: ir.Graph, shift: TimeShift, *, clips: int, known: Mapping[str, ir.Value], by_pad: bool
) -> None:
    last = shift.output.producer()
    dims = static_dims(known[str(shift.source.name)])
    if last is None or dims is None:
        return
    name = str(shift.output.name)
    shift.output.name = f"{name}_of_clips"
    parts = []
    for number, part in enumerate(shift.parts):
        called, distance, channels = f"{name}_part_{number}", part.step * clips, (part.start, part.end)
        if not distance:
            parts.append(_cut(graph, last, shift.source, {1: channels}, name=called))
        elif by_pad:
            pads = [-distance, -part.start, 0, 0, distance, part.end - dims[1], 0, 0]
            parts.append(_padded(graph, last, shift.source, pads, name=called))
        else:
            kept = max(distance, 0), dims[0] + min(distance, 0)
            cut = _cut(graph, last, shift.source, {0: kept, 1: channels}, name=f"{called}_frames")
            pads = [max(-distance, 0), 0, 0, 0, max(distance, 0), 0, 0, 0]
            parts.append(_padded(graph, last, cut, pads, name=called))
    joined = insert_node(graph, last, "Concat", parts, name=name, axis=1)
    shift.output.replace_all_uses_with(joined)


def _cut(
    graph: ir.Graph, before: ir.Node, source: ir.Value, cuts: Mapping[int, tuple[int, int]], *, name: str
) -> ir.Value:
    """Return a Slice of `source` by the bounds of each axis."""
    starts, ends = zip(*cuts.values(), strict=True)
    columns = {"starts": starts, "ends": ends, "axes": tuple(cuts), "steps": (1,) * len(cuts)}
    bounds = [
        add_constant(graph, f"{name}_{key}", np.array(row, dtype=np.int64)) for key, row in columns.items()
    ]
    return insert_node(graph, before, "Slice", [source, *bounds], name=name)


def _padded(graph: ir.Graph, before: ir.Node, value: ir.Value, pads: list[int], *, name: str) -> ir.Value:
    inputs = [value, add_constant(graph, f"{name}_pads", np.array(pads, dtype=np.int64))]
    return insert_node(graph, before, "Pad", inputs, name=name, mode="constant")


def _average(model: ir.Model, head: FrameMean, *, segments: int) -> None:
    rows, frames, features = head.dims
    views = frames // segments
    dims: tuple[int, ...] = (segments, rows, views, features) if views > 1 else (segments, rows, features)
    axes = [0, 2] if views > 1 else [0]
    old = head.mean.outputs[0]
    name = str(old.name)
    old.name = f"{name}_of_clips"
    value = _reshaped(model.graph, head.mean, head.reshape.inputs[0], dims, name=f"{name}_by_time")
    keepdims = head.mean.attributes.get("keepdims")
    if keepdims is not None and keepdims.as_int() == 0:
        averaged = insert_mean(model, head.mean, value, axes, name=name)
    else:
        averaged = insert_mean(model, head.mean, value, axes, name=f"{name}_rows")
        averaged = _reshaped(model.graph, head.mean, averaged, (rows, 1, features), name=name)
    averaged.type = old.type
    old.replace_all_uses_with(averaged, replace_graph_outputs=True)


def _reshaped(
    graph: ir.Graph, before: ir.Node, value: ir.Value | None, dims: tuple[int, ...], *, name: str
) -> ir.Value:
    shape = add_constant(graph, f"{name}_shape", np.array(dims, dtype=np.int64))
    return insert_node(graph, before, "Reshape", [value, shape], name=name)
