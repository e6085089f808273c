"""The whole method as one drawing: teacher, student, two paths, two losses."""

from collections import defaultdict
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from oskdft.lessons.figures.style import COLOURS, joined, plot

FROZEN = "#d9d9d9"
SHARED = "#cfe3f2"
ADAPTER = COLOURS[1]
KD = COLOURS[4]
SV = COLOURS[2]
TEACHER_Y = 51.0  # middle lines of the three rows
DISTIL_Y = 32.0
VERIFY_Y = 12.0
LEFT = 30.0  # middle of the first layer
STEP = 13.0  # from layer to layer
Parts = defaultdict[str, list[Artist]]  # name of a part of the drawing -> its artists
RELEASED = (4, 8, 12)  # teacher layers that the KD loss of release R compares
TEACHER_LEFT, TEACHER_RIGHT = 28.0, 84.0  # ends of the row of teacher layers
NUMBERED = 16  # teacher layers at most that all have room for their number
KD_BUS = 43.2  # line that collects what the KD heads imitate
SV_BUS = 1.6  # line that collects what the back-end sums


@plot
def method(
    ax: Axes, teacher_layers: int = 12, student_layers: int = 2, kd_layers: Sequence[int] = RELEASED
) -> str:
    """Teacher, student and its two paths, the two losses and the parameters that each loss trains.

    Args:
        teacher_layers, student_layers: of the model; a student of more than 3 layers is abbreviated.
        kd_layers: of the teacher, which the KD loss compares.
    Raises:
        ValueError: see `drawing`.
    Source: METHOD.md section 1.

    >>> method(12, 2).alt[:72]
    'The method: a frozen teacher of 12 layers; a student of its first 2, run'
    """
    drawing(ax, teacher_layers, student_layers, kd_layers)
    return (
        f"The method: a frozen teacher of {teacher_layers} layers; a student of its first "
        f"{student_layers}, run twice over the same speech. The distillation path, without adapters, "
        f"imitates teacher layers {joined(kd_layers)} (KD loss); the verification path, with an adapter "
        "beside each layer, ends in a weighted sum of all states and an embedding (SV loss). KD trains the "
        "shared layers; SV also adapters and back-end. After training the verification path is kept."
    )


