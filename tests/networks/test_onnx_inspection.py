"""The command `inspect` on ONNX files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from networks.inspection import main
from networks.onnx_inspection import inspect_onnx, is_onnx
from vidom.errors import BadDataError
from vidom.formats.aipp import aipp_of
from vidom.formats.recipe import load_recipe

DEMO, I3D = load_recipe("tsm_demo"), load_recipe("i3d_k400")
FIXTURES = Path(__file__).parents[1] / "fixtures"


def model(path: Path, shape: list[Any], classes: int, **properties: str) -> Path:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 3], range(6))
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"])], "inner", [], [helper.make_empty_tensor_value_info("r")]
    )
    nodes = [
        helper.make_node("If", ["yes"], ["a"], then_branch=inner, else_branch=inner),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Own\x1b[2J", ["b"], ["y"], domain="some.domain"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n\x1b[2J", classes])],
        [weight],
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("some.domain", 2)]
    )
    helper.set_model_props(made, properties)
    onnx.save(made, path)
    return path


def test_the_command_describes_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = model(tmp_path / "m.bin", ["n", *DEMO.views.sample_shape], 12)
    main([str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert "framework  onnx" in lines
    assert "opset      13, some.domain 2" in lines
    assert "input      x: uint8 [n, 8, 3, 64, 64]" in lines
    assert r"output     y: float32 [n\x1b[2J, 12]" in lines
    assert "weights    6 numbers" in lines
    assert r"operators  5 nodes: Relu 3, If 1, some.domain::Own\x1b[2J 1" in lines
    assert "recipe     tsm_demo  takes its samples" in lines

    main([str(path), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["opsets"] == {"": 13, "some.domain": 2}
    assert document["inputs"] == [{"name": "x", "dtype": "uint8", "shape": ["n", 8, 3, 64, 64]}]
    assert document["operators"]["Relu"] == 3
    assert document["recipes"] == [{"recipe": "tsm_demo", "fits": True, "takes": "samples"}]


@pytest.mark.parametrize(
    ("shape", "classes", "fits"),
    [
        ([4, *I3D.views.sample_shape], 400, ["i3d_k400", "samples"]),
        ([4, *I3D.one_view().views.sample_shape], 400, ["i3d_k400", "single views"]),
        ([4, *DEMO.views.sample_shape], 13, None),
        ([4, *DEMO.views.sample_shape[1:]], 12, None),
    ],
)
def test_recipes_are_those_of_the_shapes(
    tmp_path: Path, shape: list[int], classes: int, fits: list[str] | None
) -> None:
    found = inspect_onnx(model(tmp_path / "m.onnx", shape, classes), recipes=[DEMO, I3D])
    assert found.fits == ((tuple(fits),) if fits else ())
    assert ("none" in found.text()) == (fits is None)


def test_a_model_for_aipp_takes_frames(tmp_path: Path) -> None:
    properties = aipp_of(DEMO.views).metadata
    path = model(tmp_path / "m.onnx", [8, *DEMO.views.sample_shape[1:]], 12, **properties)
    assert inspect_onnx(path, recipes=[DEMO]).fits == (("tsm_demo", "frames for AIPP"),)


@pytest.mark.parametrize("name", ["o_function_bomb", "o_loop_forever", "o_input_4TB", "o_ext_long"])
def test_a_hostile_model_is_refused(name: str) -> None:
    with pytest.raises(BadDataError):
        main([str(FIXTURES / "attacks" / f"{name}.onnx")])


def test_a_model_is_recognized_by_its_name_or_first_byte(tmp_path: Path) -> None:
    for name, content, expected in (
        ("a.onnx", b"", True),
        ("a.bin", b"\x08\x07", True),
        ("a.pth", b"PK", False),
    ):
        (tmp_path / name).write_bytes(content)
        assert is_onnx(tmp_path / name) == expected
    with pytest.raises(BadDataError, match="not an ONNX model"):
        main([str(tmp_path / "a.onnx")])
