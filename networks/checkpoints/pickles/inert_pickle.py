"""Read pickles as data: no name in them is imported, no callable is called.

A pickle is a program for a stack machine, and Python's own reader calls any callable in it. This reader is that stack
machine without the calls: it keeps the name of a class and, of a call, the name, the arguments and the state set
afterwards. Containers, numbers and texts are returned as they are. The operations are those of pickle protocols 0 to 5
(`Lib/pickletools.py`) without the extension registry and out-of-band buffers, which neither torch nor Paddle uses.
"""

from __future__ import annotations

import pickletools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

from networks.checkpoints.pickles.pickle_names import names_data
from vidom.errors import BadDataError
from vidom.wording import shown

__all__ = ["ByteStream", "Call", "Global", "Pickled", "Stored", "read_pickle"]

# A ResNet-101 with its optimizer has some 50,000; the limit bounds the memory that a hostile pickle can allocate.
_MAX_OPERATIONS = 500_000

# Tuples are excluded because hashing a deeply nested one overflows the interpreter's stack, larger integers because
# all multiples of 2^61 - 1 have the same hash: a dictionary of them takes quadratic time.
_KEYS = (str, bytes, int, float)
_LARGEST_KEY = 2**60


class ByteStream(Protocol):
    """A sequential byte stream; a `read` beyond the end allocates only the existing bytes."""

    def read(self, size: int, /) -> bytes: ...  # noqa: D102
    def readline(self) -> bytes: ...  # noqa: D102


@dataclass(frozen=True)
class Global:
    """The name of a class or function, which is not imported."""

    name: str


@dataclass(eq=False)
class Call:
    """An object that the pickle would create by calling `name` with `arguments`; nothing is called.

    `state` is what the object would be set to, such as the elements of a numpy array.
    """

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(frozen=True, eq=False)
class Stored:
    """A persistent identifier: data stored outside the pickle, for torch a storage."""

    identifier: Any


@dataclass(frozen=True)
class Pickled:
    """The object in a pickle, and its persistent identifiers in order of appearance."""

    content: Any
    stored: tuple[Stored, ...]


def read_pickle(stream: ByteStream, *, source: str, names: Collection[str] | None = None) -> Pickled:
    """Return the object that the pickle at the stream's position describes, with inert placeholders for objects.

    A class becomes Global, an instance Call (its items are dropped), `OrderedDict` a dict and a persistent identifier
    Stored. Dictionary entries whose keys are neither texts nor numbers are dropped. The stream is positioned at the
    pickle's end afterwards.

    Raises BadDataError, with `source`, when the pickle is malformed, has more than half a million operations, or refers
    to anything but `names`; without them, to anything in Python's standard library that is not a data type.
    """
    machine = _Machine(source, names)
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):  # type: ignore[arg-type]
            if count == _MAX_OPERATIONS:
                raise ValueError(f"it has more than {_MAX_OPERATIONS} operations")
            machine.step(operation.name, argument)
        return Pickled(machine.pop(), tuple(machine.stored))
    except (ValueError, LookupError) as error:
        raise BadDataError(
            f"{source} is damaged or not a checkpoint: its pickle cannot be read "
            f"({shown(error)}). Download it again and compare its sha256 with the published one."
        ) from None


class _Machine:
    """The stack and the memo during the reading of a pickle."""

    def __init__(self, source: str, names: Collection[str] | None) -> None:
        self.stored: list[Stored] = []
        self._source = source
        self._names = names
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self._stack.append(_MARK)
            case "POP":
                # The only operation that may also remove a mark.
                self._stack.pop()
            case "POP_MARK":
                self._items()
            case "DUP":
                self._stack.append(self._stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[argument])
            case _ if name in _LITERALS:
                self._stack.append(argument)
            case _ if name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            case _:
                if not self._container(name) and not self._object(name, argument):
                    raise ValueError(f"operation {name} is not used by checkpoints")

    def pop(self) -> Any:
        """Remove and return the top of the stack."""
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("an operand is missing")
        return value

    def _container(self, name: str) -> bool:
        match name:
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = 0 if name == "EMPTY_TUPLE" else int(name[-1])
                self._stack.append(tuple([self.pop() for _ in range(count)][::-1]))
            case "TUPLE":
                self._stack.append(tuple(self._items()))
            case "EMPTY_LIST" | "LIST":
                self._stack.append(self._items() if name == "LIST" else [])
            case "EMPTY_DICT" | "DICT":
                items = self._items() if name == "DICT" else []
                self._stack.append({})
                self._set(items)
            case "SETITEM" | "SETITEMS":
                self._set(self._items() if name == "SETITEMS" else [self.pop(), self.pop()][::-1])
            case "APPEND" | "APPENDS":
                items = self._items() if name == "APPENDS" else [self.pop()]
                # What is appended to a placeholder of a list is dropped.
                if isinstance(self._stack[-1], list):
                    self._stack[-1].extend(items)
            case "EMPTY_SET" | "FROZENSET" | "ADDITEMS":
                if name != "EMPTY_SET":
                    self._items()
                if name != "ADDITEMS":
                    self._stack.append(Call("builtins.set", ()))
            case _:
                return False
        return True

    def _object(self, name: str, argument: Any) -> bool:
        match name:
            case "GLOBAL":
                self._stack.append(self._named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = self.pop(), self.pop()
                self._stack.append(self._named(module, attribute))
            case "REDUCE" | "NEWOBJ":
                arguments, target = self.pop(), self.pop()
                self._stack.append(_called(target, arguments))
            case "NEWOBJ_EX":
                _, arguments, target = self.pop(), self.pop(), self.pop()
                self._stack.append(_called(target, arguments))
            case "INST":
                self._stack.append(_called(self._named(*argument.split(" ", 1)), tuple(self._items())))
            case "OBJ":
                target, *rest = self._items()
                self._stack.append(_called(target, tuple(rest)))
            case "BUILD":
                state = self.pop()
                if isinstance(self._stack[-1], Call):
                    self._stack[-1].state = state
            case "BINPERSID":
                self.stored.append(Stored(self.pop()))
                self._stack.append(self.stored[-1])
            case _:
                return False
        return True

    def _items(self) -> list[Any]:
        items: list[Any] = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _set(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise ValueError("a key without a value")
        if isinstance(self._stack[-1], dict):
            pairs = zip(items[::2], items[1::2], strict=True)
            self._stack[-1].update((key, value) for key, value in pairs if _is_key(key))

    def _named(self, module: Any, attribute: Any) -> Global:
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise ValueError("a class whose name is not a text")
        # Pickles of protocol 2 and below keep Python 2's name of this module.
        name = f"{'builtins' if module == '__builtin__' else module}.{attribute}"
        if not (names_data(name) if self._names is None else name in self._names):
            raise BadDataError(
                f"{self._source} refers to `{shown(name)}`, which no checkpoint needs and which could run code on this "
                "machine. Nothing was executed. Do not use this file, and download the checkpoint from its publisher."
            )
        return Global(name)


def _is_key(value: Any) -> bool:
    return isinstance(value, _KEYS) and not (isinstance(value, int) and abs(value) > _LARGEST_KEY)


def _called(target: Any, arguments: Any) -> Any:
    if not isinstance(target, Global) or not isinstance(arguments, tuple):
        raise ValueError("a call of something other than a class")
    return {} if target.name == "collections.OrderedDict" and not arguments else Call(target.name, arguments)


_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
