"""Two-path viewer: the states of one utterance along both paths of a student, and likeness to the teacher."""

import numpy as np
import torch
from ipywidgets import Checkbox, Dropdown, HBox, IntSlider, Layout
from matplotlib.artist import Artist
from torch import nn

from oskdft.config import SAMPLE_RATE
from oskdft.evaluation.probes import states_of
from oskdft.evaluation.scoring import normalise
from oskdft.lessons.figures.style import COLOURS, Picture, needed, new, styled
from oskdft.lessons.widgets.parts import Panel, Screen, Status, player, wav, wide
from oskdft.method.student import Student

UTTERANCE_LIMIT_S = 20.0  # a picture has no room for more
PATHS = ("distillation path", "verification path")
SATURATED = 99.5  # percentile of the absolute levels where the colour scale ends


@torch.no_grad()
def path_states(student: Student, wave: np.ndarray) -> np.ndarray:
    """States of one utterance [N] (float32) along both paths: [2, L+1, T, D], distillation first.

    >>> from oskdft.config import ModelConfig, Switches
    >>> from oskdft.method.student import from_teacher
    >>> from oskdft.storage.pretrained import load_encoder
    >>> made = from_teacher(load_encoder("tiny-random-hubert"), ModelConfig(student_layers=1), Switches())
    >>> path_states(made.eval(), np.zeros(8000, np.float32)).shape
    (2, 2, 24, 32)
    """
    device = next(student.parameters()).device
    rows = torch.from_numpy(wave)[None].to(device)
    both = student.forward_two_paths(rows)
    return torch.stack(both)[:, :, 0].float().cpu().numpy()


