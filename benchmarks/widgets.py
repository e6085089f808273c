"""What a control of a widget takes to its picture, and the first score.

    python benchmarks/widgets.py [--json] [--quick]

Recordings of speechbox, the shipped student. A move sets a control as the front end does and ends when
the picture is encoded; what the browser adds is not in it.
"""

import itertools
from collections.abc import Iterable

import measure
import numpy as np

import oskdft
from oskdft.lessons import demo
from oskdft.lessons.widgets import embeddings, paths
from oskdft.lessons.widgets.det import det_explorer
from oskdft.lessons.widgets.embeddings import EmbeddingMap
from oskdft.lessons.widgets.paths import TwoPaths
from oskdft.lessons.widgets.who import WhoIsIt, who_is_it
from oskdft.method.encoder import architecture, build_encoder

MOVE_S, SCORE_S = 0.1, 3.0  # allowed


def set_to(control, values: Iterable) -> measure.Work:
    """The next of ``values``, in turn, as the value of a control."""
    turn = itertools.cycle(values)

    def work() -> None:
        control.value = next(turn)

    return work


def embedding_map(waves: list[np.ndarray], points: int) -> EmbeddingMap:
    """A map of random points, ten a speaker; a click plays one of ``waves``."""
    rng = np.random.default_rng(0)
    flat, space = ({"random": rng.normal(size=(points, size))} for size in (2, 128))
    names = [f"{n}.wav" for n in range(points)]
    clips = [waves[n % len(waves)] for n in range(points)]
    speakers = [f"speaker {n // 10}" for n in range(points)]
    return embeddings.embedding_map(flat, space, clips, {"speaker": speakers}, names)


def two_paths(wave: np.ndarray) -> TwoPaths:
    """The viewer on a student and a teacher of the shipped sizes, with random weights."""
    sizes = measure.STILL | measure.CLASSROOM
    student = measure.random_student(measure.BASE, 2, "linear", **measure.CLASSROOM).cpu().student
    encoder = build_encoder(architecture(measure.BASE, **sizes)).eval()
    return paths.two_paths(student, encoder, {"voice": wave})


def moves(who: WhoIsIt, waves: list[np.ndarray], quick: bool) -> dict[str, measure.Work]:
    """One control of each kind: name -> work that ends with a new picture."""
    who.votes[True].click()  # without a vote no judge answers
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], [500, 2_000])
    det = det_explorer({n: (rng.normal(labels * 2.0), labels) for n in ("a", "b", "c")})
    drawn, paths = embedding_map(waves, 20 if quick else 120), two_paths(waves[0])
    return {
        "who, noise": set_to(who.sides[1].noise, (20.0, 10.0, 0.0)),
        "who, echoes": set_to(who.sides[1].room, (0.2, 0.4, 0.8)),
        "who, threshold": set_to(who.threshold, (0.2, 0.4, 0.6)),
        "DET, threshold": set_to(det.threshold, (0.5, 1.0, 1.5)),
        "DET, prior": set_to(det.prior, (0.01, 0.1, 0.5)),
        "map, clip": set_to(drawn.clip, range(1, 10)),
        "paths, layer": set_to(paths.layer, (0, 1, 2)),
    }


def first_score(who: WhoIsIt) -> measure.Work:
    """Another first clip, then a vote: picture, score, probability."""
    choice = who.sides[0].choice
    choose = set_to(choice, choice.options[::-1])

    def work() -> None:
        choose()
        who.votes[True].click()

    return work


def run(quick: bool) -> dict:
    """All rows and comparisons."""
    clips = demo.recordings()
    waves = list(clips.values())
    who = who_is_it(oskdft.load("classroom", "cpu", quick=True), dict(list(clips.items())[:16]))
    taken = measure.interleaved(moves(who, waves, quick), 2 if quick else 40)
    score = measure.interleaved({"score": first_score(who)}, 2 if quick else 20)["score"]
    found = {f"{name}, to the picture": (MOVE_S, seconds) for name, seconds in taken.items()}
    found["first score after choosing a clip"] = (SCORE_S, score)
    return {
        "rows": [measure.row(name, seconds) for name, (_, seconds) in found.items()],
        "comparisons": [
            measure.limit(f"{allowed:g} s over {name}", allowed, seconds)
            for name, (allowed, seconds) in found.items()
        ],
    }


if __name__ == "__main__":
    measure.main("widgets", __doc__, run)
