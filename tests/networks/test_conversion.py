"""Checkpoints written in the formats of three frameworks, read by other means than vidom's readers."""

from __future__ import annotations

import json
import pickle
import pickletools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mindspore_bytes import checkpoint as ckpt_bytes
from mmaction2_files import META, equal, small
from stnet_truths import mindspore_name
from torch import Tensor, nn

from networks.checkpoints import mindspore_ckpt
from networks.checkpoints.any_file import read_any
from networks.checkpoints.mindspore_ckpt import read_ckpt, write_ckpt
from networks.checkpoints.mindspore_weights import mindspore_names, read_mindspore, read_moments
from networks.checkpoints.pdparams import read_pdopt, read_pdparams, write_paddle
from networks.checkpoints.pptsm_weights import internal_names, paddle_key
from networks.checkpoints.sgd_state import from_torch, torch_optimizer
from networks.checkpoints.torch_file import read_torch_file
from networks.conversion import ConvertOptions, convert, main
from networks.loading import build_network, load_network
from train.outputs.run_checkpoint import Progress, save_run
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import load_recipe

NAME_TABLE = "StructuredToParameterName@@"
NETWORKS: dict[str, dict[str, Any]] = {
    "tsm": {"depth": 10, "num_classes": 5, "base_channels": 8},
    "i3d": {"depth": 26, "num_classes": 5, "base_channels": 4},
    "pptsm": {"depth": 50, "num_classes": 5, "base_channels": 2},
    "stnet": {"num_classes": 5, "frames_per_segment": 2, "base_channels": 4},
}
RECIPES = {"tsm": "tsm_demo", "i3d": "i3d_k400", "pptsm": "pptsm_k400_uniform", "stnet": "stnet_k400"}
SHAPES = {"i3d": ["network.depth=26"], "stnet": ["views.clip_len=2"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[nn.Module, torch.optim.SGD, Path]]:
    """Return for each network one that took a step, its optimizer and the run's checkpoint."""
    folder, made = tmp_path_factory.mktemp("runs"), {}
    for arch, arguments in NETWORKS.items():
        torch.manual_seed(0)
        network = build_network(arch, arguments)
        # Two groups, so that the optimizer's order of the parameters is not the network's.
        flat, others = (
            [p for p in network.parameters() if (p.ndim == 1) is chosen] for chosen in (True, False)
        )
        optimizer = torch.optim.SGD([{"params": flat}, {"params": others}], lr=0.25, momentum=0.5)
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        path = folder / f"{arch}.pth"
        save_run(path, network, optimizer, Progress(step=6), identity={"seed": 1}, epoch=2, config="a = 1\n")
        made[arch] = network, optimizer, path
    return made


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    return {
        key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")
    }


def momentum_of(network: nn.Module, optimizer: torch.optim.SGD) -> dict[str, Tensor]:
    return {
        name: optimizer.state[parameter]["momentum_buffer"] for name, parameter in network.named_parameters()
    }


def converted(source: Path, target: Path) -> Path:
    convert(ConvertOptions(source=source, target=target))
    return target


def as_paddle_loads(path: Path) -> dict[str, Any]:
    """Return the content of a trusted file after checks of its pickle: Paddle's protocol and no names but numpy 1's."""
    content = path.read_bytes()
    texts: list[str] = []
    named = set()
    for operation, argument, _ in pickletools.genops(content):
        if operation.name == "PROTO":
            assert argument == 4
        if isinstance(argument, str):
            texts.append(argument)
        if operation.name == "STACK_GLOBAL":
            named.add(texts[-1])
    assert named == {"_reconstruct", "ndarray", "dtype"}
    assert "numpy.core.multiarray" in texts
    return pickle.loads(content)  # type: ignore[no-any-return]


def in_paddle(key: str, value: Tensor) -> np.ndarray:
    return value.numpy().T if key == "head.fc.weight" else value.numpy()


def test_pptsm_becomes_what_paddle_saves(runs: dict[str, Any], fixtures: Path, tmp_path: Path) -> None:
    network, optimizer, path = runs["pptsm"]
    target = converted(path, tmp_path / "model.pdparams")
    rows = json.loads((fixtures / "paddle" / "pptsm_50_keys.json").read_text())["params"]
    found = as_paddle_loads(target)
    table = found.pop(NAME_TABLE)
    assert list(table.items()) == [(row["name"], row["structured_paddle_name"]) for row in rows]
    assert list(found) == list(table)
    for row, (key, value) in zip(rows, weights_of(network).items(), strict=True):
        array = found[row["name"]]
        assert (array.dtype, array.ndim) == (np.float32, len(row["shape"]))
        np.testing.assert_array_equal(array, in_paddle(key, value), err_msg=key)

    state = as_paddle_loads(tmp_path / "model.pdopt")
    assert state.pop("LR_Scheduler") == {"last_epoch": 2, "last_lr": 0.25}
    named = state.pop(NAME_TABLE)
    trained = [row["structured_paddle_name"] for row in rows if row["trainable"]]
    assert list(state) == list(named) == [f"{name}_velocity_0" for name in trained]
    for name, (key, buffer) in zip(state, momentum_of(network, optimizer).items(), strict=True):
        np.testing.assert_array_equal(state[name], in_paddle(key, buffer), err_msg=key)


def walked(content: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a message: (number, int or bytes)."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = content[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(content):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        assert key & 7 == 2
        length = varint()
        assert at + length <= len(content)
        yield key >> 3, content[at : at + length]
        at += length


def as_mindspore_loads(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for number, entry in walked(path.read_bytes()):
        (name_field, name), (tensor_field, tensor) = walked(entry)
        assert (number, name_field, tensor_field) == (1, 1, 2)
        fields = list(walked(tensor))
        assert [field for field, _ in fields] == [1] * (len(fields) - 2) + [2, 3]
        *dims, (_, kind), (_, content) = fields
        found[name.decode()] = np.frombuffer(content, {b"Float32": "<f4", b"Int32": "<i4"}[kind]).reshape(
            [size for _, size in dims]
        )
    return found


def test_stnet_becomes_what_mindspore_saves(runs: dict[str, Any], fixtures: Path, tmp_path: Path) -> None:
    network, optimizer, path = runs["stnet"]
    found = as_mindspore_loads(converted(path, tmp_path / "model.ckpt"))
    original = json.loads((fixtures / "mindspore" / "train_ckpt_keys.json").read_text())
    assert list(found) == original["order"]
    for key, value in weights_of(network).items():
        np.testing.assert_array_equal(found.pop(mindspore_name(key)), value.numpy(), err_msg=key)
    for key, buffer in momentum_of(network, optimizer).items():
        np.testing.assert_array_equal(
            found.pop(f"moments.{mindspore_name(key)}"), buffer.numpy(), err_msg=key
        )
    numbers = {name: (list(value.shape), str(value.dtype)) for name, value in found.items()}
    assert numbers == {name: tuple(original["extra"][name]) for name in numbers}
    assert {name: value.item() for name, value in found.items()} == {
        "global_step": 6,
        "learning_rate": 0.25,
        "momentum": 0.5,
    }


@pytest.mark.parametrize("arch", ["tsm", "i3d"])
def test_a_run_becomes_what_mmaction2_saves(runs: dict[str, Any], tmp_path: Path, arch: str) -> None:
    network, optimizer, path = runs[arch]
    found = torch.load(converted(path, tmp_path / "model.pth"), weights_only=True)
    assert list(found) == ["meta", "state_dict", "optimizer"]
    assert found["meta"] == {"epoch": 2, "iter": 6, "seed": 1, "config": "a = 1\n"}
    assert equal(found["state_dict"], network.state_dict())
    again = torch.optim.SGD([{"params": group["params"]} for group in optimizer.param_groups], lr=1)
    again.load_state_dict(found["optimizer"])
    for name, parameter in network.named_parameters():
        expected = optimizer.state[parameter]["momentum_buffer"]
        assert torch.equal(again.state[parameter]["momentum_buffer"], expected), name
    assert [group["lr"] for group in again.param_groups] == [0.25, 0.25]


@pytest.mark.parametrize(("arch", "names"), [("pptsm", ["a.pdparams", "a.pdopt"]), ("stnet", ["a.ckpt"])])
def test_there_and_back_is_the_same(
    runs: dict[str, Any], tmp_path: Path, arch: str, names: list[str]
) -> None:
    network, optimizer, path = runs[arch]
    there = converted(path, tmp_path / names[0])
    back = converted(there, tmp_path / "back.pth")
    read = read_any(back)
    assert equal(
        {key: value for key, value in read.state_dict.items() if key in weights_of(network)},
        weights_of(network),
    )
    state = from_torch(torch_optimizer(read_torch_file(back)) or {}, read.meta)
    assert equal(state.buffers, momentum_of(network, optimizer))
    converted(back, tmp_path / "again" / names[0])
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("name", ["files/tiny.pdparams", "tiny_p26np1_proto4.pdparams", "files/tiny.pdopt"])
def test_a_file_of_paddle_is_written_again_byte_for_byte(fixtures: Path, tmp_path: Path, name: str) -> None:
    original = fixtures / "paddle" / name
    tensors = read_pdopt(original)[0] if name.endswith("opt") else read_pdparams(original).state_dict
    write_paddle(tmp_path / "again", tensors, table=pickle.loads(original.read_bytes())[NAME_TABLE])
    assert (tmp_path / "again").read_bytes() == original.read_bytes()


@pytest.mark.parametrize("name", ["small.ckpt", "chunked.ckpt"])
def test_a_file_of_mindspore_is_written_again_byte_for_byte(
    fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    original = fixtures / "mindspore" / name
    if name == "chunked.ckpt":
        # MindSpore's 512 MiB, reduced to 4 kiB when the file was made.
        monkeypatch.setattr(mindspore_ckpt, "_SLICE_BYTES", 4096)
    write_ckpt(tmp_path / "again", read_ckpt(original)[0])
    assert (tmp_path / "again").read_bytes() == original.read_bytes()


@pytest.mark.parametrize("depth", [50, 101])
def test_internal_names_are_those_of_paddle(fixtures: Path, depth: int) -> None:
    rows = json.loads((fixtures / "paddle" / f"pptsm_{depth}_keys.json").read_text())["params"]
    with torch.device("meta"):
        keys = build_network("pptsm", {"depth": depth, "num_classes": 400}).state_dict()
    found = {paddle_key(key): name for key, name in internal_names(keys).items()}
    assert list(found.items()) == [(row["name"], row["structured_paddle_name"]) for row in rows]


def test_names_of_mindspore_are_those_of_its_network(fixtures: Path) -> None:
    rows = json.loads((fixtures / "mindspore" / "stnet_keys.json").read_text())["parameters"]
    with torch.device("meta"):
        keys = build_network("stnet", {"num_classes": 400}).state_dict()
    assert sorted(mindspore_names(keys).values()) == sorted(row["name"] for row in rows)


@pytest.mark.parametrize("arch", list(NETWORKS))
def test_a_run_is_loaded_for_the_recipe_of_any_framework(runs: dict[str, Any], arch: str) -> None:
    network, _, path = runs[arch]
    width = f"network.base_channels={NETWORKS[arch]['base_channels']}"
    recipe = load_recipe(
        RECIPES[arch], ["dataset.num_classes=5", "dataset.labels=null", width, *SHAPES.get(arch, [])]
    )
    loaded, _ = load_network(recipe, str(path))
    assert equal(weights_of(loaded), weights_of(network))


FOREIGN_STATES: dict[str, dict[str, Any]] = {
    "not that of a single optimizer": {"generator": {"state": {}, "param_groups": []}},
    "does not name its parameters": {"state": {}, "param_groups": [{"params": [0], "lr": 0.1}]},
    "has no momentum of head.fc.bias": {
        "state": {0: {"exp_avg": torch.ones(2)}},
        "param_groups": [{"params": [0], "param_names": ["head.fc.bias"]}],
    },
}


@pytest.mark.parametrize("words", FOREIGN_STATES)
def test_other_states_of_an_optimizer_are_explained(tmp_path: Path, words: str) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": {"a": torch.ones(2)}, "optimizer": FOREIGN_STATES[words]}, path)
    with pytest.raises(ValueError, match=words):
        momentum_in(path)


def test_what_is_not_carried_over_is_reported(runs: dict[str, Any], tmp_path: Path) -> None:
    network, _, path = runs["pptsm"]
    stored = torch.load(path, weights_only=True)
    stored["optimizer"] = {"state": {}, "param_groups": []}
    torch.save(stored, tmp_path / "a.pth")
    done = convert(ConvertOptions(source=tmp_path / "a.pth", target=tmp_path / "a.pdparams"))
    assert list(done.tensors) == [tmp_path / "a.pdparams"]
    for words in ("does not fit the network", "55 counters num_batches_tracked", "epoch, iter, seed"):
        assert words in str(done)
    assert equal(read_any(tmp_path / "a.pdparams").state_dict, weights_of(network))


def test_another_optimizer_of_mindspore_is_left_out(runs: dict[str, Any], tmp_path: Path) -> None:
    source = converted(runs["stnet"][2], tmp_path / "run.ckpt")
    values = read_ckpt(source)[0]
    adam = {
        name.replace("moments.", "moment1."): value
        for name, value in values.items()
        if value.dtype == np.float32
    }
    (tmp_path / "adam.ckpt").write_bytes(ckpt_bytes(adam))
    done = convert(ConvertOptions(source=tmp_path / "adam.ckpt", target=tmp_path / "adam.pth"))
    assert "the optimizer's state is not that of Momentum" in str(done)
    assert "optimizer" not in torch.load(tmp_path / "adam.pth", weights_only=True)


def test_the_prefixes_of_other_programs_are_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = small().state_dict()
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "other.pth")
    main([str(tmp_path / "other.pth"), str(tmp_path / "model.pth")])
    found = torch.load(tmp_path / "model.pth", weights_only=True)
    assert equal(found["state_dict"], dict(state))
    printed = capsys.readouterr().out
    assert f"{tmp_path / 'model.pth'}: TSM, {len(state)} tensors" in printed
    assert "prefix 'module.' removed" in printed


def test_impossible_conversions_are_refused(checkpoint: Path, runs: dict[str, Any], tmp_path: Path) -> None:
    def refused(error: type[Exception], source: Path, target: str) -> str:
        with pytest.raises(error) as caught:
            convert(ConvertOptions(source=source, target=tmp_path / target))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    before = checkpoint.read_bytes()
    assert "is of TSM" in refused(UsageError, checkpoint, "a.ckpt")
    assert "is of TSM" in refused(UsageError, checkpoint, "a.pdparams")
    assert "is of StNet" in refused(UsageError, runs["stnet"][2], "a.pdparams")
    assert ".pth, .pdparams, .ckpt" in refused(UsageError, checkpoint, "a.onnx")
    assert "Choose another name" in refused(UsageError, checkpoint, checkpoint.name)
    assert "no checkpoint file" in refused(UsageError, tmp_path / "absent.pth", "a.pth")
    part = {key: value for key, value in small().state_dict().items() if "fc_cls" not in key}
    torch.save({"meta": META, "state_dict": part}, tmp_path / "part.pth")
    assert "looks like TSM, but 2 of its keys" in refused(BadDataError, tmp_path / "part.pth", "a.pth")
    torch.save({"state_dict": {"a": torch.ones(3)}}, tmp_path / "other.pth")
    assert "not of a supported network" in refused(BadDataError, tmp_path / "other.pth", "a.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.pth", "part.pth", "tsm.pth"]
    assert checkpoint.read_bytes() == before


def momentum_in(path: Path) -> object:
    optimizer = torch_optimizer(read_torch_file(path))
    return None if optimizer is None else from_torch(optimizer, {})


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.pdparams", read_pdparams),
        ("a.pdopt", read_pdopt),
        ("a.ckpt", read_mindspore),
        ("a.ckpt", read_moments),
        ("a.pth", momentum_in),
    ],
)
def test_written_files_that_are_damaged_are_read_or_rejected(
    runs: dict[str, Any], tmp_path: Path, name: str, read: Callable[[Path], object]
) -> None:
    parameter = nn.Parameter(torch.ones(4, 3))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    parameter.grad = torch.ones(4, 3)
    optimizer.step()
    path = tmp_path / name
    weights = {"conv1.weight": torch.ones(4, 3)}
    if name == "a.ckpt":
        names = ("conv1.weight", "bn1.gamma", "learning_rate", "moments.conv1.weight")
        write_ckpt(path, {one: np.ones(3, np.float32) for one in names})
    elif name == "a.pth":
        state = optimizer.state_dict()
        state["param_groups"][0]["param_names"] = ["conv1.weight"]
        torch.save({"meta": {"iter": 1}, "state_dict": weights, "optimizer": state}, path)
    else:
        table = {"conv1.weight": "w_velocity_0"}
        others = {"LR_Scheduler": {"last_epoch": 1, "last_lr": 0.1}} if name == "a.pdopt" else {}
        write_paddle(path, weights, others, table=table)
    whole, generator = path.read_bytes(), random.Random(name)
    read(path)
    rejected = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 6)):
            at = generator.randrange(len(damaged))
            match generator.randrange(3):
                case 0:
                    damaged[at] = generator.randrange(256)
                case 1:
                    del damaged[at : at + generator.randint(1, 9)]
                case _:
                    damaged[at:at] = generator.randbytes(generator.randint(1, 9))
        path.write_bytes(damaged)
        try:
            read(path)
        except (BadDataError, ValueError):
            rejected += 1
    assert rejected > 50
