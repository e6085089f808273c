"""One synthetic speaker at a time: a voice, its sessions, its sentences, its waves.

A voice is a text file of random settings for eSpeak NG; a session is how and through what the voice
speaks on one day. Everything is drawn from (seed, speaker, session or utterance) and nothing else.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oskdft import config
from oskdft.speech.synthetic import espeak
from oskdft.speech.synthetic.sentences import LANGUAGES, sentence

SESSIONS = 4  # per speaker: utterance u belongs to session u modulo 4
MOST_UTTERANCES = 1_009  # per speaker; a prime, or all speakers would begin alike
_BLOCK = 441  # 441 samples at 22,050 Hz last as long as 320 at 16 kHz
_ROOM_S = 0.4  # length of the room's response
_VOICE, _SESSION, _UTTERANCE = range(3)  # independent random streams


@dataclass(frozen=True, slots=True)
class Session:
    """How a speaker sounds on one day, and through what."""

    words_per_minute: int
    pitch: int  # eSpeak's scale, 50 is the voice's own
    pitch_range: int
    equaliser_db: tuple[float, ...]  # gain at EQUALISER_HZ, interpolated over log frequency
    low_hz: float  # the channel passes from here ...
    high_hz: float  # ... to here
    room_s: float  # time until the echoes are 60 dB down
    room_db: float  # energy of the echoes relative to the direct sound
    noise_tilt: float  # 0 white, 1 brown-like: amplitude falls with frequency ** tilt
    noise_db: float  # signal to noise ratio
    level_db: float  # peak relative to full scale


EQUALISER_HZ = (60, 150, 300, 600, 1_200, 2_400, 4_800, 8_000)


def gender(speaker: int) -> str:
    """Even speakers are male, odd ones female.

    >>> gender(0), gender(1)
    ('m', 'f')
    """
    return "mf"[speaker % 2]


def language(speaker: int) -> str:
    """Each pair of a male and a female speaker has one of the languages, in turn.

    >>> [language(speaker) for speaker in (0, 1, 2, 10)]
    ['en', 'en', 'de', 'en']
    """
    return LANGUAGES[speaker // 2 % len(LANGUAGES)]


def voice_file(seed: int, speaker: int) -> str:
    """The text of eSpeak's voice file of a speaker, drawn from (seed, speaker).

    >>> voice_file(0, 1).splitlines()[:3]
    ['language variant', 'name spk0001', 'gender female']
    """
    rng = np.random.default_rng([seed, _VOICE, speaker])
    female = gender(speaker) == "f"
    low = rng.normal(155, 18) if female else rng.normal(92, 12)  # Hz, bottom of the melody
    low = np.clip(low, *((120, 200) if female else (65, 125)))
    tract = rng.normal(1.12, 0.04) if female else rng.normal(0.98, 0.04)  # a shorter one: higher
    lines = [
        "language variant",
        f"name {speaker_name(speaker)}",
        f"gender {'female' if female else 'male'}",
        f"pitch {low:.0f} {low * rng.uniform(1.3, 1.7):.0f}",
        f"flutter {rng.integers(0, 10)}",
        f"roughness {rng.integers(0, 4)}",
        f"voicing {rng.integers(70, 120)}",
        f"consonants {rng.integers(70, 140)} {rng.integers(70, 140)}",
        f"intonation {rng.integers(1, 5)}",
    ]
    for number in range(9):
        frequency = 100 * tract * rng.normal(1, 0.035)
        height, width = rng.normal(100, 15), rng.normal(100, 20)
        lines.append(
            f"formant {number} {frequency:.0f} {np.clip(height, 55, 150):.0f} "
            f"{np.clip(width, 60, 170):.0f}"
        )
    breath = rng.uniform(0, 6) * rng.uniform(0.3, 1, 7) * (rng.random() < 0.6)
    lines.append("breath 0 " + " ".join(f"{value:.0f}" for value in breath))
    tone = zip((600, 1_300, 2_400, 4_000), rng.integers(90, 256, 4), strict=True)
    lines.append("tone " + " ".join(f"{hz} {gain}" for hz, gain in tone))
    return "\n".join(lines) + "\n"


def draw_session(seed: int, speaker: int, session: int) -> Session:
    """Draw one session of a speaker from (seed, speaker, session).

    >>> draw_session(0, 7, 1) == draw_session(0, 7, 1) != draw_session(0, 7, 2)
    True
    """
    rng = np.random.default_rng([seed, _SESSION, speaker, session])
    return Session(
        words_per_minute=int(rng.integers(165, 221)),
        pitch=int(np.clip(rng.normal(50, 5), 35, 65)),
        pitch_range=int(rng.integers(30, 75)),
        equaliser_db=tuple(rng.normal(0, 2.2, len(EQUALISER_HZ)).tolist()),
        low_hz=float(rng.uniform(40, 150)),
        high_hz=float(rng.uniform(6_000, 8_000)),
        room_s=float(rng.uniform(0.1, 0.5)),
        room_db=float(rng.uniform(-22, -8)),
        noise_tilt=float(rng.uniform(0, 1)),
        noise_db=float(rng.uniform(10, 25)),
        level_db=float(rng.uniform(-10, -3)),
    )


def speaker_name(speaker: int) -> str:
    """The name of a speaker's folder and voice.

    >>> speaker_name(7)
    'spk0007'
    """
    return f"spk{speaker:04d}"


def text_of(seed: int, speaker: int, utterance: int) -> str:
    """The sentence of an utterance; no other utterance of the corpus has it.

    >>> text_of(0, 1, 0) == text_of(0, 11, 0)
    False
    """
    rank = speaker // (2 * len(LANGUAGES)) * 2 + speaker % 2  # among those of the language
    return sentence(language(speaker), rank * MOST_UTTERANCES + utterance, seed)


def speak(data: Path, seed: int, speaker: int, utterance: int) -> np.ndarray:
    """One utterance as the corpus holds it.

    Args:
        data: eSpeak's data with the speaker's voice file, see `espeak.home`.

    Returns:
        [N] float32 at 16 kHz.

    >>> with espeak.home({speaker_name(3): voice_file(0, 3)}, LANGUAGES) as data:
    ...     wave = speak(data, seed=0, speaker=3, utterance=0)
    >>> 2 < len(wave) / 16_000 < 5
    True
    """
    session = draw_session(seed, speaker, utterance % SESSIONS)
    rng = np.random.default_rng([seed, _UTTERANCE, speaker, utterance])
    wave = espeak.speak(
        data,
        f"{language(speaker)}+{speaker_name(speaker)}",
        text_of(seed, speaker, utterance),
        words_per_minute=session.words_per_minute,
        pitch=session.pitch,
        pitch_range=session.pitch_range,
        seed=int(rng.integers(2**31)),
    )
    room = np.random.default_rng([seed, _SESSION, speaker, utterance % SESSIONS, 1])
    return through_session(_trimmed(wave, rng), session, room, rng)


def _trimmed(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[N] without eSpeak's pauses at both ends, with a short random one instead."""
    loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
    before, after = rng.integers(0.05 * espeak.NATIVE_RATE, 0.2 * espeak.NATIVE_RATE, 2)
    return np.pad(wave[loud[0] : loud[-1] + 1], (before, after))


