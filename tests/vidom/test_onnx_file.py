from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from vidom.errors import BadDataError, ExitCode
from vidom.formats.onnx_file import parse_onnx, read_onnx

ROOT = Path(__file__).resolve().parents[2]
ATTACKS = ROOT / "tests" / "fixtures" / "attacks"
REASONS = {
    "o_ext_long": "no name of a file",
    "o_function_bomb": "33554432 nodes once its functions are expanded",
    "o_input_4TB": "1000000×1000000",
    "o_loop_forever": "is a Loop",
}
OPSETS = '<ir_version: 8, opset_import: ["" : 13, "loc" : 1]>'


def refusal(content: bytes, folder: Path) -> str:
    with pytest.raises(BadDataError) as caught:
        parse_onnx(content, origin=folder / "m.onnx")
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    return text


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def small() -> onnx.ModelProto:
    return parsed(f"{OPSETS} g (float[2,3] x) => (float[2,3] y) {{ y = Relu(x) }}")


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))


@pytest.mark.parametrize("name", REASONS)
@pytest.mark.parametrize("command", ["modify", "infer"])
def test_an_attack_ends_with_one_paragraph_and_exit_code_4(command: str, name: str, tmp_path: Path) -> None:
    model, words = str(ATTACKS / f"{name}.onnx"), {
        "modify": ["export/modify_onnx.py", "-m1", "MODEL", "-m2", str(tmp_path / "new.onnx")],
        "infer": ["-m", "infer", "--model", "MODEL", "--engine", "onnxruntime", "--output", str(tmp_path)],
    }[command]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *(model if word == "MODEL" else word for word in words)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=limit_memory,
    )
    assert done.returncode == ExitCode.BAD_DATA, done.stderr
    assert REASONS[name].split()[-1] in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert not (tmp_path / "new.onnx").exists()


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_is_named(name: str) -> None:
    with pytest.raises(BadDataError, match=REASONS[name]):
        read_onnx(ATTACKS / f"{name}.onnx")


def with_functions(*bodies: tuple[str, str, str], called: str) -> bytes:
    """Return a model that calls `called` of the functions, each given by domain, name and body of `a => b`."""
    functions = "".join(
        f'<domain: "{domain}", opset_import: ["" : 13, "loc" : 1]> {name} (a) => (b) {{ {body} }} '
        for domain, name, body in bodies
    )
    text = f"{OPSETS} g (float[2,3] x) => (float[2,3] y) {{ y = {called}(x) }} {functions}"
    return parsed(text).SerializeToString()


def test_functions_that_call_themselves(tmp_path: Path) -> None:
    direct = with_functions(("loc", "F", "b = loc.F(a)"), called="loc.F")
    assert "F calls itself" in refusal(direct, tmp_path)
    in_a_ring = [("loc", "F", "b = loc.G(a)"), ("loc", "G", "b = loc.H(a)"), ("loc", "H", "b = loc.F(a)")]
    assert "calls itself" in refusal(with_functions(*in_a_ring, called="loc.F"), tmp_path)


def test_a_function_inside_the_branch_of_a_function(tmp_path: Path) -> None:
    branch = "b = If(c) <then_branch = t () => (u) { u = loc.F(a) }, else_branch = e () => (u) { u = Identity(a) }>"
    body = f"c = Constant <value = bool {{1}}> () {branch}"
    assert "calls itself" in refusal(with_functions(("loc", "F", body), called="loc.F"), tmp_path)


def test_functions_defined_twice(tmp_path: Path) -> None:
    model = parsed(
        f"{OPSETS} g (float[2] x) => (float[2] y) {{ y = loc.F(x) }}"
        ' <domain: "loc", opset_import: ["" : 13]> F (a) => (b) { b = Relu(a) }'
    )
    model.functions.append(model.functions[0])
    assert "defined twice" in refusal(model.SerializeToString(), tmp_path)


def test_functions_that_call_each_other_in_a_diamond_are_read(tmp_path: Path) -> None:
    bodies = [
        ("loc", "F", "t = loc.G(a) u = loc.H(a) b = Add(t, u)"),
        ("loc", "G", "t = loc.H(a) b = loc.H(t)"),
        ("loc", "H", "b = Relu(a)"),
    ]
    assert len(parse_onnx(with_functions(*bodies, called="loc.F"), origin=tmp_path / "m.onnx").functions) == 3


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_a_loop_in_a_branch_in_either_spelling_of_the_standard_domain(domain: str, tmp_path: Path) -> None:
    model = onnx.load(ATTACKS / "o_loop_forever.onnx")
    model.graph.node[0].domain = domain
    branch = helper.make_graph(list(model.graph.node), "b", [], [model.graph.output[0]])
    node = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    del model.graph.node[:]
    model.graph.node.append(node)
    assert "Loop" in refusal(model.SerializeToString(), tmp_path)


@pytest.mark.parametrize("where", ["input", "output", "value_info"])
def test_values_of_absurd_sizes_and_types(where: str, tmp_path: Path) -> None:
    for dims in ([1 << 62, 1 << 62], [1 << 16, 1 << 17], [(1 << 63) - 1]):
        model = small()
        del getattr(model.graph, where)[:]
        getattr(model.graph, where).append(helper.make_tensor_value_info("v", TensorProto.FLOAT, dims))
        assert "v of" in refusal(model.SerializeToString(), tmp_path)
    model = small()
    del getattr(model.graph, where)[:]
    getattr(model.graph, where).append(helper.make_tensor_value_info("v", 99, [2]))
    assert "unknown type 99" in refusal(model.SerializeToString(), tmp_path)
    getattr(model.graph, where)[0].CopyFrom(
        helper.make_tensor_sequence_value_info("v", TensorProto.FLOAT, [2])
    )
    assert "v is a sequence" in refusal(model.SerializeToString(), tmp_path)


def test_weights_of_absurd_sizes(tmp_path: Path) -> None:
    for dims, reason in (
        ([1 << 40], "more than"),
        ([-3], "negative size -3"),
        ([1 << 31, 1 << 33], "more than"),
    ):
        model = small()
        model.graph.initializer.append(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims))
        assert reason in refusal(model.SerializeToString(), tmp_path)
    model = small()
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 50]))
    assert "sparse weight w" in refusal(model.SerializeToString(), tmp_path)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("x" * 300, "no name of a file"),
        ("d/" * 3000, "no name"),
        ("a\0b", "no name"),
        ("", "outside"),
        ("../w", "out"),
    ],
)
def test_weights_at_absurd_places(location: str, reason: str, tmp_path: Path) -> None:
    model = small()
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    function = helper.make_function(
        "loc", "F", ["a"], ["b"], [helper.make_node("Constant", [], ["b"], value=tensor)], []
    )
    model.functions.append(function)
    assert reason in refusal(model.SerializeToString(), tmp_path)


def test_weights_in_a_pipe_and_models_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    model = small()
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="pipe")
    model.graph.initializer.append(tensor)
    assert "not next to it" in refusal(model.SerializeToString(), tmp_path)
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(BadDataError, match="not a regular file|Is a directory"):
            read_onnx(path)


def test_a_chain_of_more_nodes_than_are_read(tmp_path: Path) -> None:
    model = small()
    node = model.graph.node[0]
    model.graph.node.extend([node] * 100_000)
    assert "100001 nodes" in refusal(model.SerializeToString(), tmp_path)


def test_names_that_are_not_text(tmp_path: Path) -> None:
    model = small()
    model.graph.name = "sevensy"
    content = model.SerializeToString().replace(b"sevensy", b"seven\xe7y")
    assert "not UTF-8 text" in refusal(content, tmp_path)
