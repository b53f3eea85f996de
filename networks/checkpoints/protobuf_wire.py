"""Read and write the wire format of protocol buffers (protobuf.dev/programming-guides/encoding) without a schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Value", "encoded", "fields", "grouped", "number_in", "text_in", "view_in"]

Value = int | memoryview

_VARINT_BYTES = 10
_FIXED_BYTES = {1: 8, 5: 4}
_LENGTH_DELIMITED = 2


def encoded(number: int, value: int | bytes) -> bytes:
    """Return the field `number` with a varint of at least 0, or with bytes, such as a text or a nested message."""
    if isinstance(value, int):
        return _as_varint(number << 3) + _as_varint(value)
    return _as_varint(number << 3 | _LENGTH_DELIMITED) + _as_varint(len(value)) + value


def fields(message: memoryview, *, limit: int) -> Iterator[tuple[int, Value]]:
    """Yield (field number, value) of each field of `message`, in order, without copying.

    A varint or a fixed-width field gives an int (unsigned, little-endian), a length-delimited one a view of its bytes,
    which may be a nested message. Groups, which proto2 deprecates, are not supported.

    Raises ValueError where the message is malformed, a field exceeds its end, or it has more than `limit` fields.
    """
    at, end = 0, len(message)
    for _ in range(limit):
        if at == end:
            return
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if not number:
            raise ValueError(f"a field numbered 0 at byte {at} of its message")
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _LENGTH_DELIMITED:
            length, at = _varint(message, at)
        elif wire in _FIXED_BYTES:
            length = _FIXED_BYTES[wire]
        else:
            raise ValueError(f"a field of the unknown wire type {wire} at byte {at} of its message")
        if length > end - at:
            raise ValueError(f"a field of {length} bytes where its message has {end - at} left")
        part = message[at : at + length]
        yield number, part if wire == _LENGTH_DELIMITED else int.from_bytes(part, "little")
        at += length
    if at != end:
        raise ValueError(f"a message of more than {limit} fields")


def grouped(message: memoryview, *, limit: int) -> dict[int, list[Value]]:
    """Return the values of the fields of `message` by number; raises ValueError as `fields` does."""
    found: dict[int, list[Value]] = {}
    for number, value in fields(message, limit=limit):
        found.setdefault(number, []).append(value)
    return found


def number_in(found: Mapping[int, Sequence[Value]], number: int) -> int:
    """Return the required field as a number; raises ValueError unless it is present once."""
    value = _single(found, number)
    if not isinstance(value, int):
        raise ValueError(f"a field {number} that is not a number")
    return value


def view_in(found: Mapping[int, Sequence[Value]], number: int) -> memoryview:
    """Return the required field as bytes; raises ValueError unless it is present once."""
    value = _single(found, number)
    if isinstance(value, int):
        raise ValueError(f"a field {number} that is not length-delimited")
    return value


def text_in(found: Mapping[int, Sequence[Value]], number: int) -> str:
    """Return the required field as UTF-8 text; raises ValueError unless it is present once."""
    return bytes(view_in(found, number)).decode()


def _single(found: Mapping[int, Sequence[Value]], number: int) -> Value:
    values = found.get(number, ())
    if len(values) != 1:
        raise ValueError(f"a message that has its field {number} {len(values)} times instead of once")
    return values[0]


def _as_varint(value: int) -> bytes:
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index in range(min(_VARINT_BYTES, len(message) - at)):
        byte = message[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError(f"a number that does not end at byte {at} of its message")
