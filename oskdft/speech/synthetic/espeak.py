"""eSpeak NG through ctypes: text and a voice file in, a wave out, the same wave every time.

The library and its data come inside the package ``espeakng-loader``. It keeps state from one
utterance to the next (phase of the pitch flutter, gain control, cycle counters) and offers no
reset, so each utterance loads it anew, which takes a millisecond.
"""

import _ctypes
import contextlib
import ctypes
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

_PHONEMES = ("phondata", "phonindex", "phontab", "intonations")
_SYNCHRONOUS, _DONT_EXIT, _UTF8 = 2, 0x8000, 1  # names and values of eSpeak's speak_lib.h
_RATE, _PITCH, _RANGE = 1, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)
NATIVE_RATE = 22_050  # Hz
LONGEST_PATH = 130  # bytes; eSpeak cuts longer ones, 160 with its own file names


@contextlib.contextmanager
def home(voices: Mapping[str, str], languages: tuple[str, ...]) -> Iterator[Path]:
    """A temporary copy of eSpeak's data for some languages, with voice files of one's own.

    Args:
        voices: name -> text of an eSpeak voice variant file.
        languages: eSpeak's language codes.

    >>> with home({"low": "language variant\\nname low\\npitch 70 110\\n"}, ("en",)) as data:
    ...     wave = speak(data, "en+low", "Good morning.")
    >>> wave.dtype.name, 10_000 < len(wave) < 40_000
    ('float32', True)
    """
    source = _source()
    with tempfile.TemporaryDirectory(prefix="oskdft-") as folder:
        data = Path(folder) / "espeak-ng-data"
        if len(bytes(data)) > LONGEST_PATH:
            raise OSError(f"{folder}: too long a path for eSpeak; set TMPDIR to a shorter one")
        (data / "voices" / "!v").mkdir(parents=True)
        for name in (*_PHONEMES, *(f"{language}_dict" for language in languages)):
            shutil.copyfile(source / name, data / name)
        for path in source.glob("lang/*/*"):
            if path.name in languages:
                (data / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, data / path.relative_to(source))
        for name, text in voices.items():
            (data / "voices" / "!v" / name).write_text(text, encoding="utf-8")
        yield data


def speak(
    data: Path,
    voice: str,
    text: str,
    *,
    words_per_minute: int = 175,
    pitch: int = 50,
    pitch_range: int = 50,
    seed: int = 0,
) -> np.ndarray:
    """Say one text; equal arguments give equal samples, whatever was said before.

    Args:
        data: the folder that `home` made.
        voice: language and voice, as "en+low".
        text: any Unicode text.
        words_per_minute: 80 to 450.
        pitch: 0 to 99, 50 is the voice's own.
        pitch_range: 0 to 99, 50 is the voice's own; 0 is monotone.
        seed: of the breath noise.

    Returns:
        [N] float32 at `NATIVE_RATE`, with silence at both ends.

    Raises:
        OSError: the library is missing or refuses the voice.
    """
    pieces: list[np.ndarray] = []

    @_CALLBACK
    def collect(wave, samples, _events):
        if wave and samples > 0:
            pieces.append(np.ctypeslib.as_array(wave, (samples,)).astype(np.float32))
        return 0

    with _loaded(data) as library:
        library.espeak_SetSynthCallback(collect)
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        status = library.espeak_SetVoiceByName(voice.encode())
        for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, pitch_range)):
            library.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode()
        size = ctypes.c_size_t(len(encoded) + 1)
        status = status or library.espeak_Synth(encoded, size, 0, 1, 0, _UTF8, None, None)
        status = status or library.espeak_Synchronize()
    if status or not pieces:
        raise OSError(f"eSpeak NG cannot say {text!r} with voice {voice!r} (status {status})")
    return np.concatenate(pieces) / np.float32(2**15)


def _source() -> Path:
    return Path(_loader().get_data_path())


def _loader():
    try:
        import espeakng_loader
    except ImportError as error:
        raise OSError(
            f"the synthetic voices need eSpeak NG ({error}); pip install espeakng-loader"
        ) from None
    return espeakng_loader


@contextlib.contextmanager
def _loaded(data: Path) -> Iterator[ctypes.CDLL]:
    """A fresh library: loaded, initialised, and unloaded at the end."""
    path = _loader().get_library_path()
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise OSError(
            f"eSpeak NG cannot be loaded ({error}); pip install --force-reinstall espeakng-loader"
        ) from None
    try:
        rate = library.espeak_Initialize(_SYNCHRONOUS, 500, bytes(data.parent), _DONT_EXIT)
        if rate != NATIVE_RATE:
            raise OSError(f"eSpeak NG finds no usable data in {data} (it answers {rate})")
        yield library
    finally:
        library.espeak_Terminate()
        unload = _ctypes.FreeLibrary if sys.platform == "win32" else _ctypes.dlclose
        unload(library._handle)
