"""Judges to compare on one pair of recordings: the student with and without adapters, two untrained.

Each is a `Verifier`, so each embeds, scores, decides at its own threshold and names a probability.
"""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from oskdft import config
from oskdft.config import EvalConfig
from oskdft.evaluation import calibration, metrics, probes, scoring
from oskdft.evaluation.verifier import Verifier, load
from oskdft.method.model import SpeakerModel
from oskdft.speech import audio, protocol
from oskdft.speech.corpora.drawn_trials import make_trials
from oskdft.speech.corpora.tables import few
from oskdft.speech.corpora.trials import Trials
from oskdft.storage.pretrained import load_encoder

STUDENT, BARE = "student", "student, adapters off"
MFCC, TEACHER = "MFCC, no model", "teacher, not fine-tuned"
SHIPPED, ITS_TEACHER = "classroom", "classroom-hubert"
EACH = 8  # recordings of each development speaker that a threshold is set on

States = Callable[[np.ndarray], list[Tensor]]


class Pooled:
    """A model without training: mean and deviation over time of one state, each column standardised.

    Args:
        states: utterance [N] -> a list of one state [T, C]. columns: [n, 2 C] of known recordings,
            which give mean and deviation of each column.

    >>> model = Pooled(probes.mfcc_states, np.eye(26))
    >>> model.embed([np.sin(np.arange(16_000.0))]).shape
    (1, 26)
    """

    device = "cpu"

    def __init__(self, states: States, columns: np.ndarray) -> None:
        self.states = states
        self.mean, self.deviation = columns.mean(0), columns.std(0) + 1e-8

    def embed(self, waves: list[np.ndarray], without_adapters: bool = False) -> np.ndarray:
        """Embeddings [n, 2 C] float32 of n utterances [N]; there are no adapters to leave out."""
        (table,) = probes.pooled(self.states, waves)
        return ((table - self.mean) / self.deviation).astype(np.float32)


class Bare:
    """A student whose adapters are left out: its back-end hears the distillation path."""

    def __init__(self, student: SpeakerModel) -> None:
        self.student, self.device = student, student.device

    def embed(self, waves: list[np.ndarray], without_adapters: bool = True) -> np.ndarray:
        """Embeddings [n, E] float32 of n utterances [N]."""
        return self.student.embed(waves, without_adapters=True)


def judges(student: Verifier | None = None) -> dict[str, Verifier]:
    """The student of the package with and without adapters, MFCC, and the best state of its teacher.

    Threshold and calibration of the last three, and the state of the teacher, come from `EACH`
    recordings of each development speaker of the speech in the package. It takes seconds.

    Args:
        student: loaded before; None: the shipped one.
    Returns:
        name -> verifier.
    """
    task = protocol.prepare(config.load(SHIPPED))
    trials = make_trials(few(task.dev, len(task.dev.speakers), EACH), seed=0)
    waves = [audio.read(task.dev.root / path) for path in trials.paths]
    encoder = load_encoder(ITS_TEACHER).eval()
    hidden = probes.pooled(lambda wave: probes.states_of(encoder, wave)[1:], waves)
    tables = [table.astype(float) for table in hidden]
    best = best_table(tables, trials)
    (cepstra,) = probes.pooled(probes.mfcc_states, waves)
    bare = Bare(load(SHIPPED, "cpu").model)
    table = scoring.normalise(np.concatenate([bare.embed([wave]) for wave in waves]))
    scores = scoring.score_trials(table, None, np.stack([trials.enrol, trials.test], 1))
    described = {"speech": SHIPPED, "calibration": {"full": calibration.fit(scores, trials.label)}}
    return {
        STUDENT: student or load(SHIPPED, "cpu", quick=True),
        BARE: Verifier(bare, EvalConfig(), described),
        MFCC: untrained(probes.mfcc_states, cepstra.astype(float), trials),
        TEACHER: untrained(
            lambda wave: [probes.states_of(encoder, wave)[1 + best]], tables[best], trials
        ),
    }


def best_table(tables: list[np.ndarray], trials: Trials) -> int:
    """The table of lowest EER on a list.

    Args:
        tables: [n, F] each, a row per recording of the list.

    >>> trials = Trials(np.array([1, 0]), np.array([0, 0]), np.array([1, 2]), ["a/1", "a/2", "b/1"], "")
    >>> good, bad = np.array([[1.0], [0.9], [-1.0]]), np.array([[1.0], [-1.0], [0.9]])
    >>> best_table([bad, good], trials)
    1
    """
    return int(np.argmin([metrics.eer(cosines(t, trials), trials.label)[0] for t in tables]))


def cosines(table: np.ndarray, trials: Trials) -> np.ndarray:
    """Scores [P] of a list: cosines between the rows of a standardised table, see `best_table`."""
    pairs = np.stack([trials.enrol, trials.test], 1)
    return scoring.score_trials(probes.standardised_columns(table), None, pairs)


def untrained(states: States, table: np.ndarray, trials: Trials) -> Verifier:
    """A verifier that was not trained: its columns, threshold and calibration come from a trial list.

    Args:
        states: of `Pooled`. table: [n, 2 C] its pooled states, a row per recording of the list.
    """
    fitted = calibration.fit(cosines(table, trials), trials.label)
    described = {"speech": "nothing", "calibration": {"full": fitted}}
    return Verifier(Pooled(states, table), EvalConfig(), described)
