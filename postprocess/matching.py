"""Which row of an output file belongs to which sample, known before a single row is read.

It follows from one of three layouts:

- a clip store's manifest lists each file's samples and how many rows are padding, or which view of its sample
  a file holds;
- without a manifest and with one row per file, the number in the input file's name is the sample's index
  (`000123.bin`, `123.bin`, and with one prefix for all files `clip_123.bin`);
- with N rows per file, as ModelZoo's `TSM_preprocess.py` writes them, row r of file k is sample k*N + r, which
  is also its index in the `.info` list. Rows beyond the list's last index are padding.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from postprocess.outputs import Output
from vidom.errors import BadDataError
from vidom.formats.clip_store import ClipStore
from vidom.formats.engine_outputs import output_stem
from vidom.wording import some

__all__ = ["Match", "check_coverage", "in_order", "match_by_number", "match_by_store"]

_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>[0-9]{1,18})")


@dataclass(frozen=True)
class Match:
    """An output file and the indices of the samples its first rows belong to; `padding` more rows may follow.

    `view` is the number of the view in the file, where each view of a sample has its own file.
    """

    output: Output
    samples: tuple[int, ...]
    padding: int
    view: int = 0


def match_by_store(outputs: Sequence[Output], store: ClipStore) -> tuple[Match, ...]:
    """Return each output with the samples, and the view, that the manifest lists for its input file.

    Raises BadDataError that names the outputs whose input file is not in the store.
    """
    files = {output_stem(clip_file.name): clip_file for clip_file in store.files}
    unknown = [output.stem for output in outputs if output.stem not in files]
    if unknown:
        raise BadDataError(
            f"{len(unknown)} of {len(outputs)} outputs came from input files that the clip store {store.folder} "
            f"does not have: {some(unknown)}. Score them with the .info list of their own store."
        )
    matched = [(output, files[output.stem]) for output in outputs]
    return tuple(
        Match(output, clip_file.samples, clip_file.padding, clip_file.view) for output, clip_file in matched
    )


def in_order(outputs: Sequence[Output]) -> tuple[tuple[int, Output], ...]:
    """Return the outputs sorted by the number in their input file's name, with that number.

    Raises BadDataError that names the files without a number or with a different prefix before it.
    """
    found = [(_NUMBERED.fullmatch(output.stem), output) for output in outputs]
    prefixes = Counter(match["prefix"] for match, _ in found if match)
    prefix = prefixes.most_common(1)[0][0] if prefixes else ""
    unknown = [output.stem for match, output in found if match is None or match["prefix"] != prefix]
    if unknown:
        raise BadDataError(
            "The samples of these outputs are unknown, because the names of their input files do not end in a "
            f"number like the others': {some(unknown)}. Without a clip store's manifest, file 123.bin must hold "
            "sample 123 of the .info list."
        )
    numbered = ((int(match["number"]), output) for match, output in found if match)
    return tuple(sorted(numbered, key=lambda pair: pair[0]))


def match_by_number(
    numbered: Sequence[tuple[int, Output]], labels: Mapping[int, int], *, rows: int
) -> tuple[Match, ...]:
    """Return each output with the samples k*rows .. k*rows + rows - 1, those beyond the list's end as padding.

    Raises BadDataError when there are more files of several rows than the list fills, as with the single views of a
    model exported without averaging.
    """
    files, needed = len({number for number, _ in numbered}), -(-len(labels) // rows)
    if rows > 1 and (files > needed or files == len(labels)):
        raise BadDataError(
            f"Each of the {files} output files holds {rows} rows, but at {rows} samples a file the "
            f"{len(labels)} samples of the list take {needed}. If the rows are single views of a sample, export the "
            "model with --average_clips prob (or score), which gives one row per sample. If they are samples, give "
            "the list that the inputs were made from."
        )
    last = max(labels)
    matches = []
    for number, output in numbered:
        first = number * rows
        # A file entirely beyond the list is not padding: its samples have no label.
        end = first + rows if first > last else min(first + rows, last + 1)
        matches.append(Match(output, tuple(range(first, end)), first + rows - end))
    return tuple(matches)


def check_coverage(matches: Sequence[Match], labels: Mapping[int, int], store: ClipStore | None) -> None:
    """Raise BadDataError unless every labelled sample has exactly one row and every row has a label.

    With separate views that is one row for each view. The labels of a store's samples must also equal the list's.
    """
    ids = {} if store is None else {index: sample.id for index, sample in store.samples.items()}
    if store is not None and store.header.views_per_sample > 1:
        _check_views(matches, store.header.views_per_sample, ids)
    rows = Counter(index for match in matches if match.view == 0 for index in match.samples)
    twice = sorted(index for index, count in rows.items() if count > 1)
    if twice:
        raise BadDataError(
            f"{len(twice)} samples have more than one output: {some(twice, ids)}. The outputs of two runs, or "
            "two input files of one sample, were mixed; run the inference again into a new folder."
        )
    _check_both_sets(rows, labels, ids, store)
    if store is not None:
        known = {index: sample.label for index, sample in store.samples.items()}
        differing = sorted(index for index in rows if known.get(index) != labels[index])
        if differing:
            raise BadDataError(
                f"{len(differing)} samples have a different label in the list than in the clip store {store.folder}: "
                f"{some(differing, ids)}. The list belongs to a different data set or order; use the .info file of "
                "that store."
            )


def _check_views(matches: Sequence[Match], views: int, ids: Mapping[int, str]) -> None:
    """Raise BadDataError unless every sample with an output has one for each of its views."""
    found = Counter((index, match.view) for match in matches for index in match.samples)
    twice = sorted(pair for pair, count in found.items() if count > 1)
    if twice:
        raise BadDataError(
            f"{len(twice)} views have more than one output: {_named(twice, ids)}. The outputs of two runs were "
            "mixed; run the inference again into a new folder."
        )
    present = sorted({index for index, _ in found})
    missing = [(index, view) for index in present for view in range(views) if (index, view) not in found]
    if missing:
        raise BadDataError(
            f"{len(missing)} views have no output, but other views of their samples do: {_named(missing, ids)}. A "
            f"score is the average over all {views} views of a sample: run the inference on all files of the clip "
            "store."
        )


def _named(pairs: Sequence[tuple[int, int]], ids: Mapping[int, str]) -> str:
    return some(f"view {view} of sample {index} ({ids[index]})" for index, view in pairs)


def _check_both_sets(
    rows: Mapping[int, int], labels: Mapping[int, int], ids: Mapping[int, str], store: ClipStore | None
) -> None:
    unlabelled = sorted(index for index in rows if index not in labels)
    if unlabelled:
        raise BadDataError(
            f"{len(unlabelled)} outputs have no label in the list: samples {some(unlabelled, ids)}. Score them "
            "with the list that the inputs were made from."
        )
    missing = sorted(index for index in labels if index not in rows)
    if missing:
        skipped = {skip.index for skip in store.skipped} if store else set()
        unread = len(skipped.intersection(missing))
        raise BadDataError(
            f"{len(missing)} of the {len(labels)} samples in the list have no output: {some(missing, ids)}. "
            + (f"{unread} of them could not be read when the store was packed. " if unread else "")
            + "An accuracy over the rest would not be that of the data set: run the inference on all samples, or "
            "give the list of those that were run."
        )
