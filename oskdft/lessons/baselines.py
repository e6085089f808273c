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
    return {name: _without_draws(row) for name, row in _scored(lesson, teacher).items()}


def draws(lesson: Lesson, teacher: str = "") -> dict[str, np.ndarray]:
    """EER [D] of the systems of `untrained` in each draw of `bootstrap.bootstrap`; of chance 0.5.

    Args:
        teacher: see `untrained`.
    """
    return {
        name: np.array(row.get("draws", row["mean"]))
        for name, row in _scored(lesson, teacher).items()
    }


def _scored(lesson: Lesson, teacher: str) -> dict[str, dict]:
    """`untrained`, with the draws; computed once."""
    cfg, task = lesson.cfg, lesson.speech
    teacher = teacher or cfg.model.teacher
    used = {"data": config.to_dict(cfg)["data"], "teacher": teacher, "draws": bootstrap.SAMPLES}
    file = lesson.out / f"untrained-{provenance.digest(json.dumps(used, sort_keys=True))}.json"
    if not file.is_file():
        say(f"scoring without training, once: MFCC and the layers of {teacher}")
        encoder = load_encoder(teacher).to(device_of(cfg.device)).eval()
        dev = _waves(task.dev_trials, task.dev.root)
        hidden = probes.pooled(lambda wave: probes.states_of(encoder, wave)[1:], dev)
        layer = best_table(hidden, task.dev_trials)
        (plain,) = probes.pooled(probes.mfcc_states, _waves(task.test_trials, task.test_root))
        waves = _waves(task.test_trials, task.test_root)
        (table,) = probes.pooled(lambda wave: [probes.states_of(encoder, wave)[1 + layer]], waves)
        made = {CHANCE: chance(), MFCC: _with_draws(plain, task.test_trials)}
        made[f"teacher's state {layer}, no training"] = _with_draws(table, task.test_trials)
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
    return _without_draws(_with_draws(table, trials))


def _with_draws(table: np.ndarray, trials: Trials) -> dict:
    """`summary`, with "draws": the EER [D] of each draw of speakers."""
    scores, speakers = cosines(table, trials), bootstrap.trial_speakers(trials)
    bootstrap.warn_of_few(speakers)
    drawn = bootstrap.bootstrap(scores, trials.label, speakers)
    low, high = np.quantile(drawn, bootstrap.INTERVAL).tolist()
    curve = det_data(scores, trials.label)
    return {"mean": curve["eer"], "low": low, "high": high, **curve, "draws": drawn.tolist()}


def _without_draws(row: dict) -> dict:
    return {key: value for key, value in row.items() if key != "draws"}


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


def verdict(systems: dict[str, np.ndarray], plain: dict[str, np.ndarray]) -> str:
    """Sentences: what needs no training and is beaten by every system, and what is not shown to be.

    A system is shown to beat a baseline where the 95 % interval of the difference, on the same draws of
    speakers, lies above 0.

    Args:
        systems: name -> EER of each draw, [D], as of `evidence.compare`. plain: of `draws`.

    >>> plain = {"MFCC": np.array([0.3, 0.4]), "chance": np.array(0.5)}
    >>> print(verdict({"ours": np.array([0.2, 0.45])}, plain))
    Every system beats chance.
    Not shown to beat MFCC: ours (by -4.62 to +9.62 points).
    """
    beaten, lines = [], []
    for name, drawn in plain.items():
        ends = {
            system: 100 * np.quantile(drawn - own, bootstrap.INTERVAL)
            for system, own in systems.items()
        }
        missed = [
            f"{system} (by {low:+.2f} to {high:+.2f} points)"
            for system, (low, high) in ends.items()
            if low <= 0
        ]
        if missed:
            lines.append(f"Not shown to beat {name}: {', '.join(missed)}.")
        else:
            beaten.append(name)
    if beaten:
        lines.insert(0, f"Every system beats {', '.join(beaten)}.")
    return paragraph("\n".join(lines))


def _waves(trials: Trials, root: Path) -> Iterator[np.ndarray]:
    """The recordings of a list, one at a time."""
    return (audio.read(Path(root) / path) for path in trials.paths)
