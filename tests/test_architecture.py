"""The arrows between packages, the absence of cycles, and the size of folders (docs/ARCHITECTURE.md)."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "vidom": set(),
    "networks": {"vidom"},
    "preprocess": {"vidom"},
    "postprocess": {"vidom"},
    "export": {"vidom", "networks"},
    "infer": {"vidom", "preprocess", "postprocess"},
    "train": {"vidom", "networks", "preprocess", "postprocess"},
    "benchmarks": {"vidom", "networks", "preprocess", "postprocess", "export", "infer", "train", "demo"},
    "demo": {"vidom", "networks", "preprocess", "postprocess", "export", "infer", "train"},
}
# Modules that may import more than their package.
EXCEPTIONS = {"infer.engines.torch": {"networks", "torch"}}
HEAVY = {
    "postprocess": {"torch", "onnx", "onnxruntime", "av", "cv2", "PIL"},
    "preprocess": {"torch", "onnx", "onnxruntime"},
    "infer": {"torch"},
}
MOST_FILES = 18


def modules_of(root: Path) -> dict[str, ast.Module]:
    """Return every module below `root` by its dotted name; a package's `__init__` has the package's name."""
    found = {}
    for package in MAY_IMPORT:
        for path in (root / package).rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported_names(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted names of all imports, also of those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows_of(trees: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Return for each module those it imports, with the packages whose `__init__` runs on the way."""
    arrows: dict[str, set[str]] = {}
    for module, tree in trees.items():
        targets = set()
        for name in imported_names(tree):
            parts = name.split(".")
            prefixes = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
            targets |= {prefix for prefix in prefixes if prefix in trees and trees[prefix].body}
        arrows[module] = targets - {module}
    return arrows


def forbidden_arrows(arrows: Mapping[str, set[str]]) -> list[str]:
    return [
        f"{module} imports {target}"
        for module, targets in sorted(arrows.items())
        for target in sorted(targets)
        if (top := target.partition(".")[0]) != (own := module.partition(".")[0])
        and top not in MAY_IMPORT[own] | EXCEPTIONS.get(module, set())
    ]


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return modules_of(ROOT)


@pytest.mark.slow
def test_imports_follow_the_arrows(trees: dict[str, ast.Module]):
    assert len(trees) > 150
    assert forbidden_arrows(arrows_of(trees)) == []


def test_no_module_imports_itself_through_others(trees: dict[str, ast.Module]):
    TopologicalSorter(arrows_of(trees)).prepare()


def test_no_folder_has_too_many_files():
    folders = Counter(
        path.parent.relative_to(ROOT) for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py")
    )
    assert {str(folder): count for folder, count in folders.items() if count > MOST_FILES} == {}


def test_heavy_libraries_stay_in_their_packages(trees: dict[str, ast.Module]):
    broken = [
        f"{module} imports {name}"
        for module, tree in trees.items()
        for name in imported_names(tree)
        if name.partition(".")[0]
        in HEAVY.get(module.partition(".")[0], set()) - EXCEPTIONS.get(module, set())
    ]
    assert broken == []


def test_torch_gets_into_infer_and_vidom_through_modules_that_are_loaded_on_use(trees: dict[str, ast.Module]):
    users = {
        module
        for module, tree in trees.items()
        if module.partition(".")[0] in ("infer", "vidom")
        for node in tree.body
        for name in imported_names(ast.Module([node], []))
        if name.startswith(("torch.", "networks.", "vidom.system.torch_devices.")) or name == "torch"
        if not isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert users == {"infer.engines.torch", "vidom.system.torch_devices"}
    loaders = {
        module for module, tree in trees.items() if "infer.engines.torch.TorchEngine" in imported_names(tree)
    }
    assert loaders == {"infer.engines.open"}


def test_onnx_runtime_is_imported_in_one_place_and_loaded_by_engines_and_checks_only(
    trees: dict[str, ast.Module],
):
    home, foreign = "vidom.system.onnx_runtime", "infer.engines.cann.served_session"
    importers = {
        library: {
            module
            for module, tree in trees.items()
            for name in imported_names(tree)
            if name.startswith(library)
        }
        for library in ("onnxruntime", home)
    }
    # The latter runs in a different interpreter, which has no vidom.
    assert importers["onnxruntime"] == {home, foreign}
    assert not {name.partition(".")[0] for name in imported_names(trees[foreign])} & set(MAY_IMPORT)
    assert {module for module in importers[home] if not module.startswith("benchmarks.")} == {
        "export.verification.session",
        "infer.engines.onnxruntime",
    }


def test_a_file_that_is_run_as_a_script_hides_no_library(trees: dict[str, ast.Module]):
    libraries = {name.partition(".")[0] for tree in trees.values() for name in imported_names(tree)}
    scripts = {path.parent for path in ROOT.glob("*/*.py") if '__name__ == "__main__"' in path.read_text()}
    hidden = {
        str(path.relative_to(ROOT))
        for folder in scripts
        for path in folder.glob("*.py")
        if path.stem in libraries
    }
    assert hidden == set()


def test_the_checks_detect_what_they_are_for(tmp_path: Path):
    for name, text in {
        "vidom/__init__.py": "",
        "vidom/files.py": "def f():\n    from infer.run import g\n",
        "infer/__init__.py": "",
        "infer/run.py": "import vidom.files\n",
        "infer/a/__init__.py": "from infer.a import one\n",
        "infer/a/one.py": "from infer.a import two\n",
        "infer/a/two.py": "",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    arrows = arrows_of(modules_of(tmp_path))
    assert forbidden_arrows(arrows) == ["vidom.files imports infer.run"]
    with pytest.raises(CycleError):
        TopologicalSorter(arrows).prepare()
    assert arrows["infer.a.one"] == {"infer.a"}


# Names that every package may use for the same thing: its command, its needs, its figures and its tables.
SHARED_NAMES = {"__init__", "__main__", "needs", "plot", "table", "tables", "variants"}


def test_no_two_modules_share_a_name_with_different_meanings():
    names = Counter(path.stem for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
    assert {name for name, count in names.items() if count > 1} <= SHARED_NAMES


def test_no_main_module_hands_its_functions_to_worker_processes(trees: dict[str, ast.Module]):
    # A spawned process imports them by name, which for the `__main__` of a package it does not.
    pools = ("vidom.parallel.workers", "concurrent.futures", "multiprocessing")
    assert [
        f"{module} imports {name}"
        for module, tree in trees.items()
        for name in imported_names(tree)
        if module.endswith(".__main__") and name.startswith(pools)
    ] == []
