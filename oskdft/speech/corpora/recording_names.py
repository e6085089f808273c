"""Names of recordings: suffixes of audio, and the order of a corpus."""

import os

AUDIO = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a")


def without_suffix(path: str) -> str:
    """A path without the suffix of a recording; a dot in a name without one stays.

    >>> without_suffix("ada/2024.05.01"), without_suffix("ada/2024.05.01.WAV")
    ('ada/2024.05.01', 'ada/2024.05.01')
    """
    stem, suffix = os.path.splitext(path)
    return stem if suffix.lower() in AUDIO else path


def is_recording(path: str) -> bool:
    """Whether a path has a suffix of audio and no hidden folder.

    >>> is_recording("a/1.WAV"), is_recording("a/.b/1.wav"), is_recording("a/1.txt")
    (True, False, False)
    """
    return path.lower().endswith(AUDIO) and not path.startswith(".") and "/." not in path


def sort_key(name: str) -> bytes:
    """Bytes that sort as a walk does: the files of a folder, then its folders.

    >>> sorted(["b/c/1.wav", "b/z.wav", "a.wav"], key=sort_key)
    ['a.wav', 'b/z.wav', 'b/c/1.wav']
    """
    folder, _, file = os.fsencode(name).rpartition(b"/")
    return folder.replace(b"/", b"\0") + (b"\0\0" if folder else b"\0") + file


def name_of(key: bytes) -> str:
    """The name of a `sort_key`.

    >>> name_of(sort_key("b/c/1.wav"))
    'b/c/1.wav'
    """
    folder, _, file = key.rpartition(b"\0")
    folder = folder[:-1]
    return os.fsdecode(folder.replace(b"\0", b"/") + b"/" + file if folder else file)
