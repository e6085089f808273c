"""What a control of a widget takes to its picture, the first score, and the start of the app.

    python benchmarks/widgets.py [--json] [--quick]

Recordings of speechbox, the shipped student. A move sets a control as the front end does and ends when
the picture is encoded; what the browser adds is not in it. The app is that of `make demo`, built
before: from the command until its page is there, each time a new process, with files in the system's cache.
"""

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable

import measure
import numpy as np

import oskdft
from oskdft.commands import bench
from oskdft.lessons import demo
from oskdft.lessons.widgets import embeddings, paths
from oskdft.lessons.widgets.det import det_explorer
from oskdft.lessons.widgets.embeddings import EmbeddingMap
from oskdft.lessons.widgets.paths import TwoPaths
from oskdft.lessons.widgets.who import WhoIsIt, who_is_it
from oskdft.method.encoder import architecture, build_encoder

MOVE_S, SCORE_S, START_S = 0.1, 3.0, 3.0  # allowed
WHOLE = "</html>"  # at the end of the page


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


def app_start() -> float:
    """Seconds from the command `make demo` until the page of the app is there; the app is ended.

    Raises:
        RuntimeError: the app ends, or sends a part of its page.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["make", "-o", ".venv/.ready", "demo", f"PORT={port}", f"PY={sys.executable}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    began = time.perf_counter()
    app = subprocess.Popen(command, cwd=bench.FOLDER.parent, **quiet)
    try:
        while app.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=120) as page:
                    if WHOLE not in page.read().decode():
                        raise RuntimeError("the app's page is cut off; try make demo")
                return time.perf_counter() - began
            except urllib.error.HTTPError as error:
                raise RuntimeError(f"the app answers {error.code}; try make demo") from None
            except urllib.error.URLError:  # not awake yet
                time.sleep(0.05)
        raise RuntimeError("the app ended by itself; try make demo")
    finally:
        if app.poll() is None:
            os.killpg(app.pid, signal.SIGTERM)
        app.wait()


def run(quick: bool) -> dict:
    """All rows and comparisons."""
    clips = demo.recordings()
    waves = list(clips.values())
    who = who_is_it(oskdft.load("classroom", "cpu", quick=True), dict(list(clips.items())[:16]))
    taken = measure.interleaved(moves(who, waves, quick), 2 if quick else 40)
    score = measure.interleaved({"score": first_score(who)}, 2 if quick else 20)["score"]
    start = measure.interleaved({"app": app_start}, 1 if quick else 5, clock=lambda work: work())
    found = {f"{name}, to the picture": (MOVE_S, seconds) for name, seconds in taken.items()}
    found |= {
        "first score after choosing a clip": (SCORE_S, score),
        "start of the app": (START_S, start["app"]),
    }
    return {
        "rows": [measure.row(name, seconds) for name, (_, seconds) in found.items()],
        "comparisons": [
            measure.limit(f"{allowed:g} s over {name}", allowed, seconds)
            for name, (allowed, seconds) in found.items()
        ],
    }


if __name__ == "__main__":
    measure.main("widgets", __doc__, run)
