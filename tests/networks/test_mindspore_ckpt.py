"""MindSpore's files: the values of real ones, rejected ones, and the cost of hostile ones."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mindspore_bytes import checkpoint, entry, field, mindir, parameter, varint, with_crc
from stnet_truths import mindspore_name, reference_weights

from networks.checkpoints.checkpoint import load_state
from networks.checkpoints.mindir import is_mindir, read_mindir
from networks.checkpoints.mindspore_ckpt import read_ckpt
from networks.checkpoints.mindspore_weights import mindspore_key, read_mindspore, xception_is_depthwise
from networks.stnet import StNet
from vidom.errors import BadDataError, UsageError

TINY = {"num_classes": 5, "num_segments": 3, "frames_per_segment": 2, "pool_size": 2, "base_channels": 8}
HUGE = 2**62
FLOAT = np.float32(1.5).tobytes()


@pytest.fixture(scope="module")
def truths(fixtures: Path) -> Path:
    return fixtures / "mindspore"


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[bytes], Path]:
    def store(content: bytes) -> Path:
        path = tmp_path / "weights.ckpt"
        path.write_bytes(content)
        return path

    return store


@pytest.mark.parametrize("name", ["small", "dtypes_crc"])
def test_every_entry_has_the_value_that_mindspore_reads(truths: Path, name: str) -> None:
    found, _ = read_ckpt(truths / f"{name}.ckpt")
    with np.load(truths / f"{name}_values.npz".replace("small_", "small_ckpt_")) as expected:
        assert list(found) == expected.files
        for key, array in found.items():
            assert (array.dtype, array.shape) == (expected[key].dtype, expected[key].shape), key
            np.testing.assert_array_equal(array, expected[key], err_msg=key)


def test_slices_of_one_tensor_are_joined(truths: Path) -> None:
    found, _ = read_ckpt(truths / "chunked.ckpt")
    with np.load(truths / "small_ckpt_values.npz") as expected:
        assert list(found) == ["conv1.weight", "bn1.gamma", "fc.bias"]
        for key, array in found.items():
            np.testing.assert_array_equal(array, expected[key], err_msg=key)


def test_the_spelling_and_scalars_of_1x_are_read(truths: Path) -> None:
    found, _ = read_ckpt(truths / "legacy_1x_synthetic.ckpt")
    assert found["learning_rate"].shape == ()
    assert found["learning_rate"] == np.float32(0.01)
    np.testing.assert_array_equal(found["u8"], np.array([1, 2, 255], np.uint8))
    np.testing.assert_array_equal(found["one"], np.array([2.5], np.float32))
    np.testing.assert_array_equal(found["w"], np.arange(6, dtype=np.float32).reshape(2, 3))


def test_bfloat16_is_widened_exactly(stored: Callable[[bytes], Path]) -> None:
    values = torch.randn(5, 7).bfloat16()
    found, _ = read_ckpt(stored(entry("w", "BFloat16", (5, 7), values.view(torch.int16).numpy().tobytes())))
    assert found["w"].dtype == np.float32
    np.testing.assert_array_equal(found["w"], values.float().numpy())


def test_the_optimizers_entries_are_dropped_and_its_numbers_kept(truths: Path) -> None:
    read = read_mindspore(truths / "small.ckpt")
    with np.load(truths / "small_ckpt_values.npz") as expected:
        assert read.meta == {
            name: expected[name].item() for name in ("learning_rate", "momentum", "global_step")
        }
        weights = [name for name in expected.files if "." in name and not name.startswith("moments.")]
        assert list(read.state_dict) == [mindspore_key(name) for name in weights]
        for name in weights:
            np.testing.assert_array_equal(read.state_dict[mindspore_key(name)], expected[name], err_msg=name)


def test_the_originals_training_entries_are_the_network_and_its_optimizer(
    truths: Path, stored: Callable[[bytes], Path]
) -> None:
    names = json.loads((truths / "train_ckpt_keys.json").read_text())["order"]
    content = checkpoint({name: np.zeros(1 if "." in name else (), np.float32) for name in names})
    with torch.device("meta"):
        state = StNet(**TINY).state_dict()
    expected = {key for key in state if not key.endswith("num_batches_tracked")}
    assert set(read_mindspore(stored(content)).state_dict) == expected


def tiny_weights() -> dict[str, np.ndarray]:
    """Return the weights of a complete small network under MindSpore's names."""
    weights = reference_weights(StNet(**TINY).state_dict())
    return {mindspore_name(key): value.numpy() for key, value in weights.items()}


