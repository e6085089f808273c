"""The page of `make demo` in Chromium: from the command to the page, from there to a score, each slider.

    python benchmarks/page.py [--json] [--quick]

The page must be built (`make app`). A slider counts from its event to the first drawing on
a canvas, and to the last change, such as the verdict. Without Chromium the rows are not measured.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import measure

from oskdft.commands import bench

ROOT = bench.FOLDER.parent
DIST = ROOT / "app" / "dist"
WHOLE = "</html>"  # at the end of the page
PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
ALLOWED = {  # seconds
    "make demo to the page": 3.0,
    "page to the first score": 3.0,
    "embedding 3 s of speech, int8": 0.15,
    "embedding 3 s of speech, float32": 0.15,
}
SLIDER_S = 0.05  # allowed, to the picture
MOST_BYTES, MOST_MODEL_BYTES = 16e6, 1e6  # of all that the first score loads, and of the model
SLIDERS = {  # view -> sliders, each with its number where several have the name
    "Same speaker?": (
        ("Threshold", 0),
        ("Prior of the same speaker", 0),
        ("Noise", 1),
        ("Echo", 1),
        ("Speed", 1),
    ),
    "DET explorer": (("Threshold", 0), ("Share of genuine callers", 0), ("Cost of a miss", 0)),
}
WATCH = """() => {
  window.drawn = [];  // times of changes of the canvases
  window.changed = 0;  // the last change of any kind
  const note = (canvas) => { window.changed = performance.now(); if (canvas) drawn.push(changed); };
  for (const name of ['putImageData', 'fillRect', 'stroke', 'fill', 'drawImage']) {
    const real = CanvasRenderingContext2D.prototype[name];
    CanvasRenderingContext2D.prototype[name] = function (...given) {
      note(true);
      return real.apply(this, given);
    };
  }
  new MutationObserver(() => note(false)).observe(document.querySelector('main'),
    { subtree: true, childList: true, characterData: true, attributes: true });
}"""
# moves a slider by one step; [ms to the first drawing (or text, where nothing is drawn), ms to the last change]
MOVE = """async ([label, nth, step]) => {
  const inputs = [...document.querySelectorAll('main input[type=range]')]
    .filter(input => (input.ariaLabel ?? [...input.labels].map(l => l.innerText).join()).startsWith(label));
  const input = inputs[nth];
  const began = performance.now();
  drawn.length = 0;
  if (step > 0) input.stepUp(); else input.stepDown();
  input.dispatchEvent(new Event('input', { bubbles: true }));
  window.changed = began;
  do await new Promise(done => setTimeout(done, 250)); while (performance.now() - changed < 200);
  return [(drawn[0] ?? changed) - began, changed - began];
}"""
EMBED = """async ([judge, seconds]) => {
  const { judge: worker } = await import('/engine/client.js');
  const samples = Float32Array.from({ length: 16000 * seconds }, () => 0.1 * (Math.random() - 0.5));
  return (await worker.ask('embed', { judge, samples })).ms;
}"""


@contextlib.contextmanager
def demo() -> Iterator[tuple[str, float]]:
    """The server of `make demo`: its address, and the seconds from the command to a whole page.

    Raises:
        RuntimeError: it ends, or sends a part of its page.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["make", "-o", ".venv/.ready", "demo", f"PORT={port}", f"PY={sys.executable}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    began = time.perf_counter()
    app = subprocess.Popen(command, cwd=ROOT, **quiet)
    try:
        while app.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=120) as page:
                    if WHOLE not in page.read().decode():
                        raise RuntimeError("the page is cut off; try make demo")
                yield f"http://127.0.0.1:{port}/", time.perf_counter() - began
                return
            except urllib.error.URLError:  # not awake yet
                time.sleep(0.02)
        raise RuntimeError("the server ended by itself; try make demo")
    finally:
        if app.poll() is None:
            os.killpg(app.pid, signal.SIGTERM)
        app.wait()


