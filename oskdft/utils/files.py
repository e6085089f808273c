"""Files that are never half-written, and JSON that is read with care."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any

PART = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.part")  # names of the temporary files of `atomic`
ASSETS = Path(__file__).parents[1] / "assets"  # shipped teachers and student


@contextlib.contextmanager
def atomic(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """Open a temporary file beside ``path``; rename it to ``path`` when everything was written.

    Temporary files of ``path`` that killed processes have left are removed.

    Args:
        path: the file; missing folders are created.
        mode: "w" for text (UTF-8), "wb" for bytes.
    Raises:
        OSError: the folder is read-only or the disk is full; names ``path``, which is unchanged.
        ValueError: ``path`` is a device, a pipe or a folder; a rename would take its place.

    >>> import tempfile, pathlib
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
    >>> with atomic(target) as file:
    ...     _ = file.write("whole")
    >>> target.read_text()
    'whole'
    """
    path, temporary = Path(path), ""
    require_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left(path)
        handle, temporary = _temporary(path)
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        usual_mode(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        # the error names the temporary file, a folder or nothing; errors of the caller pass
        own = not temporary or getattr(error, "filename", "") in (None, temporary)
        if isinstance(error, OSError) and error.errno and own:
            reason = f"{error.strerror}; free some space or write elsewhere"
            raise OSError(error.errno, reason, str(path)) from None
        raise


def require_replaceable(path: str | Path) -> None:
    """Refuse a device, a pipe or a folder, whose place a renamed file would take.

    >>> require_replaceable("/dev/null")
    Traceback (most recent call last):
    ValueError: /dev/null is no file and would be replaced; name a new file
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is no file and would be replaced; name a new file")


def usual_mode(path: str | Path) -> None:
    """Let those read a file who may read a new one; a temporary file is its owner's alone."""
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(path, 0o666 & ~umask)


def _temporary(path: Path) -> tuple[int, str]:
    """A new temporary file of ``path``, open and locked: its lock tells it from what a kill has left."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with contextlib.suppress(OSError):  # a file system without locks: nothing is removed there
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # another process has removed it before it was locked


def remove_left(path: Path) -> None:
    """Remove the temporary files of ``path`` whose processes have ended, and no other file.

    The system frees the lock of a file when its process ends, however it ends.

    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in (".a.txt.k1ll3d_x.part", ".b.txt.k1ll3d_x.part", ".mine.part"):
    ...     (folder / name).touch()
    >>> remove_left(folder / "a.txt")
    >>> sorted(path.name for path in folder.iterdir())
    ['.b.txt.k1ll3d_x.part', '.mine.part']
    """
    named = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.part")
    with os.scandir(path.parent) as entries:
        left = [
            e.path for e in entries if named.fullmatch(e.name) and e.is_file(follow_symlinks=False)
        ]
    for name in left:
        with contextlib.suppress(OSError), open(name, "rb") as file:  # it is being written, or gone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name)


def check_room(folder: str | Path, need: int, what: str, fix: str) -> None:
    """Refuse to start on a disk with less than ``need`` bytes free.

    Args:
        folder: the folder to write to. need: bytes. what: subject and verb, such as "the run needs".
        fix: the advice at the end of the message.
    Raises:
        OSError: less is free; states both sizes.

    >>> check_room(".", 0, "nothing needs", "go on")
    """
    free = shutil.disk_usage(folder).free
    if free < need:
        raise OSError(f"{folder} has {free / 1e9:.2f} GB free, {what} {need / 1e9:.2f} GB; {fix}")


def require_writable(path: str | Path, option: str = "--out") -> None:
    """Refuse a target that cannot be written, before the work: what lies nearest to it is looked at.

    Raises:
        ValueError: a read-only folder or disk, or a folder below a file.

    >>> require_writable("/dev/null/a.txt")
    Traceback (most recent call last):
    ValueError: /dev/null/a.txt cannot be written: /dev/null is no folder; choose another --out
    """
    there = Path(os.path.abspath(path))
    while not os.path.exists(there):
        there = there.parent
    fault = "" if there.is_dir() else "is no folder"
    own = {"effective_ids": True} if os.access in os.supports_effective_ids else {}
    if not fault and not os.access(there, os.W_OK | os.X_OK, **own):
        fault = "is read-only, or another user's"
    if fault:
        raise ValueError(f"{path} cannot be written: {there} {fault}; choose another {option}")


def require_new(path: str | Path, option: str = "--out") -> Path:
    """The path of a file to be written, which must not exist: nothing is overwritten.

    Raises:
        ValueError: something is there, or it cannot be written.

    >>> require_new(Path(tempfile.mkdtemp()) / "file").name
    'file'
    """
    if Path(path).exists():
        raise ValueError(f"{path} exists and is not overwritten; choose another {option}")
    require_writable(path, option)
    return Path(path)


def require_new_folder(path: str | Path) -> Path:
    """The path of a folder to be filled, which must be absent or empty.

    What a process that was killed inside its first write has left does not count.

    Raises:
        ValueError: it holds something, is a file, or cannot be written.

    >>> require_new_folder(Path(tempfile.mkdtemp()) / "folder").name
    'folder'
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or not all(map(_is_left, path.iterdir()))):
        raise ValueError(f"{path} exists and is not empty; choose another --out")
    require_writable(path)
    return path


