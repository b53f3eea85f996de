"""Which names in a pickle are data types, and which may be code."""

from __future__ import annotations

import sys

__all__ = ["names_data"]

# The modules and built-in names of the standard library with data types; checkpoints need no others.
_DATA_MODULES = {
    *("_codecs", "argparse", "array", "collections", "copyreg", "datetime", "decimal", "enum", "fractions"),
    *("functools", "pathlib", "types", "uuid", "zoneinfo"),
}
_DATA_BUILTINS = {
    *(
        "bool",
        "bytearray",
        "bytes",
        "complex",
        "dict",
        "float",
        "frozenset",
        "int",
        "list",
        "object",
        "range",
    ),
    *("set", "slice", "str", "tuple"),
}


def names_data(name: str) -> bool:
    """Return whether `name`, as `module.attribute`, is a data type or not in the standard library.

    Other packages' classes are harmless to a reader that calls nothing.
    """
    root, _, attribute = name.partition(".")
    if root not in sys.stdlib_module_names:
        return True
    return attribute in _DATA_BUILTINS if root == "builtins" else root in _DATA_MODULES
