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
    speakers = np.array([name.split(",")[0] for name in names])
    groups = np.array([name.split()[0] for name in names])
    pairs = np.array(list(itertools.combinations(range(len(names)), 2)))
    pairs = pairs[groups[pairs[:, 0]] == groups[pairs[:, 1]]]
    return pairs, (speakers[pairs[:, 0]] == speakers[pairs[:, 1]]).astype(int)
