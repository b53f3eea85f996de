"""From what one downloads to lists that evaluate: `python preprocess/prepare.py --dataset sthv2 ...`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from preprocess.datasets.class_folders import locate_class_folders
from preprocess.datasets.extraction_run import OnBad, extract_all
from preprocess.datasets.frame_extraction import Extracted, ExtractionJob, ExtractionSettings
from preprocess.datasets.frame_pack_writer import write_packs
from preprocess.datasets.kinetics400 import locate_kinetics400
from preprocess.datasets.prepared import (
    PreparedSplit,
    job_id,
    prepared_split,
    write_labels,
    write_lists,
    write_record,
)
from preprocess.datasets.splits import DataSet, Source, Split
from preprocess.datasets.sthv2 import locate_sthv2
from preprocess.datasets.ucf101 import locate_ucf101, locate_ucf101_66
from preprocess.sources.decoding import Decoder
from preprocess.sources.frame_folders import frame_numbers
from vidom.command import Parser, run
from vidom.errors import BadDataError, UsageError
from vidom.parallel.ray_cluster import add_ray_option, open_ray_cluster
from vidom.system.machine import usable_cores

__all__ = ["DATA_SETS", "DataSetName", "main", "prepare"]

_log = logging.getLogger(__name__)

# A pack writes each byte of a frame as one or two; one and a half on average.
_WITH_PACKS = 2.5


@dataclass(frozen=True)
class _Habits:
    """How a data set is read and, unless told otherwise, prepared; as mmaction2's scripts do."""

    locate: Callable[[Source], DataSet]
    num_classes: int | None = None
    short_side: int = 0
    on_bad: OnBad = "fail"


DataSetName = Literal["sthv2", "ucf101", "ucf101_66", "kinetics400", "folder"]

DATA_SETS: dict[DataSetName, _Habits] = {
    "sthv2": _Habits(locate_sthv2, num_classes=174),
    "ucf101": _Habits(locate_ucf101, num_classes=101),
    "ucf101_66": _Habits(locate_ucf101_66, num_classes=66),
    # Videos vanish from YouTube by the day; a set without holes exists nowhere.
    "kinetics400": _Habits(locate_kinetics400, num_classes=400, short_side=256, on_bad="skip"),
    "folder": _Habits(locate_class_folders),
}


def prepare(
    *,
    dataset: DataSetName,
    src: Path,
    out: Path,
    class_list: Path | None = None,
    num_classes: int | None = None,
    short_side: int | None = None,
    quality: int = 95,
    fps: float | None = None,
    decoder: Decoder | None = None,
    workers: int = 1,
    on_bad: OnBad | None = None,
    packs: bool = False,
    ray: str | None = None,
) -> tuple[PreparedSplit, ...]:
    """Return the splits of the data set in `src` after giving them frames, lists and label files in `out`.

    None stands for the data set's habit. A killed run, started again, ends with the same bytes. A split of which
    no video is there is left out. `ray` is a cluster's address, or "local", whose workers then extract and write packs
    (see `vidom.parallel.ray_cluster`). Raises UsageError for downloads that are not to be found and for a class
    count other than `num_classes`, BadDataError for annotations that contradict themselves and, unless `on_bad` is
    "skip", for videos that are missing or unreadable, UnavailableError for a disk that is too small.
    """
    habits = DATA_SETS[dataset]
    if workers < 1:
        raise UsageError(f"--workers must be at least 1, found {workers}.")
    if packs and dataset != "kinetics400":
        raise UsageError("--packs are StNet's, which knows kinetics400 only.")
    settings = ExtractionSettings(
        # OpenCV decodes in the original; only PyAV tells when a frame is shown.
        decoder=decoder or ("pyav" if fps else "opencv"),
        short_side=habits.short_side if short_side is None else short_side,
        quality=quality,
        fps=fps,
    )
    data = habits.locate(Source(src, out, class_list))
    _check_class_count(data, dataset, num_classes or habits.num_classes)
    on_bad = on_bad or habits.on_bad
    splits = _present(data, src, on_bad)
    with open_ray_cluster(ray, cores=workers, shared=out, needs=(src,)) if ray else nullcontext() as cluster:
        results = (
            _counted(splits, on_bad)
            if data.extracted
            else extract_all(
                _jobs(splits, out, settings),
                settings=settings,
                out=out,
                workers=workers,
                on_bad=on_bad,
                room_factor=_WITH_PACKS if packs else 1,
                cluster=cluster,
            )
        )
        prepared = _listed(data, splits, results, out)
        if packs:
            for split in prepared:
                write_packs(split, out / "packs", workers=workers, cluster=cluster)
    write_labels(out, data.labels)
    record = {} if data.extracted else settings.record()
    write_record(out, dataset=dataset, data=data, settings=record, splits=prepared)
    return prepared