def first_score(browser, url: str) -> tuple[float, int]:
    """Seconds from the address to a verdict, and bytes loaded for it."""
    page = browser.new_context(viewport={"width": 1280, "height": 720}).new_page()
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    began = time.perf_counter()
    page.goto(f"{url}?lang=en")
    page.get_by_role("button", name="same speaker", exact=True).first.click()
    page.locator(".verdict").first.wait_for()
    taken = time.perf_counter() - began
    page.context.close()
    names = {name.removeprefix(url).partition("?")[0] or "index.html" for name in loaded}
    return taken, sum(Path(DIST, name).stat().st_size for name in names)


def sliders(browser, url: str, moves: int) -> dict[str, list[float]]:
    """Seconds of each move of each slider."""
    page = browser.new_context(viewport={"width": 1280, "height": 720}).new_page()
    page.goto(f"{url}?lang=en")
    page.get_by_role("button", name="same speaker", exact=True).first.click()
    page.locator(".verdict").first.wait_for()
    page.evaluate(WATCH)
    taken = {}
    for view, controls in SLIDERS.items():
        page.get_by_role("tab", name=view, exact=True).click()
        page.wait_for_timeout(1_000)
        for label, nth in controls:
            steps = [1, -1] * moves
            times = [page.evaluate(MOVE, [label, nth, step]) for step in steps][2:]  # two warm up
            picture, end = zip(*times, strict=True)
            taken[f"{view} {label}, to the picture"] = [t / 1_000 for t in picture]
            taken[f"{view} {label}, to the last change"] = [t / 1_000 for t in end]
    page.context.close()
    return taken


def embeddings(browser, url: str, turns: int) -> dict[str, list[float]]:
    """Seconds that the worker takes to embed 3 s, for each form of the student."""
    page = browser.new_context().new_page()
    page.goto(f"{url}?lang=en")
    page.locator("main .view").wait_for()
    taken = {}
    for judge in ("int8", "float32"):
        times = [page.evaluate(EMBED, [judge, 3]) / 1_000 for _ in range(turns + 2)]
        taken[f"embedding 3 s of speech, {judge}"] = times[2:]
    page.context.close()
    return taken


def unfit() -> str:
    """Why the page cannot be measured here; empty if it can."""
    if PROGRAM is None:
        return "no Chromium"
    return "" if (DIST / "index.html").is_file() else "the page is not built; call make app"


def run(quick: bool) -> dict:
    """All rows and comparisons."""
    if reason := unfit():
        names = [
            *ALLOWED,
            *(f"{view} {label}" for view, row in SLIDERS.items() for label, _ in row),
        ]
        missing = [measure.comparison(name, None, None, "at least 1") for name in names]
        return {"rows": [measure.unmeasured(n, reason) for n in names], "comparisons": missing}
    from playwright.sync_api import sync_playwright

    turns = 1 if quick else 10
    taken: dict[str, list[float]] = {"make demo to the page": [], "page to the first score": []}
    loaded = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=QUIET)
        with demo():  # builds the page where it is older than its sources
            pass
        for _ in range(1 if quick else 5):
            with demo() as (url, seconds):
                taken["make demo to the page"].append(seconds)
                seconds, loaded = first_score(browser, url)
                taken["page to the first score"].append(seconds)
        with demo() as (url, _):
            taken |= embeddings(browser, url, turns)
            moved = sliders(browser, url, 2 if quick else turns)
        browser.close()
    model = (DIST / "data" / "int8.onnx").stat().st_size
    allowed = ALLOWED | dict.fromkeys((n for n in moved if n.endswith("picture")), SLIDER_S)
    comparisons = [
        measure.limit(f"{allowed[name]:g} s over {name}", allowed[name], seconds)
        for name, seconds in (taken | moved).items()
        if name in allowed
    ]
    comparisons += [
        measure.limit(
            f"16 MB over what the first score loads ({loaded / 1e6:.1f} MB)", MOST_BYTES, [loaded]
        ),
        measure.limit(f"1 MB over the model ({model / 1e6:.2f} MB)", MOST_MODEL_BYTES, [model]),
    ]
    return {
        "rows": [measure.row(n, s) for n, s in (taken | moved).items()],
        "comparisons": comparisons,
    }


if __name__ == "__main__":
    measure.main("page", __doc__, run)