def as_ckpt(weights: dict[str, np.ndarray]) -> bytes:
    return checkpoint(weights, crc=True)


def as_mindir(weights: dict[str, np.ndarray]) -> bytes:
    return mindir(parameter(name, array) for name, array in weights.items())


def as_mindir_with_names_elsewhere(weights: dict[str, np.ndarray]) -> bytes:
    return mindir(parameter(name, array, name_field=8) for name, array in weights.items())


def as_prefixed_ckpt(weights: dict[str, np.ndarray]) -> bytes:
    return checkpoint({f"network.backbone.{name}": array for name, array in weights.items()})


@pytest.mark.parametrize("write", [as_ckpt, as_mindir, as_mindir_with_names_elsewhere, as_prefixed_ckpt])
def test_a_complete_network_is_loaded(stored: Callable[[bytes], Path], write: Any) -> None:
    weights = tiny_weights()
    read = read_mindspore(stored(write(weights)))
    network = StNet(**TINY)
    load_state(network, read.state_dict, source="the file")
    for key, value in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(value, weights[mindspore_name(key)], err_msg=key)


def test_a_part_of_a_network_is_rejected_with_a_table(truths: Path) -> None:
    with torch.device("meta"):
        network = StNet(num_classes=400)
    with pytest.raises(
        BadDataError, match=r"keys missing: 290, unexpected: 0(?s:.*)layer1\.0\.conv1\.weight"
    ):
        load_state(network, read_mindspore(truths / "small.ckpt").state_dict, source="The checkpoint")


def test_a_deeper_networks_blocks_are_unexpected(stored: Callable[[bytes], Path]) -> None:
    weights = {**tiny_weights(), "layer3.6.conv1.weight": np.zeros((2, 2, 1, 1), np.float32)}
    with pytest.raises(BadDataError, match="unexpected: 1"):
        load_state(
            StNet(**TINY), read_mindspore(stored(checkpoint(weights))).state_dict, source="The checkpoint"
        )


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_depthwise_head_is_detected_from_the_weights(depthwise: bool) -> None:
    with torch.device("meta"):
        state = StNet(**TINY, depthwise=depthwise).state_dict()
    assert xception_is_depthwise(state) is depthwise


def test_formats_are_detected_from_the_bytes(truths: Path, stored: Callable[[bytes], Path]) -> None:
    assert not is_mindir(truths / "small.ckpt")
    assert is_mindir(stored(mindir([])))


@pytest.mark.parametrize(
    ("magic", "cipher"), [(0x7F3A5ED8, "AES-GCM"), (0x7F3A5ED9, "AES-CBC"), (0x7F3A5EDA, "SM4-CBC")]
)
def test_encrypted_files_are_rejected_with_their_cipher(
    stored: Callable[[bytes], Path], magic: int, cipher: str
) -> None:
    with pytest.raises(BadDataError, match=f"encrypted with {cipher}"):
        read_mindspore(stored(magic.to_bytes(4, "little") + bytes(100)))


def test_a_file_encrypted_by_mindspore_is_rejected(truths: Path) -> None:
    with pytest.raises(BadDataError, match="encrypted"):
        read_mindspore(truths / "encrypted.ckpt")


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent"):
        read_mindspore(tmp_path / "absent.ckpt")


