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

MOST_BYTES = 1 << 20  # of a YAML file
DEEPEST = 20  # levels of maps and lists
LONGEST_NAME = 100  # characters


def read_yaml(cls: type, path: Path) -> Any:
    """Build a dataclass from a YAML file; every error is one line that names the file."""
    tree = yaml_file(path) or {}
    try:
        return build(cls, tree)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def yaml_file(path: Path) -> Any:
    """`plain_yaml` of a file.

    Raises:
        ValueError: too large, not UTF-8, or see `plain_yaml`; names the file.
    """
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES >> 20} MB; that is no configuration")
    try:
        return plain_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} is not valid YAML ({reason}); correct it there") from None


def plain_yaml(text: str) -> Any:
    """Values of a YAML text: maps, lists, text, numbers, true, false and null.

    Aliases and merges, with which a short text stands for a huge value, tags, which ask for other types,
    and keys that occur twice are refused; a date is text.

    Raises:
        ValueError: no YAML, or one of these; one line.

    >>> plain_yaml("train: {lr: 0.1}"), plain_yaml("2024-05-01")
    ({'train': {'lr': 0.1}}, '2024-05-01')
    >>> plain_yaml("[&a [], *a]")
    Traceback (most recent call last):
    ValueError: & and * give a value a name; write the value out
    """
    depth = 0
    try:
        for event in yaml.parse(text, _Plain):
            if getattr(event, "anchor", None):
                raise ValueError("& and * give a value a name; write the value out")
            if getattr(event, "tag", None) and event.tag != "!":  # "!": a text in quotes
                raise ValueError(f"{shown(event.tag)} names a type; write the value alone")
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]:
                raise ValueError("<< merges maps; write the entries out")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > DEEPEST:
                raise ValueError(f"it is nested more than {DEEPEST} times")
        return yaml.load(text, _Plain)  # a safe loader, made below
    except (yaml.YAMLError, RecursionError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())) from None


class _Plain(yaml.SafeLoader):
    """Reads dates as text, and refuses a map with the same key twice."""

    yaml_implicit_resolvers: typing.ClassVar = {
        first: [(tag, form) for tag, form in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            raise ValueError(f"a key occurs twice among {shown(list(found))}")
        return found


def require_name(name: str, what: str) -> None:
    """Refuse a name that would lead out of a folder, where it is used as the name of a file.

    Raises:
        ValueError: empty, long, hidden, with a slash or with characters that are not printed.

    >>> require_name("../x", "name")
    Traceback (most recent call last):
    ValueError: name is '../x'; write letters, digits, - and _
    """
    if not (0 < len(name) <= LONGEST_NAME and name.isprintable()) or (
        name.startswith(".") or "/" in name or "\\" in name
    ):
        raise ValueError(f"{what} is {shown(name)}; write letters, digits, - and _")


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
