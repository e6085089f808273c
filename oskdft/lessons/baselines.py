"""Error rates without any training, on the same trials: what a trained system has to beat."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from oskdft import config
from oskdft.evaluation import bootstrap, probes
from oskdft.lessons.figures.scores import det_data
from oskdft.lessons.judges import MFCC, best_table, cosines
from oskdft.lessons.lesson import Lesson
from oskdft.method.model import device_of
from oskdft.speech import audio
from oskdft.speech.corpora.trials import Trials
from oskdft.storage.pretrained import load_encoder
from oskdft.utils import provenance
from oskdft.utils.console import paragraph, percent, say
from oskdft.utils.files import read_json, write_json

CHANCE = "chance"


def untrained(lesson: Lesson, teacher: str = "") -> dict[str, dict]:
    """EER on the test trials without training: chance, MFCC, and the best layer of the teacher.

    MFCC and layer: cosines of mean and deviation over time, each column standardised over the recordings
    of the list. The layer is chosen on development trials. Computed once, kept in the output folder.

    Args:
        teacher: its name; empty: the profile's.
    Returns:
        name -> {"mean": EER, "low", "high": 95 % interval over speakers, "miss", "false_alarm": [n] and
        "eer" as of `det_data`}, fractions; the plots `intervals`, `det` and `layers` draw them.
        Chance has no interval.
    """
    cfg, task = lesson.cfg, lesson.speech
    teacher = teacher or cfg.model.teacher
    used = {"data": config.to_dict(cfg)["data"], "teacher": teacher}
    file = lesson.out / f"untrained-{provenance.digest(json.dumps(used, sort_keys=True))}.json"
    if not file.is_file():
        say(f"scoring without training, once: MFCC and the layers of {teacher}")
        encoder = load_encoder(teacher).to(device_of(cfg.device)).eval()
        dev = _waves(task.dev_trials, task.dev.root)
        hidden = probes.pooled(lambda wave: probes.states_of(encoder, wave)[1:], dev)
        layer = best_table(hidden, task.dev_trials)
        made = without_model(task.test_trials, task.test_root)
        waves = _waves(task.test_trials, task.test_root)
        (table,) = probes.pooled(lambda wave: [probes.states_of(encoder, wave)[1 + layer]], waves)
        made[f"teacher's state {layer}, no training"] = summary(table, task.test_trials)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, made)
    return read_json(file)


def without_model(trials: Trials, root: Path) -> dict[str, dict]:
    """Chance and MFCC on a trial list, as in `untrained`."""
    (table,) = probes.pooled(probes.mfcc_states, _waves(trials, root))
    return {CHANCE: chance(), MFCC: summary(table, trials)}


def chance() -> dict:
    """A verifier that does not listen: false alarms and misses add to 1.

    >>> chance()["mean"], chance()["miss"][:2]
    (0.5, [0.0, 0.01])
    """
    miss = [step / 100 for step in range(101)]
    return {"mean": 0.5, "miss": miss, "false_alarm": [1 - rate for rate in miss], "eer": 0.5}


def summary(table: np.ndarray, trials: Trials) -> dict:
    """EER, interval and curve of cosines between the rows of a table.

    Args:
        table: [n, F], a row per recording of the list.

    >>> trials = Trials(np.array([1, 1, 0]), np.array([0, 2, 0]), np.array([1, 3, 2]),
    ...     ["a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav"], "four recordings")
    >>> made = summary(np.array([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.2], [-1.0, 0.3]]), trials)
    >>> made["mean"], made["low"], made["high"]
    (0.0, 0.0, 0.0)
    """
    scores = cosines(table, trials)
    speakers = bootstrap.trial_speakers(trials)
    low, high = bootstrap.bootstrap_ci(scores, trials.label, speakers)
    curve = det_data(scores, trials.label)
    return {"mean": curve["eer"], "low": low, "high": high, **curve}


def table_rows(baselines: dict[str, dict]) -> list[tuple[str, str, str]]:
    """Rows of a table: name, EER, interval.

    >>> table_rows({"chance": chance()})
    [('chance', '50.00 %', '')]
    """
    rows = []
    for name, rates in baselines.items():
        ends = [percent(rates[key]) for key in ("low", "high") if key in rates]
        rows.append((name, percent(rates["mean"]), " to ".join(ends)))
    return rows


def verdict(results: dict[str, dict], baselines: dict[str, dict]) -> str:
    """A sentence about systems that do not beat what needs no training.

    A system beats a baseline where the upper end of its interval is below the baseline's EER.

    Args:
        results: name -> {"mean": EER, "high": upper end of its interval}, fractions.

    >>> verdict({"ours": {"mean": 0.3, "high": 0.4}}, {"MFCC": {"mean": 0.35}, "chance": chance()})
    'Training does not beat MFCC (35.00 %) in: ours (30.00 %, interval up to 40.00 %).'
    >>> verdict({"ours": {"mean": 0.1, "high": 0.2}}, {"chance": chance()})
    'Every system beats chance (50.00 %).'
    """
    lines, beaten = [], []
    for name, baseline in baselines.items():
        losers = [
            f"{system} ({percent(rates['mean'])}, interval up to {percent(rates['high'])})"
            for system, rates in results.items()
            if rates["high"] >= baseline["mean"]
        ]
        beaten.append(f"{name} ({percent(baseline['mean'])})")
        if losers:
            lines.append(f"Training does not beat {beaten[-1]} in: {', '.join(losers)}.")
    return paragraph("\n".join(lines) or f"Every system beats {', '.join(beaten)}.")


def _waves(trials: Trials, root: Path) -> Iterator[np.ndarray]:
    """The recordings of a list, one at a time."""
    return (audio.read(Path(root) / path) for path in trials.paths)
