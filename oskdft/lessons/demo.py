"""The browser app of `make demo`: two widgets as tabs, on synthetic voices made at start."""

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

SPEAKERS = 12  # voices
EACH = 4  # utterances of a voice, in four sessions


def recordings(speakers: int, each: int) -> list[np.ndarray]:
    """Utterances [N] of synthetic voices, voice by voice.

    >>> len(recordings(2, 2))
    4
    """
    names = {voices.speaker_name(s): voices.voice_file(0, s) for s in range(speakers)}
    with espeak.home(names, LANGUAGES) as data:
        return [
            voices.speak(data, 0, s, u) for s, u in itertools.product(range(speakers), range(each))
        ]


def trials(speakers: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of utterances from different sessions and voices of the same gender.

    Returns:
        [P, 2] indices into `recordings`, and [P] 1 for the same voice.

    >>> pairs, labels = trials(4, 2)
    >>> pairs[labels == 1].tolist()
    [[0, 1], [2, 3], [4, 5], [6, 7]]
    """
    pairs = np.array(list(itertools.combinations(range(speakers * each), 2)))
    speaker, session = pairs // each, pairs % each % voices.SESSIONS
    kept = (speaker[:, 0] % 2 == speaker[:, 1] % 2) & (session[:, 0] != session[:, 1])
    return pairs[kept], (speaker[kept, 0] == speaker[kept, 1]).astype(int)


def systems(
    verifier: Verifier, waves: list[np.ndarray], pairs: np.ndarray, labels: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scores of whole recordings and of their beginnings: name -> (scores [P], labels [P])."""
    versions = {
        "whole recordings": waves,
        "first second": [wave[:SAMPLE_RATE] for wave in waves],
        "first half second": [wave[: SAMPLE_RATE // 2] for wave in waves],
    }
    scores = {}
    for name, version in versions.items():
        embeddings = np.stack([verifier.embed(wave) for wave in version])
        scores[name] = (scoring.score_trials(embeddings, None, pairs), labels)
    return scores


def app() -> Tab:
    """Both widgets with the shipped student; makes and scores their speech."""
    verifier = load("classroom", quick=True)
    waves = recordings(SPEAKERS, EACH)
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
