"""Who is it? Voices that are enrolled by name, and whose voice a recording is; all in memory only."""

from collections.abc import Callable

import numpy as np
from ipywidgets import Button, Dropdown, HBox, Layout, Text, VBox

from oskdft.evaluation import scoring
from oskdft.lessons.widgets.parts import Status, wide

MOST = 10  # voices
LONGEST_NAME = 30
EMPTY = "No voice yet. A name that is there already gets one more recording."
KEPT = (
    "Names and voices are kept in the memory of this kernel only. "
    "They are gone when you restart it, or press Forget."
)


class Voices(VBox):
    """Enrolled voices, and the one that a recording sounds most like.

    Args:
        enrolled: gives the embedding [E] to enrol. asked: gives the embedding [E] to name.
        threshold: score from which on a voice counts as found.
        message: says what went wrong.

    >>> heard = [np.array([1.0, 0.0]), np.array([0.9, 0.1])]
    >>> voices = Voices(lambda: heard[0], lambda: heard[1], 0.5, Status())
    >>> voices.name.value = "Ann"
    >>> voices.enrol.click()
    >>> voices.result.text.splitlines()[0]
    'The machine says: the second recording is Ann.'
    """

    def __init__(
        self,
        enrolled: Callable[[], np.ndarray],
        asked: Callable[[], np.ndarray],
        threshold: float,
        message: Status,
    ) -> None:
        self.enrolled, self.asked, self.threshold = enrolled, asked, threshold
        self.embeddings: dict[str, list[np.ndarray]] = {}
        self.name = Text(description="Name of this voice", placeholder="a name", **wide("300px"))
        self.enrol = Button(description="Enrol the first recording", layout=Layout(width="200px"))
        self.voice = Dropdown(description="Enrolled voices", **wide("260px"))
        self.forget = Button(description="Forget", layout=Layout(width="90px"))
        self.forget_all = Button(description="Forget all voices", layout=Layout(width="150px"))
        self.result = Status()
        rows = [self.name, self.enrol], [self.voice, self.forget, self.forget_all]
        wrapped = Layout(flex_flow="row wrap")
        boxes = [HBox(row, layout=wrapped) for row in rows]
        super().__init__([*boxes, self.result, Status(KEPT)])
        message.when(self._enrol, self.enrol)
        message.when(lambda: self._forget([self.voice.value]), self.forget)
        message.when(lambda: self._forget(list(self.embeddings)), self.forget_all)
        self._list()

    def _enrol(self) -> None:
        """Add the recording at hand to a voice."""
        name = self.name.value.strip()[:LONGEST_NAME]
        if not name:
            raise ValueError("Write a name first.")
        if name not in self.embeddings and len(self.embeddings) >= MOST:
            raise ValueError(f"There are {MOST} voices already. Forget one first.")
        self.embeddings.setdefault(name, []).append(scoring.normalise(self.enrolled()[None])[0])
        self.name.value = ""
        self._list(name)

    def _forget(self, names: list[str]) -> None:
        for name in names:
            self.embeddings.pop(name, None)
        self._list()

    def _list(self, chosen: str | None = None) -> None:
        """List the voices with the number of their recordings."""
        rows = [(f"{name} ({len(e)})", name) for name, e in self.embeddings.items()]
        self.voice.options = rows
        if chosen:
            self.voice.value = chosen
        for control in (self.voice, self.forget, self.forget_all):
            control.disabled = not rows
        self.identify()

    def identify(self) -> None:
        """Say which voice the recording sounds most like, best first."""
        if not self.embeddings:
            self.result.say(EMPTY)
            return
        (heard,) = scoring.normalise(self.asked()[None])
        means = {name: np.mean(rows, axis=0) for name, rows in self.embeddings.items()}
        scores = {name: float(scoring.normalise(m[None])[0] @ heard) for name, m in means.items()}
        ranked = sorted(scores, key=scores.get, reverse=True)
        found = scores[ranked[0]] >= self.threshold
        who = ranked[0] if found else "none of the enrolled voices"
        listed = ", ".join(f"{name} {scores[name]:.3f}" for name in ranked)
        self.result.say(
            f"The machine says: the second recording is {who}.\n"
            f"Scores: {listed}; threshold {self.threshold:.3f}."
        )
