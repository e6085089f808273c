"""Typed dataclasses from YAML: names and types are checked, an error is one line with the fix."""

import dataclasses
import difflib
import os
import reprlib
import typing
from pathlib import Path
from typing import Any, Literal

import yaml

from oskdft.utils.named_code import NamedCode, is_named


def read_yaml(cls: type, path: Path) -> Any:
    """Build a dataclass from a YAML file; every error is one line that names the file."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also not UTF-8, nested too deep
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid YAML ({reason}); correct it there") from None
    try:
        return build(cls, tree)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def build(cls: type, tree: Any, prefix: str = "") -> Any:
    """Build a dataclass from nested plain values; an absent name has its default.

    Args:
        cls: its fields have types int, float, bool, str, Literal, Literal | NamedCode, tuple or a
            dataclass.
        tree: {name: value}, for a dataclass inside it a dict again; names in ``cls.RETIRED`` are
            skipped.
        prefix: dotted name of ``tree`` in messages, with the dot.
    Raises:
        ValueError: an unknown name, or a value of another type.

    >>> @dataclasses.dataclass
    ... class Sizes:
    ...     layers: int = 2
    >>> build(Sizes, {"layers": "many"})
    Traceback (most recent call last):
    ValueError: layers is 'many'; write a whole number
    """
    if not isinstance(tree, dict):
        where = f"{prefix[:-1]} is" if prefix else "the configuration is"
        raise ValueError(f"{where} {tree!r}; write `key: value` lines")
    tree = {key: value for key, value in tree.items() if key not in getattr(cls, "RETIRED", ())}
    hints = typing.get_type_hints(cls)
    unknown = [key for key in tree if key not in hints]
    if unknown:
        raise ValueError(f"unknown setting {prefix}{unknown[0]}; {nearest(str(unknown[0]), hints)}")
    values = {}
    for key, value in tree.items():
        if dataclasses.is_dataclass(hints[key]):
            values[key] = build(hints[key], value, f"{prefix}{key}.")
        else:
            values[key] = _cast(value, hints[key], f"{prefix}{key}")
    return cls(**values)


def _cast(value: Any, kind: Any, name: str) -> Any:
    """Return the value as ``kind``, or raise one line that names the expected form."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    words = choices(kind)
    if words:
        outside = NamedCode in args
        if value in words or (outside and is_named(value)):
            return value
        listed = ", ".join(str(word) for word in words if word != "")
        listed += " or package.module:Class" if outside else ""
        raise ValueError(f"{name} is {shown(value)}; choose {listed}")
    if origin is tuple:
        return _cast_tuple(value, args, name)
    if kind is float and isinstance(value, str):
        # YAML reads 1e-4 as text, it wants 1.0e-4
        try:
            value = float(value)
        except ValueError:
            raise ValueError(
                f"{name} is {shown(value)}; write a number such as 0.1 or 1.0e-4"
            ) from None
    if kind is float and type(value) in (int, float):
        if not abs(value) <= 1e300:
            raise ValueError(f"{name} is {shown(value)}; write a finite number")
        return float(value)
    if kind is str and isinstance(value, str) and value.startswith("~/"):
        return os.path.expanduser(value)  # a shell does not, behind an equals sign
    if type(value) is kind:
        return value
    form = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
    raise ValueError(f"{name} is {shown(value)}; write {form}")


def choices(kind: Any) -> tuple:
    """The words of a Literal, or of Literal | NamedCode; () for other types.

    >>> choices(Literal["ecapa", "linear"] | NamedCode), choices(int)
    (('ecapa', 'linear'), ())
    """
    if typing.get_origin(kind) is Literal:
        return typing.get_args(kind)
    inner = typing.get_args(kind)
    return choices(inner[0]) if NamedCode in inner else ()


def shown(value: Any) -> str:
    """A value for a message: one line, shortened where it is long or nested."""
    text = reprlib.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _cast_tuple(value: Any, args: tuple, name: str) -> tuple:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} is {shown(value)}; write a list such as [1, 2]")
    if args[-1] is ...:
        return tuple(_cast(item, args[0], name) for item in value)
    if len(value) != len(args):
        raise ValueError(f"{name} has {len(value)} entries; write {len(args)}")
    return tuple(_cast(item, kind, name) for item, kind in zip(value, args, strict=True))


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """The end of a message about an unknown name: the names most like it, or all of them.

    >>> nearest("epoch", ["epochs", "batch"])
    'did you mean epochs?'
    """
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else f"known here: {', '.join(known)}"
