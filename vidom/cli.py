"""The one command: `vidom VERB [RECIPE] …` calls the command of a stage.

With the name of a recipe, the paths of models, store and results are those of `Workspace`; every option of the stage's
own command may still be given and then takes precedence. Stages are imported only when their verb is used.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from vidom.command import Parser, run
from vidom.errors import ExitCode, UsageError
from vidom.workspace import Workspace

__all__ = ["VERBS", "Step", "Verb", "console", "main", "steps_of"]

Words = list[str]


@dataclass(frozen=True)
class Step:
    """A call of the function `module:name` with these words of a command line."""

    target: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Verb:
    """A verb, its line in the help and the command behind it.

    `fill` turns the workspace of a recipe and the words after it into steps; without it the verb takes no recipe.
    """

    name: str
    help: str
    target: str
    fill: Callable[[Workspace, Words], Iterator[Step]] | None = None


def _recipe(workspace: Workspace) -> Words:
    return ["--recipe", workspace.recipe]


def _built_recipe(workspace: Workspace) -> Words:
    views = ["--per_view"] if workspace.per_view else []
    return [*_recipe(workspace), *views, "--input_dtype", workspace.dtype]


def _model(workspace: Workspace, words: Words, *network: str) -> Words:
    """Return the options that name the model; for torch, which has none, those of the `network`."""
    engine = _value("--engine", words)
    if engine != "torch":
        return ["--model", str(workspace.om if engine == "ascend" else workspace.optimized)]
    if workspace.per_view or workspace.dtype == "aipp":
        raise UsageError(
            "--engine torch takes complete samples of float32 or uint8: leave --per_view out, and choose a different "
            "--dtype (make: VIEWS=all, DTYPE=float32)."
        )
    return ["--input_dtype", workspace.dtype, *network]


def _run_model(workspace: Workspace, words: Words) -> Words:
    return _model(workspace, words, *_recipe(workspace), "--dymBatch", str(workspace.batch_size))


def _preprocess(workspace: Workspace, words: Words) -> Iterator[Step]:
    views = ["--per_view"] if workspace.per_view else []
    own = [*_recipe(workspace), *views, "--dtype", workspace.dtype, "--output_dir", str(workspace.store)]
    yield Step("preprocess.pack:main", (*own, *words))


def _train(workspace: Workspace, words: Words) -> Iterator[Step]:
    yield Step("train.__main__:main", (*_recipe(workspace), "--output_dir", str(workspace.training), *words))


def _export(workspace: Workspace, words: Words) -> Iterator[Step]:
    paths = [
        "--exported",
        str(workspace.exported),
        "--optimized",
        str(workspace.optimized),
        "--om",
        str(workspace.om),
    ]
    batch = ["--batch_size", str(workspace.batch_size)]
    yield Step("export.build:main", (*_built_recipe(workspace), *batch, *paths, *words))


def _verify(workspace: Workspace, words: Words) -> Iterator[Step]:
    models = ["--model", str(workspace.exported), str(workspace.optimized)]
    yield Step("export.verify:main", (*_built_recipe(workspace), *models, *words))


def _lint(workspace: Workspace, words: Words) -> Iterator[Step]:
    yield Step("export.lint_onnx:main", ("--model", str(workspace.optimized), *words))


def _om(workspace: Workspace, words: Words) -> Iterator[Step]:
    batch = ["--batch_size", str(workspace.batch_size)]
    if workspace.exported.is_file():
        graphs = ["-m1", str(workspace.exported), "-m2", str(workspace.optimized)]
        yield Step("export.modify_onnx:main", (*graphs, *batch, "--target", "ascend310p"))
    files = ["--model", str(workspace.optimized), "--output", str(workspace.om)]
    yield Step("export.to_om:main", (*files, *batch, *words))


def _infer(workspace: Workspace, words: Words) -> Iterator[Step]:
    output = [
        "--output",
        str(workspace.results),
        "--output_dirname",
        workspace.result_name,
        "--outfmt",
        "NPY",
    ]
    files = [*_run_model(workspace, words), "--input", str(workspace.clips), *output]
    yield Step("infer.__main__:main", (*files, *words))


def _score(workspace: Workspace, words: Words) -> Iterator[Step]:
    yield Step("postprocess.score:main", ("--result_path", str(workspace.summary), *words))


def _evaluate(workspace: Workspace, words: Words) -> Iterator[Step]:
    limit = _value("--limit", words)
    folder = workspace.evaluation(int(limit) if limit and limit.isdecimal() else None)
    model = _model(workspace, words, "--batch_size", str(workspace.batch_size))
    own = [*_recipe(workspace), *model, "--output_dir", str(folder)]
    yield Step("infer.evaluate:main", (*own, *words))


def _predict(workspace: Workspace, words: Words) -> Iterator[Step]:
    yield Step("infer.predict:main", (*_recipe(workspace), *_model(workspace, words), *words))


def _drift(workspace: Workspace, words: Words) -> Iterator[Step]:
    built = workspace.optimized.is_file() and _value("--engine", words) != "torch"
    model = ["--model", str(workspace.optimized)] if built else []
    yield Step("infer.drift:main", (*_recipe(workspace), *model, *words))


def _bench(workspace: Workspace, words: Words) -> Iterator[Step]:
    if _value("--batches", words) is None:
        yield Step("infer.__main__:main", (*_run_model(workspace, words), "--loop", "20", *words))
        return
    store = ["--store", str(workspace.store)] if (workspace.store / "manifest.json").is_file() else []
    own = [
        *_recipe(workspace),
        "--input_dtype",
        workspace.dtype,
        *store,
        "--output_dir",
        str(workspace.bench),
    ]
    yield Step("benchmarks.batch_table.__main__:main", (*own, *words))


VERBS = (
    Verb("doctor", "report hardware, tools and the stages that they allow", "vidom.doctor.__main__:main"),
    Verb("demo", "run the complete pipeline on generated videos", "demo.__main__:main"),
    Verb("models", "list the recipes and where to download their weights", "vidom.models:main"),
    Verb(
        "inspect",
        "describe a checkpoint or ONNX file and the recipes that it fits",
        "networks.inspection:main",
    ),
    Verb("data", "convert a downloaded data set into frames and lists", "preprocess.prepare:main"),
    Verb("audit", "open every sample of a list and report faults", "preprocess.audit:main"),
    Verb("drift", "show what a different decoder or resizer changes", "infer.drift:main", _drift),
    Verb("preprocess", "pack videos into a clip store of tensors", "preprocess.pack:main", _preprocess),
    Verb("train", "train a network from lists of videos to a checkpoint", "train.__main__:main", _train),
    Verb("convert", "write a checkpoint in another framework's format", "networks.conversion:main"),
    Verb("export", "checkpoint to ONNX, optimized and verified; .om with ATC", "export.build:main", _export),
    Verb("verify", "compare torch, the exported and the optimized model", "export.verify:main", _verify),
    Verb("lint", "check an ONNX model against what ATC accepts", "export.lint_onnx:main", _lint),
    Verb("om", "compile the optimized model to an Ascend .om", "export.to_om:main", _om),
    Verb("infer", "run a model over the clip store", "infer.__main__:main", _infer),
    Verb("score", "compute top-1 and top-5 of the outputs", "postprocess.score:main", _score),
    Verb("evaluate", "compute top-1 and top-5 without tensors on disk", "infer.evaluate:main", _evaluate),
    Verb("predict", "print the most likely classes of a video or a folder", "infer.predict:main", _predict),
    Verb("bench", "pure-performance loop; --batches for a table", "infer.__main__:main", _bench),
)


def steps_of(verb: Verb, words: Sequence[str]) -> Iterator[Step]:
    """Yield the calls that `vidom VERB WORDS…` makes.

    A first word that is not an option names the recipe. `--batch_size`, `--dtype` (or `--input_dtype`), `--per_view`,
    `--out` and `--store` then select the files of the workspace; all other words go to the command.
    """
    if verb.fill is None or not words or words[0].startswith("-"):
        yield Step(verb.target, tuple(words))
        return
    parser = argparse.ArgumentParser(prog=f"vidom {verb.name}", add_help=False, allow_abbrev=False)
    parser.add_argument("recipe")
    parser.add_argument("--batch_size", "--batch-size", "-bs", type=int, default=1)
    dtypes = ("float32", "uint8", "aipp")
    parser.add_argument("--dtype", "--input_dtype", "--input-dtype", choices=dtypes, default="float32")
    parser.add_argument("--per_view", "--per-view", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--store", dest="store_folder", type=Path)
    known, rest = parser.parse_known_args(list(words))
    yield from verb.fill(Workspace(**vars(known)), rest)


def main(argv: Sequence[str] | None = None) -> int:
    """Call the command of a verb and return its exit code; the calls that a recipe expands to are logged."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "_ARGCOMPLETE" in os.environ:
        words = _words_to_complete()
    verb = next((verb for verb in VERBS if words[:1] == [verb.name]), None)
    if verb is None:
        _top_parser().parse_args(words)
        return ExitCode.USAGE
    Parser.prog_override = f"vidom {verb.name}"
    if verb.fill is not None:
        Parser.help_note = (
            f"`vidom {verb.name} RECIPE` fills in the options that name files: those of the recipe, selected by "
            "--batch_size, --dtype, --per_view, --out and --store. Options that are given take precedence."
        )
    for step in steps_of(verb, words[1:]):
        module, _, function = step.target.partition(":")
        if step.words != tuple(words[1:]):
            command = module.removesuffix(".__main__")
            print(f"$ python -m {command} {shlex.join(step.words)}", file=sys.stderr, flush=True)
        code = getattr(import_module(module), function)(list(step.words))
        if code:
            return int(code)
    return ExitCode.DONE