@pytest.mark.parametrize("position", [0, 100, 300, 440, 460])
def test_a_changed_byte_breaks_the_checksum(
    truths: Path, stored: Callable[[bytes], Path], position: int
) -> None:
    content = bytearray((truths / "dtypes_crc.ckpt").read_bytes())
    content[position] ^= 0x10
    with pytest.raises(BadDataError):
        read_ckpt(stored(bytes(content)))


def without_end(tensor: bytes) -> bytes:
    return field(1, field(1, "w") + field(2, tensor))


NAMED = field(2, "Float32")
HOSTILE = {
    "nothing": b"",
    "zeros": bytes(1000),
    "text": b"not a checkpoint at all, but a page that says 404\n" * 20,
    "a zip": b"PK\x03\x04" + bytes(100),
    "safetensors": (64).to_bytes(8, "little") + b'{"w":{"dtype":"F32"}}' + bytes(100),
    "entry of 2^62 bytes": b"\x0a" + varint(HUGE) + b"\x0a\x01w",
    "content of 2^62 bytes": without_end(field(1, 4) + NAMED + b"\x1a" + varint(HUGE) + FLOAT),
    "name of 2^62 bytes": field(1, b"\x0a" + varint(HUGE) + b"w"),
    "dims of 2^62": entry("w", "Float32", (HUGE,), FLOAT),
    "dims whose product wraps": entry("w", "Float32", (2**32, 2**32), b""),
    "dims of 0 and 2^62": entry("w", "Float32", (0, HUGE), b""),
    "negative dims": entry("w", "Float32", (2**64 - 1, 2**64 - 1), FLOAT),
    "no content": entry("w", "Float32", (3,), b""),
    "a million dims": entry("w", "Float32", (1,) * 1_000_000, FLOAT),
    "nine dims": entry("w", "Float32", (1,) * 9, FLOAT),
    "a million entries": entry("w", "Float32", (1,), FLOAT) * 1_000_000,
    "a million empty entries": b"\x0a\x00" * 1_000_000,
    "a million unknown fields": field(1, field(9, 1) * 1_000_000),
    "a number that never ends": b"\x0a" + b"\xff" * 100_000,
    "a wrong type": entry("w", "Float64", (1,), FLOAT),
    "an unknown type": entry("w", "Complex64" * 1000, (1,), FLOAT * 2),
    "no type": without_end(field(1, 1) + field(3, FLOAT)),
    "no name": field(1, field(2, field(1, 1) + NAMED + field(3, FLOAT))),
    "an empty tensor message": field(1, field(1, "w") + field(2, b"")),
    "a name that is not a text": field(1, field(1, b"\xff\xfe") + field(2, NAMED + field(3, FLOAT))),
    "two contents": without_end(field(1, 1) + NAMED + field(3, FLOAT) + field(3, FLOAT)),
    "one name twice": b"".join(entry(name, "Float32", (1,), FLOAT) for name in "wvw"),
    "one tensor too often": entry("w", "Float32", (1,), FLOAT) * 2,
    "slices of two shapes": entry("w", "Float32", (2,), FLOAT) + entry("w", "Float32", (3,), FLOAT),
    "a map tensor": field(1, field(1, "w") + field(3, b"")),
    "a group": b"\x0b\x0c",
    "field 0": b"\x02\x00",
    "a different message": field(2, b"abc"),
    "a text of odd bytes": entry("w", "str", (0,), b"abc"),
    "half a checksum": with_crc(entry("w", "Float32", (1,), FLOAT))[:-1],
    "a wrong checksum": entry("w", "Float32", (1,), FLOAT) + b"crc_num" + bytes(10),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name == "a million entries" else ()) for name in HOSTILE],
)
def test_hostile_checkpoints_are_bad_data_and_cost_little(stored: Callable[[bytes], Path], name: str) -> None:
    path = stored(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(BadDataError) as caught:
            read_mindspore(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32e6
    assert len(str(caught.value)) < 1500


def test_weights_other_than_floats_are_rejected(stored: Callable[[bytes], Path]) -> None:
    with pytest.raises(BadDataError, match=r"fc\.weight \(int8\)"):
        read_mindspore(stored(entry("fc.weight", "Int8", (4,), b"abcd")))


def test_two_names_of_one_tensor_are_rejected(stored: Callable[[bytes], Path]) -> None:
    both = checkpoint({name: np.ones(3, np.float32) for name in ("bn1.gamma", "bn1.weight")})
    with pytest.raises(BadDataError, match="two entries for bn1.weight"):
        read_mindspore(stored(both))


HOSTILE_MINDIR = {
    "no graph": field(1, "0.1.0"),
    "no parameters": mindir([]),
    "weights elsewhere": mindir(
        [parameter("w", np.ones(2, np.float32)) + field(12, field(1, "/etc/passwd"))]
    ),
    "big-endian": mindir([parameter("w", np.ones(2, np.float32))], little_endian=0),
    "one name twice": mindir([parameter("w", np.ones(2, np.float32))] * 2),
    "no name": mindir([field(1, 1) + field(2, 1) + field(9, FLOAT)]),
    "a text": mindir([field(1, 1) + field(2, 8) + field(7, "w") + field(9, FLOAT)]),
    "too short": mindir([field(1, 9) + field(2, 1) + field(7, "w") + field(9, FLOAT)]),
    "a graph of 2^62 bytes": field(1, "0.1.0") + b"\x3a" + varint(HUGE),
    "a million parameters": field(1, "0.1.0") + field(7, field(3, b"") * 1_000_000),
    "a million nodes": field(1, "0.1.0") + field(7, field(1, b"") * 1_000_000),
}


@pytest.mark.parametrize("name", HOSTILE_MINDIR)
def test_hostile_models_are_bad_data(stored: Callable[[bytes], Path], name: str) -> None:
    with pytest.raises(BadDataError):
        read_mindir(stored(HOSTILE_MINDIR[name]))


def mutated(content: bytes, generator: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(generator.randint(1, 8)):
        at = generator.randrange(len(out))
        match generator.randrange(5):
            case 0:
                out[at] = generator.randrange(256)
            case 1:
                out[at] ^= 1 << generator.randrange(8)
            case 2:
                del out[at : at + generator.randint(1, 9)]
            case 3:
                out[at:at] = generator.randbytes(generator.randint(1, 9))
            case _:
                out[at:at] = varint(2 ** generator.randint(7, 63))
        if not out:
            return b""
    return bytes(out)


@pytest.mark.parametrize("name", ["dtypes_crc.ckpt", "legacy_1x_synthetic.ckpt", "a model"])
def test_damaged_files_are_read_or_rejected(truths: Path, stored: Callable[[bytes], Path], name: str) -> None:
    if name == "a model":
        arrays = {"bn1.gamma": np.ones(4, np.float32), "fc.weight": np.zeros((2, 3), np.float64)}
        whole = mindir(parameter(key, array) for key, array in arrays.items())
    else:
        # Without the checksum, which would detect nearly all damage before parsing.
        whole = (truths / name).read_bytes().partition(b"crc_num")[0]
    generator, outcomes = random.Random(name), {"read": 0, "rejected": 0}
    for _ in range(250):
        try:
            read_mindspore(stored(mutated(whole, generator)))
            outcomes["read"] += 1
        except BadDataError:
            outcomes["rejected"] += 1
    assert outcomes["rejected"] > 100


def test_every_prefix_is_rejected_or_holds_the_first_entries(
    truths: Path, stored: Callable[[bytes], Path]
) -> None:
    whole = (truths / "dtypes_crc.ckpt").read_bytes()
    names = list(read_ckpt(stored(whole))[0])
    read = 0
    for length in range(len(whole)):
        try:
            found = list(read_ckpt(stored(whole[:length]))[0])
        except BadDataError:
            continue
        assert found == names[: len(found)]
        read += 1
    # Between two entries it cannot be detected that more should follow.
    assert read == len(names)