def likeness(states: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Mean cosine over frames between each state and each state of the teacher.

    Args:
        states: [..., T, D]. targets: [M, T, D].
    Returns:
        [..., M], in [-1, 1].

    >>> likeness(np.array([[[1.0, 0.0]]]), np.array([[[2.0, 0.0]], [[0.0, 1.0]]])).tolist()
    [[1.0, 0.0]]
    """
    cosines = (normalise(states)[..., None, :, :] * normalise(targets)).sum(-1)  # [..., M, T]
    return cosines.mean(-1)


class TwoPaths(Panel):
    """Both paths of a student, layer by layer: states, difference, likeness to the teacher.

    Args:
        student: in evaluation mode. encoder: of the teacher that it was made from.
        waves: name -> [N] samples at 16 kHz, at most 20 s.
    Raises:
        ValueError: no utterance, one that is too long, another teacher.

    >>> from oskdft.config import ModelConfig, Switches
    >>> from oskdft.method.student import from_teacher
    >>> from oskdft.storage.pretrained import load_encoder
    >>> encoder = load_encoder("tiny-random-hubert")
    >>> made = from_teacher(encoder, ModelConfig(student_layers=1), Switches()).eval()
    >>> widget = two_paths(made, encoder.eval(), {"noise": np.random.default_rng(0).normal(size=8000)})
    >>> widget.adapters.value = False
    >>> widget.status.text.split(";")[0]
    'Adapters off: both paths are one. State 1 (output of layer 1): relative difference of the paths 0'
    """

    def __init__(self, student: Student, encoder: nn.Module, waves: dict[str, np.ndarray]) -> None:
        needed(waves, "waves")
        self.student, self.encoder, self.waves = student, encoder, waves
        self.utterance = Dropdown(options=list(waves), description="utterance", **wide("300px"))
        layers = len(student.encoder.encoder.layers)
        self.layer = IntSlider(layers, 0, layers, description="layer", **wide("300px"))
        self.adapters = Checkbox(True, description="adapters", indent=False)
        self.adapters.layout = Layout(width="120px")
        if not student.adapters:
            self.adapters.value, self.adapters.disabled = False, True
        self.player, self.status = player(np.zeros(1), "the utterance"), Status()
        self._compute()
        self.screen = Screen(*self._figure())
        self._show()
        row = Layout(flex_flow="row wrap", align_items="center")
        controls = HBox([self.utterance, self.layer, self.adapters, self.player], layout=row)
        super().__init__([controls, self.screen.image, self.status], [self.screen], [self.status])
        self.status.when(self._show, self.layer, self.adapters)
        self.status.when(self._change_utterance, self.utterance)

    def _compute(self) -> None:
        """Compute all states of the chosen utterance; layer and adapters only choose among them."""
        name = self.utterance.value
        wave = np.asarray(self.waves[name], np.float32)
        self.seconds = len(wave) / SAMPLE_RATE
        if self.seconds > UTTERANCE_LIMIT_S:
            raise ValueError(
                f"{name} is {self.seconds:.0f} s long; cut it to at most {UTTERANCE_LIMIT_S:.0f} s"
            )
        states = path_states(self.student, wave)
        targets = torch.stack(states_of(self.encoder, wave)[1:]).float().cpu().numpy()
        if targets.shape[-2:] != states.shape[-2:]:
            raise ValueError(
                f"the teacher's states are {targets.shape[-2:]}, the student's {states.shape[-2:]} "
                "(frames, width); give the teacher that the student was made from"
            )
        self.states, self.likeness = states, likeness(states, targets)  # [2, L+1, M]
        self.player.value = wav(wave)

    def _change_utterance(self) -> None:
        self._compute()
        self.screen.show(*self._figure())
        self._show()

    @styled
    def _figure(self) -> tuple[Picture, list[Artist]]:
        """Three empty heat maps and a diagram, and their moving artists."""
        figure, axes = new(2, 2, width=12.0, height=5.2)
        top = float(np.percentile(np.abs(self.states), SATURATED))
        apart = float(np.percentile(np.abs(self.states[1] - self.states[0]), SATURATED))
        width = self.states.shape[-1]
        panels = ((PATHS[0], top), (PATHS[1], top), ("difference", apart or top))
        images = []
        for ax, (title, limit) in zip(axes.flat[:3], panels, strict=True):
            image = ax.imshow(
                np.zeros((width, 1)), vmin=-limit, vmax=limit, extent=(0, self.seconds, 0, width),
                cmap="RdBu_r", aspect="auto", origin="lower", interpolation="nearest",
            )  # fmt: skip
            ax.set(title=title, ylabel="dimension", xlabel="time [s]")
            ax.grid(False)
            figure.colorbar(image, ax=ax, pad=0.02)
            images.append(image)
        return figure, [*images, *self._diagram(axes[1, 1])]

    def _diagram(self, ax) -> list[Artist]:
        """A mark at the layer, and the likeness to each layer of the teacher, a line per path."""
        at = range(self.likeness.shape[-1])
        moving = [ax.axvline(0, color="black", lw=1.2, ls=":")]
        # line styles that show both lines where they coincide
        look = {"marker": "o", "mfc": "none", "mew": 2}
        zeros = np.zeros(len(at))
        moving += ax.plot(at, zeros, color=COLOURS[0], label=PATHS[0], ls="--", ms=13, **look)
        moving += ax.plot(at, zeros, color=COLOURS[1], label=PATHS[1], ls="-", ms=8, **look)
        low = min(0.0, float(self.likeness.min()))
        ax.set(title="likeness to the teacher", xlabel="layer of the teacher", ylabel="mean cosine")
        ax.set(xticks=at, ylim=(low - 0.05, 1.05))
        ax.legend(loc="lower left", frameon=True)
        return moving

    def _show(self) -> None:
        """Update everything that depends on the layer and the adapters."""
        layer, path = self.layer.value, int(self.adapters.value)  # without adapters both are one
        distilled, verified = self.states[0, layer], self.states[path, layer]  # [T, D]
        *images, mark, distilled_line, verified_line = self.screen.moving
        for image, state in zip(images, (distilled, verified, verified - distilled), strict=True):
            image.set_data(state.T)
        alike = self.likeness[:, layer]
        mark.set_xdata([layer, layer])
        distilled_line.set_ydata(alike[0])
        verified_line.set_ydata(alike[path])
        apart = np.linalg.norm(verified - distilled) / np.linalg.norm(distilled)
        adapters = "Adapters on." if self.adapters.value else "Adapters off: both paths are one."
        if not self.student.adapters:
            adapters = "This student has no adapters, so both paths are one."
        where = f"output of layer {layer}" if layer else "in front of layer 1"
        self.status.say(
            f"{adapters} State {layer} ({where}): relative difference of "
            f"the paths {apart:.3g}; likeness to the teacher's state {layer}: distillation path "
            f"{alike[0, layer]:.3f}, verification path {alike[path, layer]:.3f}."
        )
        self.screen.draw(
            f"States of both paths, their difference, likeness to the teacher. {self.status.text}"
        )


two_paths = TwoPaths  # its name in notebooks
