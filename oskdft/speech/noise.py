"""Noise recordings and room responses of the augmentation, drawn by number.

The category is the folder below the corpus root, never a part of the whole path (surprise 15).
"""

from pathlib import Path

import numpy as np

from oskdft.config import SAMPLE_RATE
from oskdft.speech import audio, cutting
from oskdft.speech.corpora.catalogue import CORPORA, find_root
from oskdft.speech.corpora.layouts import audio_below

CATEGORIES = ("noise", "speech", "music")  # folders of a MUSAN-like tree
KEPT_BYTES = 64 * 2**20  # decoded audio held per category and process; four categories: 256 MB


class Clips:
    """Audio files by number; decoded files stay in memory up to `KEPT_BYTES`, others are read anew.

    Args:
        root: folder. names: files, relative to the folder.
    """

    def __init__(self, root: str, names: list[str]) -> None:
        self.root = Path(root)
        self.names = names
        self._bytes_left = KEPT_BYTES
        self._samples: dict[int, int] = {}  # number -> samples at SAMPLE_RATE, from the header
        self._kept: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.names)

    def whole(self, number: int) -> np.ndarray:
        """All samples [M] float32 of a file."""
        if number in self._kept:
            return self._kept[number]
        wave = audio.read(self.root / self.names[number])
        if wave.nbytes <= self._bytes_left:
            self._bytes_left -= wave.nbytes
            self._kept[number] = wave
        return wave

    def crop(self, number: int, where: float, samples: int) -> np.ndarray:
        """Crop [samples] float32; a short file is repeated.

        Args:
            number: of the file. where: 0 the first possible crop, 1 the last.
            samples: length of the crop.
        """
        if number not in self._samples:
            header = audio.info(self.root / self.names[number])
            self._samples[number] = -(-header.samples * SAMPLE_RATE // header.rate)
        total = self._samples[number]
        start = int(where * (max(total - samples, 0) + 1))
        if number in self._kept or 4 * total <= self._bytes_left:
            wave = self.whole(number)[start : start + samples]
        else:
            wave = audio.read(self.root / self.names[number], start, samples)
        return cutting.wrap(wave, samples)


def known_folder(root: str, setting: str) -> str:
    """The folder itself, or the folder of a known corpus where ``root`` is a name such as "musan".

    Args:
        root: folder or name. setting: the setting to name in an error.

    Raises:
        FileNotFoundError: the corpus is absent; the message tells how to get it.

    >>> known_folder("my/noise", "augment.noise_root")
    'my/noise'
    """
    return str(find_root(root, setting=setting)) if root in CORPORA else root


def noise_files(root: str) -> dict[str, list[str]]:
    """Paths below the root by category, which is the folder directly below the root.

    Raises:
        FileNotFoundError: no such folder. ValueError: a folder without audio of a category.

    >>> noise_files("")
    {}
    """
    names_of: dict[str, list[str]] = {}
    for name in _audio_in(root, "augment.noise_root"):
        names_of.setdefault(name.partition("/")[0], []).append(name)
    if root and not names_of.keys() & set(CATEGORIES):
        raise ValueError(f"augment.noise_root={root} has no audio in noise/, speech/ or music/")
    return {category: names_of[category] for category in CATEGORIES if category in names_of}


def room_files(root: str) -> list[str]:
    """Paths of room responses below the root, see `rooms_among`.

    Raises:
        FileNotFoundError: no such folder. ValueError: a folder without audio.

    >>> room_files("")
    []
    """
    return rooms_among(_audio_in(root, "augment.rir_root"))


def rooms_among(names: list[str]) -> list[str]:
    """Paths in `*_rirs` folders where the corpus has such folders (RIRS_NOISES), else all paths.

    >>> rooms_among(["simulated_rirs/1.wav", "pointsource_noises/2.wav"])
    ['simulated_rirs/1.wav']
    """
    return [name for name in names if name.partition("/")[0].endswith("_rirs")] or names


def _audio_in(root: str, setting: str) -> list[str]:
    if root and not Path(root).is_dir():
        raise FileNotFoundError(f"{setting}={root} is not a folder; correct it or leave it empty")
    names = list(audio_below(Path(root))) if root else []
    if root and not names:
        raise ValueError(f"{setting}={root} holds no audio; correct it or leave it empty")
    return names