def _check_class_count(data: DataSet, dataset: str, expected: int | None) -> None:
    if expected is not None and len(data.labels) != expected:
        raise UsageError(
            f"{data.classes_from} gives {dataset} {len(data.labels)} classes, but {expected} are expected. With a "
            "checkpoint of another class count, or one class missing in the middle, every label behind it would be "
            f"wrong. Pass --class_list with the checkpoint's {expected} names in its order, one a line, or "
            f"--num_classes {len(data.labels)} if this is what you want, as for training a network of your own."
        )


def _present(data: DataSet, src: Path, on_bad: OnBad) -> tuple[Split, ...]:
    """Return the splits of which there are videos; none may be missing from them unless they are to be skipped."""
    present = []
    for split in data.splits:
        missing = [entry.name for entry in split.entries if entry.video is None]
        if not split.entries:
            continue
        if len(missing) == len(split.entries):
            _log.info(
                f"{split.title}: none of its {len(missing):,} videos is in {split.video_root}; left out."
            )
            continue
        if missing and on_bad == "fail":
            raise BadDataError(
                f"{len(missing):,} of the {len(split.entries):,} videos of {split.title} are not in "
                f"{split.video_root}: {', '.join(missing[:10])}{' and so on' if len(missing) > 10 else ''}. Download "
                "them, or use --on_bad skip to go on without; they are then listed in preparation.json."
            )
        present.append(split)
    if not present:
        raise BadDataError(f"None of the annotated videos is in {src}. Check --src and the folder names.")
    return tuple(present)


def _jobs(splits: Sequence[Split], out: Path, settings: ExtractionSettings) -> tuple[ExtractionJob, ...]:
    """Return the extractions that the splits need, each once, though splits may share videos."""
    jobs = {
        job_id(split, entry): ExtractionJob(
            job_id(split, entry),
            (split.video_root / entry.video).absolute(),
            (out / split.frame_root / entry.name).absolute(),
            settings,
        )
        for split in splits
        for entry in split.entries
        if entry.video is not None
    }
    return tuple(jobs.values())


def _counted(splits: Sequence[Split], on_bad: OnBad) -> dict[str, Extracted]:
    """Return the frame counts of folders that were extracted elsewhere."""
    results = {}
    for split in splits:
        for entry in split.entries:
            numbers = frame_numbers(split.video_root / entry.name)
            reason = None
            if numbers.first != 1 or numbers.missing:
                reason = (
                    f"{split.video_root / entry.name} has {numbers.frames} frames img_00001.jpg onwards, first "
                    f"{numbers.first}, missing {', '.join(map(str, numbers.missing)) or 'none'}."
                )
            if reason and on_bad == "fail":
                raise BadDataError(f"{reason} Extract them again, or use --on_bad skip to go on without.")
            results[job_id(split, entry)] = Extracted(job_id(split, entry), numbers.frames, reason)
    return results


def _listed(
    data: DataSet, splits: Sequence[Split], results: Mapping[str, Extracted], out: Path
) -> tuple[PreparedSplit, ...]:
    """Return the splits with their frames after writing their lists."""
    prepared = tuple(
        prepared_split(
            split,
            frame_root=split.video_root if data.extracted else out / split.frame_root,
            results=results,
        )
        for split in splits
    )
    for split in prepared:
        write_lists(out, split, videos=not data.extracted)
    return prepared


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, prepare, and print what the lists hold and where."""
    parser = Parser(description="Turn a downloaded data set into frames, lists and label files.")
    parser.add_argument("--dataset", choices=DATA_SETS, required=True, help="whose official layout --src has")
    parser.add_argument("--src", type=Path, required=True, help="folder of the downloads; never written to")
    parser.add_argument("--out", type=Path, required=True, help="folder for frames, lists and label files")
    parser.add_argument("--class_list", type=Path, help="class names in the order of their ids, one a line")
    parser.add_argument(
        "--num_classes", type=int, help="class count of the checkpoint; the data set's own if left out"
    )
    parser.add_argument(
        "--short_side",
        type=int,
        help="short side of the frames, 0 keeps the size; kinetics400: 256, others: 0",
    )
    parser.add_argument("--quality", type=int, default=95, help="JPEG quality")
    parser.add_argument("--fps", type=float, help="constant frame rate; every frame once if left out")
    parser.add_argument(
        "--decoder", choices=("opencv", "pyav"), help="what decodes; opencv, with --fps pyav, if left out"
    )
    parser.add_argument("--workers", type=int, default=usable_cores(), help="processes that decode")
    parser.add_argument(
        "--on_bad",
        choices=("fail", "skip"),
        help="a missing or broken video; kinetics400: skip, others: fail",
    )
    parser.add_argument("--packs", action="store_true", help="write StNet's .pkl packs too; kinetics400 only")
    add_ray_option(parser)
    options = vars(parser.parse_args(argv))
    for split in prepare(**options):
        print(split.summary)
        print(
            f"  {options['out'] / split.split.list_name.format('rawframes')}  --data_root {split.frame_root}"
        )


if __name__ == "__main__":
    run(main)