def through_session(
    wave: np.ndarray, session: Session, room: np.random.Generator, rng: np.random.Generator
) -> np.ndarray:
    """Pass a wave through a session's channel, room and noise, in the frequency domain.

    The spectrum is cut at 8 kHz on the way: that is the change of rate.

    Args:
        wave: [N] at `espeak.NATIVE_RATE`.
        room: the random source of the echoes, the same for all utterances of a session.
        rng: the random source of the noise.

    Returns:
        [N * 320 / 441] float32 at 16 kHz.

    >>> source = np.random.default_rng(0)
    >>> wave = source.standard_normal(22_050, np.float32)
    >>> through_session(wave, draw_session(0, 0, 0), source, source).shape
    (16000,)
    """
    samples = len(wave) * config.SAMPLE_RATE // espeak.NATIVE_RATE
    tail = int(_ROOM_S * espeak.NATIVE_RATE)  # silence for the echoes, or they wrap around
    blocks = -(-(len(wave) + tail) // _BLOCK // 8) * 8 + 8  # a length that the FFT likes
    size = blocks * (_BLOCK * config.SAMPLE_RATE // espeak.NATIVE_RATE)
    hertz = np.fft.rfftfreq(size, 1 / config.SAMPLE_RATE).astype(np.float32)
    spectrum = np.fft.rfft(wave, blocks * _BLOCK)[: len(hertz)]  # [F]
    spectrum *= _channel(hertz, session) * np.fft.rfft(_echoes(session, room), size)
    noise = rng.standard_normal(2 * len(hertz), np.float32).view(np.complex64)
    noise /= np.maximum(hertz, 60) ** session.noise_tilt
    # powers per sample: the speech lasts for `samples`, the noise for `size`
    ratio = np.vdot(spectrum, spectrum).real / samples / (np.vdot(noise, noise).real / size)
    spectrum += noise * np.float32(np.sqrt(ratio) * 10 ** (-session.noise_db / 20))
    wave = np.fft.irfft(spectrum, size)[:samples]
    return wave * np.float32(10 ** (session.level_db / 20) / np.abs(wave).max())


def _channel(hertz: np.ndarray, session: Session) -> np.ndarray:
    """[F] gain of the equaliser and of the pass band's two slopes (12 dB per octave)."""
    octaves = np.log2(np.maximum(hertz, 1))
    decibels = np.interp(octaves, np.log2(EQUALISER_HZ), session.equaliser_db)
    low = 1 / (1 + (session.low_hz / np.maximum(hertz, 1)) ** 2)
    high = 1 / (1 + (hertz / session.high_hz) ** 2)
    return (10 ** (decibels / 20) * low * high).astype(np.float32)


def _echoes(session: Session, rng: np.random.Generator) -> np.ndarray:
    """[0.4 s] impulse response: the direct sound, then decaying noise."""
    time = np.arange(int(_ROOM_S * config.SAMPLE_RATE)) / config.SAMPLE_RATE
    echoes = rng.normal(size=len(time)) * 10 ** (-3 * time / session.room_s)
    echoes *= (time > 0.002) * 10 ** (session.room_db / 20) / np.sqrt((echoes**2).sum())
    echoes[0] = 1
    return echoes.astype(np.float32)
