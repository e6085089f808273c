"""Trial lists drawn from the utterances of a corpus."""

import numpy as np

from oskdft.speech.corpora.tables import Utterances
from oskdft.speech.corpora.trials import Trials

PAIRED = 200  # utterances of a speaker among which its target pairs are drawn
DRAWS = 8  # candidates per non-target trial: most are new pairs


def make_trials(
    utterances: Utterances,
    seed: int = 0,
    per_speaker: int = 20,
    same_gender: dict[str, dict] | None = None,
) -> Trials:
    """Draw target and non-target trials, equally many where possible, none twice.

    Args:
        utterances: utterances of the development speakers.
        seed: draws the pairs.
        per_speaker: target trials of each speaker, and non-target trials that it is enrolled in.
        same_gender: result of `speaker_info`; pairs speakers of the same gender only.
    Returns:
        Trials; a target trial compares two sessions if the speaker's sessions are known.
    Raises:
        ValueError: no target or no non-target trial can be drawn.

    >>> rows = [(f"{who}/{i}.wav", who, str(i), 1.0) for who in "ab" for i in range(3)]
    >>> make_trials(Utterances.from_rows("/data", rows), per_speaker=2).label.tolist()
    [1, 1, 0, 0, 1, 1, 0, 0]
    """
    rng = np.random.default_rng(seed)
    info = same_gender or {}
    gender = np.array([str(info.get(name, {}).get("gender")) for name in utterances.speakers])
    labels: list[int] = []
    pairs: list[tuple[int, int]] = []
    used: set[frozenset[int]] = set()
    for speaker in range(len(utterances.speakers)):
        is_own = utterances.speaker == speaker
        own = np.flatnonzero(is_own)
        others = np.flatnonzero(~is_own & (gender[utterances.speaker] == gender[speaker]))
        targets = _target_pairs(own, utterances.session, per_speaker, rng)
        nontargets = _nontarget_pairs(own, others, per_speaker, rng, used)
        pairs += targets + nontargets
        labels += [1] * len(targets) + [0] * len(nontargets)
    if not 0 < sum(labels) < len(labels):
        raise ValueError(
            f"{len(utterances)} utterances of {len(utterances.speakers)} speakers give "
            f"{sum(labels)} target and {len(labels) - sum(labels)} non-target trials; take more "
            "speakers, with two utterances (in two sessions, if sessions are known) each"
        )
    rows, recordings = np.unique(np.array(pairs), return_inverse=True)
    enrol, test = recordings.reshape(-1, 2).T.astype(np.int32)
    paths = [utterances.name(row) for row in rows]
    name = f"{len(labels)} trials, seed {seed}"
    return Trials(np.array(labels, np.uint8), enrol, test, paths, name)


def _target_pairs(
    own: np.ndarray, session: np.ndarray, count: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """At most ``count`` pairs of rows of a speaker, across two sessions if sessions are known."""
    if len(own) > PAIRED:
        own = np.sort(rng.choice(own, PAIRED, replace=False))
    left, right = (own[side] for side in np.triu_indices(len(own), 1))
    if (session[own] >= 0).all():
        across = session[left] != session[right]
        left, right = left[across], right[across]
    drawn = np.sort(rng.choice(len(left), min(count, len(left)), replace=False))
    return list(zip(left[drawn].tolist(), right[drawn].tolist(), strict=True))


def _nontarget_pairs(
    own: np.ndarray, others: np.ndarray, count: int, rng: np.random.Generator, used: set
) -> list[tuple[int, int]]:
    """At most ``count`` pairs of a speaker's row and another's, none in ``used``; adds to it."""
    pairs: list[tuple[int, int]] = []
    if len(others) == 0:
        return pairs
    draws = zip(rng.choice(own, DRAWS * count), rng.choice(others, DRAWS * count), strict=True)
    for own_row, other_row in draws:
        pair = (int(own_row), int(other_row))
        if len(pairs) < count and frozenset(pair) not in used:
            used.add(frozenset(pair))
            pairs.append(pair)
    return pairs