def _is_left(file: Path) -> bool:
    """Whether a file is a temporary one of `atomic`, and its process has ended."""
    if not PART.fullmatch(file.name) or not file.is_file():
        return False
    with contextlib.suppress(OSError), open(file, "rb") as opened:  # locked: it is being written
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def require_own_folder(path: str | Path, made: Iterable[str]) -> Path:
    """The path of a folder that a command fills and may go on filling: it holds nothing of others.

    Args:
        path: absent, empty, or filled by the same command. made: patterns of the names it makes;
            their temporary files are its own too.
    Raises:
        ValueError: it is a file, holds another name, or cannot be written.

    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / ".a.json.k1ll3d_x.part").touch()
    >>> require_own_folder(folder, ["*.json"]) == folder
    True
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; choose another --out")
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    own = {name: PART.sub(r"\1", name) for name in names}
    foreign = [name for name in names if not any(fnmatch(own[name], pattern) for pattern in made)]
    if foreign:
        raise ValueError(
            f"{path} holds {foreign[0]}, which this command has not made; choose another --out"
        )
    require_writable(path)
    return path


def inside(folder: str | Path, name: str) -> Path:
    """Path of the file ``name`` in a folder of unknown origin.

    Raises:
        ValueError: the name or a link leads out of the folder.

    >>> inside("model", "config.json").name
    'config.json'
    """
    path = Path(folder) / name
    if not path.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"{path} leads out of its folder, to {path.resolve()}; put a copy there")
    return path


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    >>> sha256("/dev/null")[:8]
    'e3b0c442'
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | Path, value: Any, indent: int | None = 2) -> None:
    """Write ``value`` as JSON, atomically; refuse NaN, which JSON lacks. ``indent`` None: in one line."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic(path) as file:  # a list of numbers takes one line
        file.write(re.sub(r"\[\n[-+.\deE,\s]+\]", lambda match: " ".join(match[0].split()), text))


def read_json(path: str | Path, largest: int = 16 << 20) -> Any:
    """Read JSON.

    Raises:
        ValueError: the file is damaged or larger than ``largest`` bytes; names the file.
    """
    size = os.stat(path).st_size
    if size > largest:
        raise ValueError(f"{path} has {size} bytes, {largest} at most are read; make it again")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError also: not UTF-8, 5,000 digits
        raise ValueError(
            f"{path} is not valid JSON ({error}); restore it or make it again"
        ) from None
