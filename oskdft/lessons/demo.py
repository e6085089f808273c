"""Recordings of the package to choose from and to compare: in the page of `make demo`, in tests of widgets."""

import itertools
import string

import numpy as np
import pandas as pd

from oskdft.speech import audio
from oskdft.speech.corpora.tables import labels_of, load_corpus

CORPUS = "speechocean762: English read by Mandarin speakers, half of them children"
GROUPS = {
    "girl": ("child", "f"),
    "boy": ("child", "m"),
    "woman": ("adult", "f"),
    "man": ("adult", "m"),
}
# The 2nd to 4th test speaker of each group, by name. The shipped student errs less on these speakers than on
# all test speakers: the first view should show a verifier that works.
FIRST, SPEAKERS = 1, 3
EACH = 4  # utterances of a speaker
SHOWN = 2  # speakers of a group, and utterances of a speaker, in a widget


def recordings() -> dict[str, np.ndarray]:
    """Recordings [N] of test speakers by name: groups in order, then speakers, then utterances.

    >>> clips = recordings()
    >>> len(clips), list(clips)[4]
    (48, 'girl B, recording 1')
    """
    everyone = load_corpus("speechbox", split="test")
    table = pd.DataFrame(labels_of("speechbox", everyone))
    groups = table.groupby(["age", "gender"])
    clips = {}
    for group, kind in GROUPS.items():
        speakers = list(groups.get_group(kind).groupby("speaker"))[FIRST : FIRST + SPEAKERS]
        for letter, (_, rows) in zip(string.ascii_uppercase, speakers, strict=False):
            for number, row in enumerate(rows.index[:EACH], 1):
                clips[f"{group} {letter}, recording {number}"] = audio.read(everyone.path(row))
    return clips


def trials(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of recordings of one gender and age group.

    Args:
        names: as from `recordings`.
    Returns:
        [P, 2] indices into ``names``, and [P] 1 for the same speaker.

    >>> names = ["boy A, recording 1", "boy A, recording 2", "boy B, recording 1", "man A, recording 1"]
    >>> pairs, labels = trials(names)
    >>> pairs.tolist(), labels.tolist()
    ([[0, 1], [0, 2], [1, 2]], [1, 0, 0])
    """
    speakers = [name.split(",")[0] for name in names]
    groups = [speaker.split()[0] for speaker in speakers]
    pairs = [
        (a, b) for a, b in itertools.combinations(range(len(names)), 2) if groups[a] == groups[b]
    ]
    labels = [int(speakers[a] == speakers[b]) for a, b in pairs]
    return np.array(pairs), np.array(labels)


def shown(clips: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fewer recordings, for a widget: `SHOWN` speakers of each group, `SHOWN` recordings of each.

    >>> list(shown({"boy A, recording 2": 1, "boy A, recording 3": 2, "boy C, recording 1": 3}))
    ['boy A, recording 2']
    """
    letters, numbers = string.ascii_uppercase[:SHOWN], range(1, SHOWN + 1)
    ends = tuple(f" {letter}, recording {number}" for letter in letters for number in numbers)
    return {name: wave for name, wave in clips.items() if name.endswith(ends)}