class _Unknown(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, _: object, word: object, __: str | None = None
    ) -> None:
        names = [verb.name for verb in VERBS]
        near = difflib.get_close_matches(str(word), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"verbs: {', '.join(names)}"
        parser.error(f"unknown verb {word!r}; {hint}")


def _top_parser() -> Parser:
    lines = "\n".join(f"  {verb.name:<12}{verb.help}" for verb in VERBS)
    parser = Parser(prog="vidom", description="From checkpoints to verified, benchmarked offline models.")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = "vidom VERB [RECIPE] [options]"
    parser.epilog = (
        f"verbs, in workflow order:\n{lines}\n\n"
        "`vidom VERB --help` shows the options of a verb. After the name of a recipe,\n"
        "--batch_size, --dtype, --per_view, --out and --store select the files."
    )
    parser.add_argument("--version", action="version", version=f"vidom {_version()}")
    verb = parser.add_argument("verb", metavar="VERB", action=_Unknown, help=argparse.SUPPRESS)
    verb.completer = lambda **_: [verb.name for verb in VERBS]  # type: ignore[attr-defined]
    return parser


def _version() -> str:
    try:
        return version("vidom")
    except PackageNotFoundError:
        return "(not installed)"


def _words_to_complete() -> Words:
    """Return the words that lead to the parser which completes the line, and have argcomplete skip those before it.

    The shell's words are in COMP_LINE; `_ARGCOMPLETE` counts the words that argcomplete takes for the program's name.
    """
    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    typed = line.split()[1:] + ([""] if line.endswith(" ") else [])
    if len(typed) < 2:
        return []
    has_recipe = len(typed) > 2 and not typed[1].startswith("-")
    os.environ["_ARGCOMPLETE"] = str(3 if has_recipe else 2)
    return typed[:1]


def _value(name: str, words: Words) -> str | None:
    """Return the value that an option has among the words, None where it is not given."""
    dashed = name[:2] + name[2:].replace("_", "-")
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in (name, dashed):
            return value if equals else "".join(words[place + 1 : place + 2])
    return None


def console() -> NoReturn:
    """Run the command and end the process with its exit code; the console script `vidom`."""
    run(main)


if __name__ == "__main__":
    console()
