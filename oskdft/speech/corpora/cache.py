"""Arrays that are remembered between runs: one file per corpus root in the user's cache folder.

The corpus itself may be on a read-only disk.
"""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from oskdft.utils import files
from oskdft.utils.console import say


def cache_dir() -> Path:
    """The package's cache folder: $XDG_CACHE_HOME/oskdft, ~/.cache/oskdft, or without a home a temporary one.

    >>> cache_dir().name
    'oskdft'
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base:
        return Path(base) / "oskdft"
    try:
        return Path.home() / ".cache" / "oskdft"
    except RuntimeError:  # no HOME, and a user without a passwd entry
        return Path(tempfile.gettempdir()) / f"oskdft-{os.getuid()}"


def cache_file(kind: str, root: str | Path) -> Path:
    """File of the arrays of one kind ("scans") and one corpus root."""
    name = hashlib.blake2b(os.fsencode(os.path.realpath(root)), digest_size=12).hexdigest()
    return cache_dir() / kind / f"{name}.npz"


def load(kind: str, root: str | Path, names: Iterable[str]) -> dict[str, np.ndarray] | None:
    """The arrays that `save` stored under these names, or None if there are none."""
    path = cache_file(kind, root)
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        say(f"{path} is damaged ({error}): it is made again")
        return None


def save(kind: str, root: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Store arrays, replacing earlier ones; a cache that cannot be written is reported."""
    try:
        with files.atomic(cache_file(kind, root), "wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        say(f"{kind} are not remembered ({error}); set XDG_CACHE_HOME to a writable folder")
