"""The browser app: two widgets as tabs, on synthetic voices made on the spot. `make demo` shows it."""

import itertools

import numpy as np
from ipywidgets import Tab

from oskdft.config import SAMPLE_RATE
from oskdft.evaluation import scoring
from oskdft.evaluation.verifier import Verifier, load
from oskdft.lessons.widgets.det import det_explorer
from oskdft.lessons.widgets.who import who_is_it
from oskdft.speech.synthetic import espeak, voices
from oskdft.speech.synthetic.sentences import LANGUAGES

SPEAKERS, EACH = 12, 4  # voices, and utterances of each in four sessions


def recordings(speakers: int, each: int, seed: int = 0) -> list[np.ndarray]:
    """Utterances [N] of synthetic voices, those of a voice one after the other.

    >>> len(recordings(2, 2))
    4
    """
    names = {voices.speaker_name(s): voices.voice_file(seed, s) for s in range(speakers)}
    with espeak.home(names, LANGUAGES) as data:
        return [
            voices.speak(data, seed, s, u)
            for s, u in itertools.product(range(speakers), range(each))
        ]


def trials(speakers: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of utterances of two sessions whose voices have one gender.

    Returns:
        [P, 2] places in `recordings`, and [P] 1 for the same voice.

    >>> pairs, labels = trials(4, 2)
    >>> pairs[labels == 1].tolist()
    [[0, 1], [2, 3], [4, 5], [6, 7]]
    """
    pairs = np.array(list(itertools.combinations(range(speakers * each), 2)))
    speaker, session = pairs // each, pairs % each % voices.SESSIONS
    like = (speaker[:, 0] % 2 == speaker[:, 1] % 2) & (session[:, 0] != session[:, 1])
    return pairs[like], (speaker[like, 0] == speaker[like, 1]).astype(int)


def systems(
    verifier: Verifier, waves: list[np.ndarray], pairs: np.ndarray, labels: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The verifier on recordings and on their beginnings: name -> (scores [P], labels [P])."""
    heard = {
        "whole recordings": waves,
        "first second": [wave[:SAMPLE_RATE] for wave in waves],
        "first half second": [wave[: SAMPLE_RATE // 2] for wave in waves],
    }
    tables = {
        name: np.stack([verifier.embed(wave) for wave in some]) for name, some in heard.items()
    }
    return {
        name: (scoring.score_trials(table, None, pairs), labels) for name, table in tables.items()
    }


def app() -> Tab:
    """Both widgets with the shipped student; their speech is made and scored here."""
    verifier, waves = load("classroom", quick=True), recordings(SPEAKERS, EACH)
    pairs, labels = trials(SPEAKERS, EACH)
    clips = {
        f"voice {chr(ord('A') + s)}, recording {u + 1}": waves[s * EACH + u]
        for s, u in itertools.product((0, 1, 2, 4), range(2))
    }
    about = f"Voices: synthetic (eSpeak NG), {SPEAKERS} speakers; not real speech."
    who = who_is_it(verifier, clips, f"{about} Model: the shipped student, trained on real speech.")
    det = det_explorer(
        systems(verifier, waves, pairs, labels),
        f"{about} {len(labels):,} trials, {labels.sum():,} of one speaker, scored at start: "
        "the shipped student on whole recordings and on their beginnings.",
    )
    return Tab([who, det], titles=["Who is it?", "DET explorer"])
