"""The app of `make demo` in a browser: no code in sight, both tabs work."""

import time

import pytest

from browser.lab import RUN_MS, free_port, made, server


@pytest.fixture(scope="module")
def demo(watched, tmp_path_factory):
    """The app in a page, opened while its server was still cold."""
    port, folder = free_port(), tmp_path_factory.mktemp("demo")
    url, began = f"http://127.0.0.1:{port}/", time.monotonic()
    env = {"JUPYTER_CONFIG_DIR": str(folder), "JUPYTER_RUNTIME_DIR": str(folder)}
    with server(made("demo", port), f"{url}voila/static/", folder / "demo.log", env):
        opened = watched("demo")
        opened.page.goto(url, timeout=RUN_MS)
        opened.page.get_by_text("Calibrated probability").wait_for(timeout=RUN_MS)
        print(f"\n`make demo`: first score {time.monotonic() - began:.1f} s after the command")
        yield opened


def test_opens_without_code(demo):
    """One screen of a projector; the cold start is printed, times belong in benchmarks."""
    demo.picture("at first")
    found = demo.measures()
    assert found["stills"] == 0 and found["smallest"] >= 12 and found["wider"] == []
    assert demo.page.locator(".jp-InputArea:visible, .jp-CodeMirrorEditor:visible").count() == 0
    assert demo.errors == []


def test_who_is_it(demo):
    assert demo.plays("play the second") > 0.5
    before, picture = demo.says("Score"), demo.image()
    demo.press("echoes in second", "End")
    demo.changes("Score", before)
    demo.redraws(picture)
    demo.drag("threshold", 1.0)
    demo.page.get_by_text("< threshold 1.000: different speakers.").wait_for()
    demo.picture("who")
    assert demo.errors == []


def test_det_explorer(demo):
    demo.page.get_by_role("tab", name="DET explorer").click()
    demo.page.get_by_text("whole recordings, threshold").wait_for()
    found = demo.measures()
    assert found["smallest"] >= 12 and found["wider"] == []
    before, picture = demo.says("whole recordings, threshold"), demo.image()
    demo.press("threshold", "ArrowRight", 5)
    demo.changes("whole recordings, threshold", before)
    demo.redraws(picture)
    picture = demo.image()
    demo.page.get_by_label("first half second", exact=True).uncheck()
    demo.redraws(picture)
    demo.picture("det")
    assert demo.errors == []


def test_keyboard_reaches_everything(demo):
    demo.page.get_by_role("tab", name="Who is it?").click()
    assert demo.tab_through() == {"missed": [], "unseen": []}
    assert demo.errors == []


def test_who_records(demo):
    before = demo.says("Score")
    demo.record("first", 2)
    demo.page.get_by_text("recording.wav: loaded").wait_for()
    demo.changes("Score", before)
    demo.picture("recorded")
    assert demo.errors == []
