"""Noise and room recordings by number: listed once, kept in memory while there is room.

Categories come from the folder below the corpus root, never from the whole path (surprise 15).
"""

from pathlib import Path

import numpy as np

from oskdft import config
from oskdft.speech import audio
from oskdft.speech.corpora.catalogue import CORPORA, find_root
from oskdft.speech.corpora.layouts import audio_below

CATEGORIES = ("noise", "speech", "music")  # folders of a MUSAN-like tree
KEPT_BYTES = 64 * 2**20  # decoded audio held per category and process; four categories: 256 MB


class Clips:
    """Audio files drawn by number: kept in memory while there is room, else read by seeking."""

    def __init__(self, root: str, names: list[str]) -> None:
        self.root, self.names, self._room = Path(root), names, KEPT_BYTES
        self._samples: dict[int, int] = {}  # at the package's rate, of files that were opened
        self._kept: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.names)

    def whole(self, number: int) -> np.ndarray:
        """All samples of a file, [M] float32."""
        if number in self._kept:
            return self._kept[number]
        wave = audio.read(self.root / self.names[number])
        if wave.nbytes <= self._room:
            self._room -= wave.nbytes
            self._kept[number] = wave
        return wave

    def crop(self, number: int, where: float, samples: int) -> np.ndarray:
        """[samples] float32 from `where` on: 0 the start, 1 the end; a short file is repeated."""
        if number not in self._samples:
            header = audio.info(self.root / self.names[number])
            self._samples[number] = -(-header.samples * config.SAMPLE_RATE // header.rate)
        total = self._samples[number]
        start = int(where * (max(total - samples, 0) + 1))
        if number in self._kept or 4 * total <= self._room:
            wave = self.whole(number)[start : start + samples]
        else:
            wave = audio.read(self.root / self.names[number], start, samples)
        return audio.wrap(wave, samples)


def known_folder(root: str, setting: str) -> str:
    """A folder as given; for the name of a known corpus, such as "musan", where that lies.

    Raises:
        FileNotFoundError: the corpus is nowhere; says how to get it and where to put it.

    >>> known_folder("my/noise", "augment.noise_root")
    'my/noise'
    """
    return str(find_root(root, setting=setting)) if root in CORPORA else root


def noise_files(root: str) -> dict[str, list[str]]:
    """Paths below the root by category: the folder directly below it, whatever the root is called.

    >>> noise_files("")
    {}
    """
    names = _audio_in(root, "augment.noise_root")
    found = {c: [n for n in names if n.startswith(f"{c}/")] for c in CATEGORIES}
    if root and not any(found.values()):
        raise ValueError(f"augment.noise_root={root} has no audio in noise/, speech/ or music/")
    return {category: names for category, names in found.items() if names}


def room_files(root: str) -> list[str]:
    """Paths below the root: in `*_rirs` folders where there are such (RIRS_NOISES), else all audio.

    >>> room_files("")
    []
    """
    names = _audio_in(root, "augment.rir_root")
    return [name for name in names if name.partition("/")[0].endswith("_rirs")] or names


def _audio_in(root: str, setting: str) -> list[str]:
    if root and not Path(root).is_dir():
        raise FileNotFoundError(f"{setting}={root} is not a folder; correct it or leave it empty")
    names = list(audio_below(Path(root))) if root else []
    if root and not names:
        raise ValueError(f"{setting}={root} holds no audio; correct it or leave it empty")
    return names