def drawing(
    ax: Axes, teacher_layers: int = 12, student_layers: int = 2, kd_layers: Sequence[int] = RELEASED
) -> Parts:
    """Draw the method and return its parts: "teacher", "speech", "cnn", "distillation", "heads", "kd",
    "verification", "adapters", "backend", "embedding", "sv", "gradients", "words".

    Raises:
        ValueError: the student has no layer, or more than the teacher; the teacher lacks a KD layer.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise ValueError(f"{student_layers} student layers; give 1 to {teacher_layers}")
    if not all(1 <= layer <= teacher_layers for layer in kd_layers):
        raise ValueError(f"KD layers {list(kd_layers)}; give layers from 1 to {teacher_layers}")
    ax.figure.set_size_inches(12.8, 7.0)
    ax.set(xlim=(0, 105), ylim=(-3, 61))
    ax.set_axis_off()
    layers = [f"layer {n}" for n in range(1, student_layers + 1)]
    names = layers if student_layers <= 3 else [layers[0], "...", layers[-1]]
    _box(ax, 40, 22.3, 51, 37, "white", "", edge=COLOURS[0])
    note = "student: one set of weights,\nrun twice over the same speech"
    ax.text(16, 40.2, note, color=COLOURS[0], ha="left", va="top", fontsize=11, weight="bold")
    parts: Parts = defaultdict(list)
    _teacher(ax, teacher_layers, kd_layers, parts["teacher"])
    _student(ax, names, parts)
    _losses(ax, parts)
    _imitated(ax, teacher_layers, kd_layers, parts["kd"])
    _gradients(ax, LEFT + STEP * (len(names) - 1) + 7, parts["gradients"])
    return parts


def _teacher(ax: Axes, layers: int, kd_layers: Sequence[int], part: list[Artist]) -> None:
    part += _box(ax, 6, TEACHER_Y, 9, 7, "white", "speech")
    part += _box(ax, 20.5, TEACHER_Y, 8, 7, FROZEN, "CNN")
    part += _arrow(ax, (10.5, TEACHER_Y), (16.5, TEACHER_Y))
    part += _arrow(ax, (24.5, TEACHER_Y), (TEACHER_LEFT, TEACHER_Y))
    for layer in range(1, layers + 1):
        place = _teacher_place(layer, layers)
        width = 0.8 * (TEACHER_RIGHT - TEACHER_LEFT) / layers
        named = layers <= NUMBERED or layer in {1, layers, *kd_layers}
        part += _box(ax, place, TEACHER_Y, width, 7, FROZEN, str(layer) * named, size=11)
    title = "teacher: large, pre-trained, frozen"
    ax.text(16.5, TEACHER_Y + 6.4, title, fontsize=12, weight="bold", color="#555555")


def _teacher_place(layer: int, layers: int) -> float:
    """Middle of a teacher layer; the row has the same length for every teacher."""
    return TEACHER_LEFT + (TEACHER_RIGHT - TEACHER_LEFT) * (layer - 0.5) / layers


def _imitated(ax: Axes, layers: int, kd_layers: Sequence[int], part: list[Artist]) -> None:
    """Lines from the teacher layers that the KD loss compares to the KD loss."""
    places = [_teacher_place(layer, layers) for layer in kd_layers]
    for place in places:
        part += ax.plot([place, place], [TEACHER_Y - 3.5, KD_BUS], color=KD, lw=1.8, ls="-")
    part += ax.plot([min(places), 86], [KD_BUS, KD_BUS], color=KD, lw=1.8, ls="-")
    part += _arrow(ax, (85, KD_BUS), (87.5, KD_BUS), KD)
    release = "\n(release R)" if tuple(kd_layers) == RELEASED else ""
    words = f"KD reads teacher\nlayer{'s' * (len(kd_layers) > 1)} {joined(kd_layers)}{release}"
    part.append(ax.text(86, TEACHER_Y + 3.4, words, fontsize=11, ha="left", va="top"))


def _gradients(ax: Axes, right: float, part: list[Artist]) -> None:
    """Dashed arrows from each loss back to the weights that it trains; ``right``: of the last layer."""
    distil, verify = DISTIL_Y - 2, VERIFY_Y - 2
    middle = (DISTIL_Y + VERIFY_Y) / 2
    ways = (
        (KD, (89.3, 38.4), (82.2, DISTIL_Y + 2.6)),
        (KD, (70, distil), (right, distil)),
        (KD, (28, DISTIL_Y - 0.5), (21, middle + 3.7)),
        (SV, (96, 20.4), (96, VERIFY_Y + 3.6)),
        (SV, (87.5, verify), (83.3, verify)),
        (SV, (69, verify), (right, verify)),
        (SV, (69, verify - 1.5), (right, VERIFY_Y - 6)),
        (SV, (28, VERIFY_Y + 0.5), (21, middle - 3.7)),
    )
    for colour, start, end in ways:
        part += _arrow(ax, start, end, colour, ls=(0, (4, 2)))


def _student(ax: Axes, names: list[str], parts: Parts) -> None:
    middle = (DISTIL_Y + VERIFY_Y) / 2
    parts["speech"] += _box(ax, 6, middle, 9, 7, "white", "speech")
    parts["cnn"] += _box(ax, 20.5, middle, 8, 7, SHARED, "CNN")
    parts["speech"] += _arrow(ax, (10.5, middle), (16.5, middle))
    for y, path in ((DISTIL_Y, "distillation"), (VERIFY_Y, "verification")):
        parts[path] += _row(ax, names, y, SHARED)
        parts[path] += _arrow(ax, (24.5, middle), (LEFT - 3, y + (-3.5 if y > middle else 3.5)))
    for column, name in enumerate(names):
        x = LEFT + STEP * column + 2.5
        ax.plot([x, x], [VERIFY_Y + 3.5, DISTIL_Y - 3.5], color=COLOURS[0], lw=1.5, ls=":")
        if name != "...":
            parts["adapters"] += _box(ax, x, VERIFY_Y - 6, 9, 3.6, ADAPTER, "adapter", size=11)
    end = LEFT + STEP * (len(names) - 1) + 8
    ax.text(LEFT + 3.3, middle, "same weights", fontsize=11, color=COLOURS[0], va="center")
    parts["heads"] += _box(ax, 76, DISTIL_Y, 12, 7, KD, "KD heads")
    summed = "back-end:\nweighted sum\nof all states"
    parts["backend"] += _box(ax, 76, VERIFY_Y, 14, 10, SV, summed, size=11)
    # the last state reaches the back-end by the path; the others, from state 0 on, by a line below it
    taps = [(26, middle - 4)] + [(LEFT + STEP * n + 8.5, VERIFY_Y) for n in range(len(names) - 1)]
    for x, y in taps:
        parts["backend"] += ax.plot([x, x], [y, SV_BUS], color=SV, lw=1.4, ls="-")
    parts["backend"] += ax.plot([26, 76], [SV_BUS, SV_BUS], color=SV, lw=1.4, ls="-")
    parts["backend"] += _arrow(ax, (76, SV_BUS), (76, VERIFY_Y - 5), SV)
    parts["embedding"] += _box(ax, 94, VERIFY_Y, 13, 7, "white", "embedding", edge=SV)
    parts["embedding"] += _arrow(ax, (83, VERIFY_Y), (87.5, VERIFY_Y))
    clear = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # hides the dotted line behind
    for y, path in ((DISTIL_Y, "distillation"), (VERIFY_Y, "verification")):
        parts[path] += _arrow(ax, (end - 0.5, y), (70 if path == "distillation" else 69, y))
        look = {"fontsize": 11, "ha": "right", "va": "bottom", "style": "italic", "bbox": clear}
        ax.text(64.5, y + 4.2, f"{path} path", **look)


def _losses(ax: Axes, parts: Parts) -> None:
    parts["kd"] += _box(ax, 94, (TEACHER_Y + DISTIL_Y) / 2, 13, 6, KD, "KD loss")
    parts["kd"] += _arrow(ax, (82, DISTIL_Y), (92, 38.4), KD)
    parts["sv"] += _box(ax, 94, 23.5, 13, 6, SV, "SV loss")
    parts["sv"] += _arrow(ax, (94, 15.5), (94, 20.4), SV)
    words = (
        "Dashed: gradients. KD trains shared layers and KD heads. SV trains shared layers, adapters, "
        "back-end. Afterwards only the verification path is kept."
    )
    parts["words"].append(ax.text(2, -2.4, words, fontsize=11))


def _row(ax: Axes, names: list[str], y: float, colour: str) -> list[Artist]:
    """Boxes of layers from left to right, joined by arrows."""
    artists: list[Artist] = []
    for column, name in enumerate(names):
        x = LEFT + STEP * column + 2.5
        if name == "...":
            artists.append(ax.text(x, y, "...", ha="center", va="center", fontsize=18))
        else:
            artists += _box(ax, x, y, 9, 7, colour, name)
        if column:
            artists += _arrow(ax, (x - STEP + 4.5, y), (x - 4.5, y))
    return artists


def _box(
    ax: Axes, x: float, y: float, width: float, height: float, colour: str, name: str,
    edge: str = "#444444", size: int = 12,
) -> list[Artist]:  # fmt: skip
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=1"
    patch = FancyBboxPatch(corner, width, height, style, facecolor=colour, edgecolor=edge, lw=1.6)
    ax.add_patch(patch)
    return [patch, ax.text(x, y, name, ha="center", va="center", fontsize=size)]


def _arrow(
    ax: Axes, start: tuple, end: tuple, colour: str = "#444444", ls: str | tuple = "-"
) -> list[Artist]:
    look = {"arrowstyle": "-|>", "mutation_scale": 15, "color": colour, "lw": 1.8, "ls": ls}
    patch = FancyArrowPatch(start, end, **look)
    ax.add_patch(patch)
    return [patch]
