"""The moving picture of one update: speech goes in, both paths, which loss pushes which weight."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from oskdft.lessons.figures.method import DISTIL_Y, KD, LEFT, SV, TEACHER_Y, VERIFY_Y, drawing
from oskdft.lessons.figures.style import Picture, new, style
from oskdft.utils.files import require_new

FORK = ((10.5, 22.0), (24.5, 22.0))  # from the student's speech to its CNN
FADED = 0.15  # opacity of a part that an act does not speak of
FRAMES = 8  # of an act
FRAME_MS, REST_MS = 90, 1600  # of a frame; of the last frame of an act, in which one reads
WIDTH = 960  # pixels


@dataclass(frozen=True, slots=True)
class Act:
    """One sentence of the story.

    Attributes:
        words: the sentence. lit: parts of `method.drawing` that stay visible.
        way: points that a dot runs along. colour: of the dot: grey for speech, else that of a loss.
        trained: parts whose weights a loss changes; they have a frame of its colour.
    """

    words: str
    lit: tuple[str, ...]
    way: tuple[tuple[float, float], ...]
    colour: str = "#333333"
    trained: tuple[str, ...] = ()


DISTILLATION = ("cnn", "distillation", "heads")  # what the KD loss trains
VERIFICATION = ("cnn", "verification", "adapters", "backend")  # what the SV loss trains
STUDENT = ("speech", *VERIFICATION, "embedding")
ACTS = (
    Act(
        "1  The teacher hears the clean crop. It is frozen: nothing ever changes its weights.",
        ("teacher",),
        ((10.5, TEACHER_Y), (84, TEACHER_Y)),
    ),
    Act(
        "2  The student hears the same crop, with noise. Distillation path: shared layers, no adapters.",
        ("speech", *DISTILLATION),
        (*FORK, (LEFT, DISTIL_Y), (82, DISTIL_Y)),
    ),
    Act(
        "3  KD loss: how far are the student's states from the teacher's?",
        ("teacher", "speech", *DISTILLATION, "kd"),
        ((82, DISTIL_Y), (92, 38.4), (94, 41.5)),
        KD,
    ),
    Act(
        "4  The KD loss pushes the KD heads and the shared layers. It never reaches an adapter.",
        ("speech", *DISTILLATION, "kd"),
        ((94, 41.5), (82, DISTIL_Y), (LEFT, DISTIL_Y), (24.5, 22), (16.5, 22)),
        KD,
        DISTILLATION,
    ),
    Act(
        "5  Verification path: the same layers once more, now with an adapter beside each.",
        STUDENT,
        (*FORK, (LEFT, VERIFY_Y), (100, VERIFY_Y)),
    ),
    Act(
        "6  SV loss: whose voice is this embedding?",
        (*STUDENT, "sv"),
        ((94, VERIFY_Y), (94, 23.5)),
        SV,
    ),
    Act(
        "7  The SV loss pushes back-end and adapters, and the shared layers too.",
        (*STUDENT, "sv"),
        ((94, 23.5), (94, VERIFY_Y), (LEFT, VERIFY_Y), (24.5, 22), (16.5, 22)),
        SV,
        VERIFICATION,
    ),
    Act(
        "8  One step, both losses: the shared layers serve two masters, the adapters only one.",
        (*STUDENT, *DISTILLATION, "kd", "sv", "teacher"),
        (),
        "#333333",
    ),
    Act(
        "9  After training only the verification path is kept. The teacher is not needed any more.",
        STUDENT,
        (*FORK, (LEFT, VERIFY_Y), (100, VERIFY_Y)),
    ),
)


class Story:
    """The drawing of the method, act by act.

    Args:
        teacher_layers, student_layers: of the model.

    >>> story = Story()
    >>> story.show(0, 1.0)
    >>> story.picture.alt[:24]
    '1  The teacher hears the'
    """

    def __init__(self, teacher_layers: int = 12, student_layers: int = 2) -> None:
        with style():
            self.picture: Picture = new()[0]
            ax = self.picture.axes[0]
            self.parts = drawing(ax, teacher_layers, student_layers)
            for artist in self.parts.pop("words") + self.parts.pop("gradients"):
                artist.remove()
            self.words = ax.text(2, -2.2, "", fontsize=14, weight="bold")
            (self.dot,) = ax.plot([], [], "o", ms=15, mec="white", mew=2, zorder=9, clip_on=False)
        # an artist's own look, to which the acts return
        self.edges = {
            patch: (patch.get_edgecolor(), patch.get_linewidth())
            for part in self.parts.values()
            for patch in part
            if hasattr(patch, "get_boxstyle")
        }

    def show(self, number: int, progress: float) -> None:
        """Show an act.

        Args:
            number: of the act, from 0. progress: of its dot, in [0, 1].
        """
        act = ACTS[number]
        for name, part in self.parts.items():
            for artist in part:
                artist.set_alpha(1.0 if name in act.lit else FADED)
                if artist in self.edges:
                    colour, width = self.edges[artist]
                    trained = name in act.trained and progress > 0.5
                    artist.set_edgecolor(act.colour if trained else colour)
                    artist.set_linewidth(4.5 if trained else width)
        self.words.set_text(act.words)
        self.dot.set_data(*_along(act.way, progress))
        self.dot.set_color(act.colour)
        self.dot.set_markeredgecolor("white")
        self.picture.alt = act.words


def _along(way: tuple[tuple[float, float], ...], progress: float) -> tuple[list, list]:
    """The point of a line that is reached after a share of its length: [x], [y]; [], [] without a line.

    >>> _along(((0, 0), (4, 0), (4, 4)), 0.75)
    ([4.0], [2.0])
    """
    if not way:
        return [], []
    points = np.asarray(way, float)
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(lengths)])
    x, y = (float(np.interp(progress * at[-1], at, places)) for places in points.T)
    return [x], [y]


def frames() -> tuple[list[Image.Image], list[int]]:
    """The pictures of the story, and how long each is shown [ms]."""
    story, pictures, durations = Story(), [], []
    with style():
        canvas = FigureCanvasAgg(story.picture)
        for number, act in enumerate(ACTS):
            shares = np.linspace(0, 1, FRAMES) if act.way else [1.0]
            for share in shares:
                story.show(number, share)
                canvas.draw()
                pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
                height = round(pixels.height * WIDTH / pixels.width)
                pictures.append(pixels.resize((WIDTH, height), Image.Resampling.LANCZOS))
                durations.append(FRAME_MS)
            durations[-1] = REST_MS
    return pictures, durations


def save(path: str | Path) -> None:
    """Write the story as an animated WebP that repeats for ever; ``path``: a new file.

    Raises:
        ValueError: the file exists.
    """
    pictures, durations = frames()
    look = {"save_all": True, "append_images": pictures[1:], "duration": durations, "loop": 0}
    path = require_new(path, "the animation")
    pictures[0].save(path, format="WEBP", quality=80, method=4, **look)
