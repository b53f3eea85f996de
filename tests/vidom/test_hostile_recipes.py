"""Recipes that are damaged, hostile or mistyped: exit code 2, one paragraph, bounded time and memory."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vidom.errors import UsageError
from vidom.formats.recipe import load_recipe, recipe_folder, recipe_names

ATTACKS = Path(__file__).parents[1] / "fixtures" / "attacks"
DEMO = yaml.safe_load((recipe_folder() / "tsm_demo.yaml").read_text())
COMMAND = [
    sys.executable,
    "-m",
    "preprocess.pack",
    "--data_root",
    ".",
    "--ann_file",
    "absent.txt",
    "--output_dir",
]


def one_gigabyte_and_ten_seconds() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (10, 10))


@pytest.mark.parametrize("path", sorted(ATTACKS.glob("r_*.yaml")), ids=lambda path: path.stem)
def test_an_attack_ends_in_one_paragraph(path: Path, tmp_path: Path):
    done = subprocess.run(
        [*COMMAND, str(tmp_path / "out"), "--recipe", str(path)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=one_gigabyte_and_ten_seconds,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and len(done.stderr) < 2000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "kind", ["fifo", "device", "loop", "folder", "absent", "long name", "binary", "utf-16"]
)
def test_only_regular_text_files_are_recipes(kind: str, tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case "folder":
            path.mkdir()
        case "long name":
            path = tmp_path / f"{'x' * 300}.yaml"
        case "binary":
            path.write_bytes(bytes(range(256)))
        case "utf-16":
            path.write_bytes((recipe_folder() / "tsm_demo.yaml").read_text().encode("utf-16"))
    with pytest.raises(UsageError):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("dataset.name=../evil", "match pattern"),
        ("dataset.name=a/b", "match pattern"),
        ("dataset.name=.hidden", "match pattern"),
        (f"dataset.name={'x' * 65}", "at most 64"),
        ("name=a b", "match pattern"),
        ("views.std=[1, 0, 1]", "greater than or equal"),
        ("views.std=[1, -1, 1]", "greater than or equal"),
        ("views.std=[1, 1.0e-320, 1]", "greater than or equal"),
        ("views.std=[1, nan, 1]", "finite"),
        ("views.mean=[1.0e+308, 0, 0]", "less than or equal"),
        ("views.mean=[.inf, 0, 0]", "finite"),
        ("views.mean=[.nan, 0, 0]", "finite"),
        ("views.num_segments=10001", "less than or equal"),
        ("dataset.num_classes=1000000000000", "less than or equal"),
        ("dataset.frame_template=img.jpg", "exactly one number"),
        ("dataset.frame_template={:05}{:05}.jpg", "exactly one number"),
        ("dataset.frame_template=../{:05}.jpg", "without a slash"),
        ("dataset.frame_template={:999999999}.jpg", "exactly one number"),
        ("dataset.frame_template={0.__class__}.jpg", "exactly one number"),
        ("dataset.frame_template={:05f}.jpg", "exactly one number"),
        ("dataset.frame_template={:013}.jpg", "at most 12 digits"),
        (f"dataset.frame_template={'x' * 60}{{:05}}.jpg", "at most 60"),
        ("dataset.first_frame=2", "0 or 1"),
        (f"checkpoint.file={'x' * 256}.pth", "255 bytes"),
        (f"dataset.labels=labels/{'字' * 90}.txt", "255 bytes"),
        ("published." + "a." * 30_000 + "b=1", "of the form section.key=value"),
        ("network.a.b.c.d=1", "of the form section.key=value"),
        ("name.a.b=1", "'name' is not a section"),
        ("views.mean.b=1", "'mean' is not a section"),
        ("=1", "of the form section.key=value"),
        ("published=[" + "{}," * 1000 + "{}]", "1000 keys and values"),
        ("published={a: &x 1, b: *x}", "alias"),
        ("head.softmax=!!python/name:os.system", "tag"),
        ("x=" + "[" * 5000, "levels"),
        ("views.mean=" + "9" * 1001, "1000 characters"),
        ("head={softmax: true, softmax: false}", "twice"),
    ],
)
def test_entries_are_checked_however_they_are_given(entry: str, reason: str):
    with pytest.raises(UsageError, match=reason) as refused:
        load_recipe("tsm_demo", [entry])
    assert len(str(refused.value)) < 2000


def test_a_sample_that_no_machine_holds_is_refused():
    with pytest.raises(UsageError, match=r"one sample would have 47\.\d GB .*; the maximum is 8\.6 GB"):
        load_recipe("tsm_sthv2", ["views.num_segments=10000"])


@pytest.mark.parametrize(
    "template",
    [
        "{:05}.jpg",
        "img_{:05}.jpg",
        "{:05d}.png",
        "frame-{}.jpg",
        "{:6}.jpg",
        "frame_{:010d}.jpg",
        "{:012}.jpg",
    ],
)
def test_a_text_entry_is_taken_as_it_is(template: str):
    recipe = load_recipe("tsm_demo", [f"dataset.frame_template={template}"])
    assert recipe.dataset.frame_template == template
    recipe = load_recipe("tsm_demo", [f'dataset.frame_template="{template}"'])
    assert recipe.dataset.frame_template == template


def test_a_document_of_many_keys_is_refused_before_they_are_compared(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text("".join(f"k{number}:\n" for number in range(8000)))
    with pytest.raises(UsageError, match="more than 1000 keys and values"):
        load_recipe(str(tmp_path / "recipe.yaml"))


@pytest.mark.parametrize("labels", ["/dev/zero", "labels", "labels/absent.txt"])
def test_a_label_file_is_a_readable_regular_file(labels: str):
    recipe = load_recipe("tsm_demo", [f"dataset.labels={labels}"])
    with pytest.raises(UsageError, match="label file of the recipe tsm_demo"):
        recipe.labels()


def test_all_recipes_that_come_with_vidom_pass():
    assert len(recipe_names()) >= 11
    for name in recipe_names():
        load_recipe(name)


def test_mutated_recipes_are_accepted_or_refused_in_one_paragraph(tmp_path: Path):
    """Single bytes and whole values, replaced at random."""
    text = (recipe_folder() / "tsm_demo.yaml").read_bytes()
    values = [
        None,
        True,
        -1,
        0,
        1e308,
        float("nan"),
        "x" * 900,
        [],
        {},
        [[1]],
        {"a": 1},
        "2001-01-01",
        "../x",
        "\n",
    ]
    generator = random.Random(0)
    path = tmp_path / "recipe.yaml"
    outcomes = {"accepted": 0, "refused": 0}
    for number in range(600):
        if number % 2:
            changed = bytearray(text)
            for _ in range(generator.randint(1, 4)):
                changed[generator.randrange(len(changed))] = generator.randrange(32, 127)
            path.write_bytes(changed)
        else:
            document = yaml.safe_load(text)
            section = generator.choice(
                [document, *(part for part in document.values() if isinstance(part, dict))]
            )
            section[generator.choice([*section, "other", "train"])] = generator.choice(values)
            path.write_text(yaml.safe_dump(document))
        try:
            load_recipe(str(path))
            outcomes["accepted"] += 1
        except UsageError as error:
            assert len(str(error)) < 6000
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20
