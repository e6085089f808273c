"""DET explorer of two Gaussians, with sliders for their distance and spread."""

from collections.abc import Iterable

import numpy as np
from ipywidgets import Widget
from scipy.special import ndtri

from oskdft.evaluation.bands import DRAWS
from oskdft.lessons.widgets.det import Explorer
from oskdft.lessons.widgets.parts import slider

EACH = 500  # trials of each kind
NAME = "two Gaussians"
NOTE = (
    f"Scores of different speakers around 0 with spread 1, of the same speaker around the distance. "
    f"Band: where 95 % of tests with {EACH} trials of each kind lie."
)


def draws_of_gaussians(distance: float, spread: float) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """DET curves of tests with `EACH` trials of each kind, for `bands.band`; the same draws each time."""
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        other, target = np.sort(rng.normal(size=(2, EACH)))
        below = np.searchsorted(distance + spread * target, other[::-1])  # misses at each alarm
        alarm = np.arange(EACH + 1) / EACH
        yield alarm, np.r_[1.0, below / EACH]


class Gaussians(Explorer):
    """Two Gaussians with sliders for distance and spread, and everything of `det.Explorer` on them.

    Args:
        distance: of the means, in deviations of the scores of different speakers, 0 to 6.
        spread: deviation of the scores of the same speaker, 0.25 to 3.

    >>> widget = gaussian_explorer(2.0)
    >>> widget.status.text.splitlines()[0]
    'two Gaussians, threshold 1.000: 15.80 % misses, 15.80 % false alarms.'
    >>> widget.distance.value = 4.0
    >>> widget.status.text.splitlines()[0]
    'two Gaussians, threshold 2.000: 2.20 % misses, 2.20 % false alarms.'
    """

    def __init__(self, distance: float = 3.0, spread: float = 1.0) -> None:
        self.distance = slider("distance of the means", distance, 0.0, 6.0, 0.05)
        self.spread = slider("spread of the same speaker", spread, 0.25, 3.0, 0.05)
        super().__init__({NAME: self._scores()}, NOTE)
        for control in (self.distance, self.spread):
            control.continuous_update = False  # the whole picture is drawn again
        self.status.when(self._shape, self.distance, self.spread)

    def _scores(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores that are spread as the Gaussians say, without chance, and labels."""
        place = ndtri((np.arange(EACH) + 0.5) / EACH)
        target = self.distance.value + self.spread.value * place
        return np.r_[target, place], np.repeat([1, 0], EACH)

    def _draws(self) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        return draws_of_gaussians(self.distance.value, self.spread.value)

    def _choosers(self) -> list[Widget]:
        return [self.distance, self.spread]

    def _shape(self) -> None:
        """Draw other Gaussians; the threshold goes to their EER."""
        self.systems = {NAME: self._scores()}
        self._draw_first()
        self.screen.show(self.axes[0].figure, self.moving)
        self._move()


gaussian_explorer = Gaussians  # its name in notebooks
