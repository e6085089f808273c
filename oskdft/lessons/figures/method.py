"""The whole method as one drawing: teacher, student, two paths, two losses."""

from collections import defaultdict

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from oskdft.lessons.figures.style import COLOURS, plot

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
READS = "layers\n4, 8, 12\nin release R"  # that the KD loss compares


@plot
def method(ax: Axes, teacher_layers: int = 12, student_layers: int = 2) -> str:
    """Teacher, student and its two paths, the two losses and the parameters that each loss trains.

    Args:
        teacher_layers, student_layers: of the model; a student of more than 3 layers is abbreviated.
    Raises:
        ValueError: see `drawing`.
    Source: METHOD.md section 1.

    >>> method(12, 2).alt[:72]
    'The method: a frozen teacher of 12 layers; a student of its first 2, run'
    """
    drawing(ax, teacher_layers, student_layers)
    return (
        f"The method: a frozen teacher of {teacher_layers} layers; a student of its first "
        f"{student_layers}, run twice over the same speech. The distillation path, without adapters, is "
        "compared with the teacher (KD loss); the verification path, with an adapter beside each layer, "
        "feeds a back-end that gives the embedding (SV loss). KD trains the shared layers; SV trains the "
        "shared layers, the adapters and the back-end. After training the verification path is kept."
    )


def drawing(ax: Axes, teacher_layers: int = 12, student_layers: int = 2) -> Parts:
    """Draw the method and return its parts: "teacher", "speech", "cnn", "distillation", "heads", "kd",
    "verification", "adapters", "backend", "embedding", "sv", "words".

    Raises:
        ValueError: the student has no layer, or more than the teacher.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise ValueError(f"{student_layers} student layers; give 1 to {teacher_layers}")
    ax.figure.set_size_inches(12.8, 6.8)
    ax.set(xlim=(0, 112), ylim=(0, 61))
    ax.set_axis_off()
    layers = [f"layer {n}" for n in range(1, student_layers + 1)]
    names = layers if student_layers <= 3 else [layers[0], "...", layers[-1]]
    _box(ax, 40, 22.3, 51, 37, "white", "", edge=COLOURS[0])
    note = "student: one set of weights,\nrun twice over the same speech"
    ax.text(16, 40.2, note, color=COLOURS[0], ha="left", va="top", fontsize=11, weight="bold")
    gap = ["..."] * (teacher_layers > student_layers + 1)
    last = [f"layer {teacher_layers}"] * (teacher_layers > student_layers)
    parts: Parts = defaultdict(list)
    _teacher(ax, [*names, *gap, *last], parts["teacher"])
    _student(ax, names, parts)
    _losses(ax, parts)
    return parts


def _teacher(ax: Axes, names: list[str], part: list[Artist]) -> None:
    part += _box(ax, 6, TEACHER_Y, 9, 7, "white", "speech")
    part += _box(ax, 20.5, TEACHER_Y, 8, 7, FROZEN, "CNN")
    part += _arrow(ax, (10.5, TEACHER_Y), (16.5, TEACHER_Y))
    part += _row(ax, names, TEACHER_Y, FROZEN)
    title = "teacher: large, pre-trained, frozen"
    ax.text(16.5, TEACHER_Y + 6.4, title, fontsize=12, weight="bold", color="#555555")


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
    parts["backend"] += _box(ax, 76, VERIFY_Y, 12, 7, SV, "back-end")
    reads = {"fontsize": 11, "ha": "center", "va": "top"}
    parts["backend"].append(ax.text(76, VERIFY_Y - 4.2, "reads all states", **reads))
    parts["embedding"] += _box(ax, 94, VERIFY_Y, 13, 7, "white", "embedding", edge=SV)
    parts["embedding"] += _arrow(ax, (82, VERIFY_Y), (87.5, VERIFY_Y))
    clear = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # hides the dotted line behind
    for y, path in ((DISTIL_Y, "distillation"), (VERIFY_Y, "verification")):
        parts[path] += _arrow(ax, (end - 0.5, y), (70, y))
        look = {"fontsize": 11, "ha": "right", "va": "bottom", "style": "italic", "bbox": clear}
        ax.text(64.5, y + 4.2, f"{path} path", **look)


def _losses(ax: Axes, parts: Parts) -> None:
    parts["kd"] += _box(ax, 94, (TEACHER_Y + DISTIL_Y) / 2, 13, 6, KD, "KD loss")
    parts["kd"] += _arrow(ax, (94, TEACHER_Y), (94, 44.6), KD)
    parts["kd"] += _arrow(ax, (82, DISTIL_Y), (92, 38.4), KD)
    parts["kd"].append(ax.text(101.5, 45.5, READS, fontsize=11, ha="left", va="bottom"))
    parts["sv"] += _box(ax, 94, 23.5, 13, 6, SV, "SV loss")
    parts["sv"] += _arrow(ax, (94, 15.5), (94, 20.4), SV)
    words = (
        "KD trains: shared layers and KD heads.   SV trains: shared layers, adapters, back-end.   "
        "Afterwards only the verification path is kept."
    )
    parts["words"].append(ax.text(16, 1.2, words, fontsize=11))


def _row(ax: Axes, names: list[str], y: float, colour: str) -> list[Artist]:
    """Boxes of layers from left to right, joined by arrows; the teacher's row continues to the KD loss."""
    artists: list[Artist] = []
    for column, name in enumerate(names):
        x = LEFT + STEP * column + 2.5
        if name == "...":
            artists.append(ax.text(x, y, "...", ha="center", va="center", fontsize=18))
        else:
            artists += _box(ax, x, y, 9, 7, colour, name)
        if column or y == TEACHER_Y:
            artists += _arrow(ax, (x - STEP + 4.5 if column else 24.5, y), (x - 4.5, y))
    if y == TEACHER_Y:
        artists += ax.plot(
            [LEFT + STEP * (len(names) - 1) + 7, 94], [y, y], color=KD, lw=1.8, ls="-"
        )
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


def _arrow(ax: Axes, start: tuple, end: tuple, colour: str = "#444444") -> list[Artist]:
    patch = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=15, color=colour, lw=1.8)
    ax.add_patch(patch)
    return [patch]
