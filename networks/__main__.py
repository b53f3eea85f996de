"""What a checkpoint file is: `python -m networks inspect FILE`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from networks.inspection import Inspection, as_document, as_text, inspect_checkpoint, plain
from vidom.command import Parser, run
from vidom.errors import BadDataError
from vidom.formats.recipe import load_recipe, recipe_names

__all__ = ["inspect", "main"]


def inspect(*, file: Path) -> Inspection:
    """Return what the checkpoint holds and how it suits the recipes of its network.

    Raises UsageError and BadDataError as `inspect_checkpoint` does.
    """
    return inspect_checkpoint(file, recipes=[load_recipe(name) for name in recipe_names()])


def main(argv: Sequence[str] | None = None) -> None:
    """Print what a checkpoint holds; BadDataError follows when no network here takes it."""
    parser = Parser(prog="python -m networks", description="Tell what a checkpoint file holds.")
    parser.add_argument("command", choices=("inspect",))
    parser.add_argument("file", type=Path, help=".pth, .pdparams, .pdiparams, .ckpt or .mindir")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    found = inspect(file=options.file)
    print(json.dumps(as_document(found), indent=2) if options.json else as_text(found))
    if found.recognised is None:
        starts = plain(", ".join(found.prefixes))
        raise BadDataError(
            f"The checkpoint {found.path} holds none of the networks here (TSM, TSN, I3D, PP-TSM, StNet): its keys "
            f"begin with {starts}. Take a checkpoint of one of those, or of a published configuration of theirs."
        )
    if not found.whole:
        raise BadDataError(
            f"The checkpoint {found.path} looks like {found.recognised.title}, but {len(found.recognised.differences)} "
            "of its keys are missing, unexpected or of another shape. It holds a part of the network or a variant "
            "with other layers; take the file that the whole network was saved to."
        )


if __name__ == "__main__":
    run(main)
