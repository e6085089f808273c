"""Error rates by group of speakers: who pays for a system's errors."""

import numpy as np

from oskdft.evaluation import bootstrap, metrics
from oskdft.speech.corpora.trials import Trials


def by_group(
    scores: np.ndarray, trials: Trials, groups: list[str], threshold: float
) -> dict[str, dict]:
    """EER of each group, and its misses and false alarms at one threshold for all.

    A trial belongs to a group when both of its recordings do. Trials between groups are in no row: they
    are easier.

    Args:
        scores: [P]. trials: their list. groups: the group of each of ``trials.paths``.
        threshold: a score of at least this is accepted.
    Returns:
        group -> "speakers", "targets", "nontargets" (numbers), "eer", "miss", "false_alarm" (fractions)
        and of each its 95 % interval over speakers, [low, high]: "eer_ci", "miss_ci",
        "false_alarm_ci". A group without both kinds of trials is left out.
    Raises:
        ValueError: no group has both kinds of trials.

    >>> from oskdft.speech.corpora.drawn_trials import make_trials
    >>> from oskdft.speech.corpora.tables import Utterances
    >>> rows = [(f"{s}/{n}.wav", s, "", 1.0) for s in "abcd" for n in range(3)]
    >>> trials = make_trials(Utterances.from_rows("/data", rows), seed=0)
    >>> groups = ["f" if path[0] in "ab" else "m" for path in trials.paths]
    >>> found = by_group(trials.label.astype(float), trials, groups, 0.5)
    >>> found["f"]["speakers"], found["f"]["eer"], found["m"]["miss_ci"]
    (2, 0.0, [0.0, 0.0])
    """
    name = np.array(groups)
    speakers = bootstrap.trial_speakers(trials)
    rows = {}
    for group in sorted(set(groups)):
        inside = (name[trials.enrol] == group) & (name[trials.test] == group)
        own, label, pair = scores[inside], trials.label[inside], speakers[inside]
        if len(np.unique(label)) < 2:
            continue
        bootstrap.warn_of_few(pair, group)
        rates = {
            "eer": (metrics.eer(own, label)[0], bootstrap.bootstrap(own, label, pair)),
            **_at(own, label, pair, threshold),
        }
        rows[group] = {
            "speakers": len(np.unique(pair)),
            "targets": int(label.sum()),
            "nontargets": int((label == 0).sum()),
        }
        for rate, (value, draws) in rates.items():
            low, high = np.quantile(draws, bootstrap.INTERVAL)
            rows[group] |= {rate: float(value), f"{rate}_ci": [float(low), float(high)]}
    if not rows:
        raise ValueError("no group has trials of one speaker and of different speakers")
    return rows


def _at(
    scores: np.ndarray, label: np.ndarray, speakers: np.ndarray, threshold: float
) -> dict[str, tuple[float, np.ndarray]]:
    """Misses and false alarms at a threshold, each with its draws of speakers [D]."""
    wrong = np.where(label == 1, scores < threshold, scores >= threshold)
    draws = {"miss": [], "false_alarm": []}
    kinds = {"miss": label == 1, "false_alarm": label == 0}
    for weight in bootstrap.weights(label == 1, speakers):
        for kind, of_kind in kinds.items():
            total = weight[of_kind].sum()
            if total:
                draws[kind].append((weight * wrong)[of_kind].sum() / total)
    return {kind: (wrong[kinds[kind]].mean(), np.array(draws[kind])) for kind in kinds}


def table_rows(found: dict[str, dict]) -> list[tuple[str, ...]]:
    """Head and rows of a printed table of `by_group`.

    >>> table_rows({})
    [('group', 'speakers', 'trials', 'EER', 'misses', 'false alarms')]
    """

    def rate(row: dict, name: str) -> str:
        low, high = row[f"{name}_ci"]
        return f"{100 * row[name]:.2f} % ({100 * low:.2f} to {100 * high:.2f})"

    rows = [("group", "speakers", "trials", "EER", "misses", "false alarms")]
    for group, row in found.items():
        trials = f"{row['targets'] + row['nontargets']:,}"
        rates = (rate(row, name) for name in ("eer", "miss", "false_alarm"))
        rows.append((group, str(row["speakers"]), trials, *rates))
    return rows
