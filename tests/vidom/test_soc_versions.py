from __future__ import annotations

import pytest

from vidom.errors import UsageError
from vidom.system.npu import SOC_VERSIONS, normalise_soc_version


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("310P3", "Ascend310P3"),
        ("Ascend310P3", "Ascend310P3"),
        ("ascend310p3", "Ascend310P3"),
        (" ASCEND310P3 ", "Ascend310P3"),
        ("Ascend310P3Vir01", "Ascend310P3Vir01"),
        ("310p3vir08", "Ascend310P3Vir08"),
        ("910PremiumA", "Ascend910PremiumA"),
        ("910b4-1", "Ascend910B4-1"),
        ("910B", "Ascend910B"),
        ("Ascend910_9391", "Ascend910_9391"),
    ],
)
def test_soc_version_with_and_without_prefix_in_any_case(given_name: str, expected: str) -> None:
    assert normalise_soc_version(given_name) == expected


def test_every_legal_name_is_its_own_normal_form() -> None:
    assert [normalise_soc_version(name) for name in SOC_VERSIONS] == list(SOC_VERSIONS)
    assert len(set(SOC_VERSIONS)) == len(SOC_VERSIONS)


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("310P", "Ascend310P"),
        ("Ascend310P33", "Ascend310P3"),
        ("AscendAscend310P3", "Ascend310P3"),
        ("910C", "Ascend910"),
    ],
)
def test_a_wrong_soc_version_names_the_nearest_and_all_legal_ones(wrong: str, nearest: str) -> None:
    with pytest.raises(UsageError) as told:
        normalise_soc_version(wrong)
    assert f"Did you mean {nearest}" in str(told.value)
    assert all(name in str(told.value) for name in SOC_VERSIONS)


def test_the_family_name_of_the_a3_is_refused_with_the_command_to_ask() -> None:
    with pytest.raises(UsageError, match="npu-smi info -t board"):
        normalise_soc_version("Ascend910")
