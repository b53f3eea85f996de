"""The report of what networks learn."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.learning.__main__ import report
from demo.train_networks import Trained
from postprocess.metrics import Proportion
from vidom.formats.recipe import load_recipe


def trained(correct: int, seconds: float = 60.0) -> Trained:
    return Trained(Path("weights.pth"), Proportion.of(correct, 600), seconds, 2 * seconds)


@pytest.mark.parametrize(
    ("network", "control", "seconds", "met"),
    [
        (570, 50, 60.0, [True, True, True]),
        (569, 50, 60.0, [False, True, True]),
        (570, 565, 60.0, [True, False, True]),
        (570, 50, 1801.0, [True, True, False]),
    ],
)
def test_targets_are_accuracy_control_and_time(
    network: int, control: int, seconds: float, met: list[bool]
) -> None:
    made = report([(load_recipe("tsm_demo"), trained(network, seconds), trained(control))])
    assert [target.met for target in made.targets] == met
    assert made.tables[0].rows[1][2] == control / 600
