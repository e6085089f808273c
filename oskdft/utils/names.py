"""A million names in little memory, and names in two unicode forms."""

import os
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np


class Names(Sequence[str]):
    """Strings in one piece of bytes: 8 bytes more than their letters take, each.

    >>> names = Names(["a.wav", "b.wav", "é.wav"])
    >>> len(names), names[2], list(names)
    (3, 'é.wav', ['a.wav', 'b.wav', 'é.wav'])
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.letters = bytearray()
        self.ends = array("q", [0])
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Add a name."""
        self.letters += os.fsencode(name)
        self.ends.append(len(self.letters))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> str:
        place = range(len(self))[index]
        return os.fsdecode(bytes(self.letters[self.ends[place] : self.ends[place + 1]]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Names):
            return NotImplemented
        return self.letters == other.letters and self.ends == other.ends

    __hash__ = None


def twice(names: Iterable[str]) -> tuple[int, int] | None:
    """Places of the first two equal names; None where all differ. Needs 8 bytes per name.

    >>> twice(["a", "b", "a"]), twice(["a", "b"])
    ((0, 2), None)
    """
    hashes = np.fromiter(map(hash, names), np.int64)
    order = np.argsort(hashes, kind="stable")
    equal = np.flatnonzero(np.diff(hashes[order]) == 0)
    if not len(equal):
        return None
    first, second = min((int(order[place]), int(order[place + 1])) for place in equal)
    return first, second


def composed(name: str) -> str:
    """The name in the composed unicode form (NFC), in which two forms of one name are equal.

    >>> composed("e" + chr(0x301)) == chr(0xE9)
    True
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def forms(name: str) -> Iterator[str]:
    """The name, then its other unicode forms: a Mac decomposes the names of files.

    >>> [len(form) for form in forms("Zo" + chr(0xEB))], list(forms("Zoe"))
    ([3, 4], ['Zoe'])
    """
    yield name
    if not name.isascii():
        others = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
        yield from (other for other in others if other != name)
