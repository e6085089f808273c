"""Notebooks and their widgets in JupyterLab and Notebook 7, used as a person uses them."""

import re

import numpy as np
import pytest
import soundfile
from bad_inputs import lecture

from browser.lab import CONTROLS, WAIT_MS
from oskdft.lessons import demo
from oskdft.lessons.widgets.recorder import LIMIT_S
from oskdft.lessons.widgets.uploads import USED_S


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A WAV file of a voice."""
    path = tmp_path_factory.mktemp("voice") / "my voice.wav"
    soundfile.write(path, next(iter(demo.recordings().values())), 16_000)
    return path


@pytest.fixture(scope="module")
def start(ran):
    return ran("00_start_here", until="who_is_it(bench")


@pytest.fixture(scope="module")
def evaluation(ran):
    return ran("07_evaluation_det", until="det_explorer(scored")


@pytest.fixture(scope="module")
def embeddings(ran):
    return ran("08_embeddings", until="embedding_map(maps")


@pytest.fixture(scope="module")
def paths(ran):
    return ran("03_student_two_paths", until="two_paths(trained")


@pytest.fixture(scope="module")
def desk(ran):
    return ran("04_one_step_training", ("profile = ", "lesson = setup", "training_desk(lesson"))


NOTEBOOKS = ("start", "evaluation", "embeddings", "paths", "desk")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_runs_without_errors_and_is_readable(name, request):
    """From the menu; then the widget fits a projector, and its letters are large enough."""
    notebook = request.getfixturevalue(name)
    assert notebook.tracebacks() == []
    notebook.widget.scroll_into_view_if_needed()
    notebook.picture("at first")
    found = notebook.measures()
    assert found["stills"] == 0, "the still hides where the widget lives"
    assert found["smallest"] >= 12, found
    assert found["wider"] == [], "no horizontal scroll bar"
    assert found["pictures"] or name == "desk", "there is a picture; the desk begins without one"
    assert all(0.75 <= scale <= 1 for scale in found["pictures"]), "a picture is not shrunk much"
    assert notebook.errors == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_keyboard_reaches_everything(name, request):
    """Tab visits each control, and each shows that it has the focus."""
    notebook = request.getfixturevalue(name)
    visited = notebook.tab_through()
    assert visited["missed"] == []
    assert visited["unseen"] == []
    notebook.widget.locator(CONTROLS).last.focus()
    notebook.picture("focus")
    assert notebook.errors == []


def vote(start) -> None:
    """A judge answers after the vote only."""
    start.widget.get_by_role("button", name="same speaker", exact=True).press("Enter")
    start.widget.get_by_text("You voted: same speaker.").first.wait_for()


def test_who_answers_after_the_vote_and_another_judge_is_asked(start):
    start.widget.get_by_text("The machine answers after your vote.").first.wait_for()
    vote(start)
    before = start.says("Score")
    start.choose("Judge", "MFCC, no model")
    start.changes("Score", before)
    start.widget.get_by_text("MFCC, no model: ").first.wait_for()
    start.page.get_by_label("Judge", exact=True).select_option(label="student")
    start.picture("voted")
    assert start.errors == []


def test_who_changes_with_noise_by_keyboard_and_threshold_by_mouse(start):
    vote(start)
    before, picture = start.says("Score"), start.image()
    start.press("noise in second", "End")
    start.changes("Score", before)
    start.redraws(picture)
    assert start.readout("noise in second") == "-5 dB"
    start.drag("threshold", 1.0)
    start.page.get_by_text("< threshold 1.000.").wait_for()
    start.drag("threshold", 0.0)
    start.page.get_by_text("≥ threshold -1.000.").wait_for()
    start.picture("threshold")
    assert start.errors == []


def test_who_plays(start):
    for which in ("first", "second"):
        assert start.plays(f"play the {which}") > 0.5


def test_who_takes_an_upload(start, recording):
    start.upload("upload the first", recording)
    start.page.get_by_text("my voice.wav: loaded").wait_for()
    assert start.page.get_by_label("first", exact=True).input_value() == "my voice.wav"
    start.picture("upload")
    assert start.plays("play the first") == pytest.approx(soundfile.info(recording).duration, 0.05)


def test_who_takes_a_large_upload(start, tmp_path):
    """More than a server of Jupyter takes by itself (10 MB); `make lab` has it raised."""
    path, rng = tmp_path / "large.wav", np.random.default_rng(0)
    soundfile.write(path, rng.uniform(-0.1, 0.1, (85 * 44_100, 2)), 44_100, "PCM_16")
    assert 14e6 < path.stat().st_size < 16e6
    start.upload("upload the second", path)
    start.page.get_by_text("large.wav: loaded").wait_for()
    vote(start)
    assert "Score" in start.says("Score") and start.errors == []


def test_who_records_and_stops_by_itself(start):
    """Two seconds by keyboard, then as long as there is; both go the way of an upload."""
    start.record("first", 2)
    start.page.get_by_text("recording.wav: loaded").wait_for()
    assert 1 < start.plays("play the first") <= USED_S
    start.picture("recorded")
    start.widget.get_by_title("record the second").press("Enter")
    start.page.get_by_text("recording+.wav: loaded").wait_for(timeout=1_000 * LIMIT_S + WAIT_MS)
    assert re.search(r"the first 6 of (9|10)\.\d s used", start.says("recording+.wav"))
    assert start.errors == []


def test_who_says_when_there_is_no_microphone(start):
    """A refusal is one line; the button can be pressed again, and an upload still works."""
    start.page.evaluate(
        """() => { navigator.mediaDevices.getUserMedia = async () => {
            throw new DOMException("Permission denied", "NotAllowedError"); } }"""
    )
    start.widget.get_by_title("record the first").press("Space")
    start.page.get_by_text("no microphone (Permission denied); allow it").wait_for()
    start.page.evaluate(
        "() => Object.defineProperty(navigator, 'mediaDevices', {value: undefined})"
    )
    start.widget.get_by_title("record the first").press("Space")
    start.page.get_by_text("no microphone (it needs https or localhost)").wait_for()
    assert start.widget.get_by_title("record the first").inner_text() == "record"
    assert start.errors == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("lecture.flac", lecture(), "lecture.flac is 120 min long"),
        ("notes.txt.wav", b"Dear diary", "notes.txt.wav cannot be read"),
        ("empty.wav", b"", "empty.wav"),
        ("silence.wav", None, "silence.wav is silent"),
        ("music.mp3", None, "2 channels averaged, resampled from 44,100 Hz"),
    ],
)
def test_who_answers_bad_and_odd_uploads(start, tmp_path, name, content, said):
    """A friendly line; the kernel lives on."""
    path, rng = tmp_path / name, np.random.default_rng(0)
    if content is None and "silence" in name:
        soundfile.write(path, np.zeros(32_000), 16_000)
    elif content is None:
        soundfile.write(path, 0.1 * rng.standard_normal((88_200, 2)), 44_100, format="MP3")
    else:
        path.write_bytes(content)
    start.upload("upload the second", path)
    start.page.get_by_text(said).first.wait_for()
    start.picture(f"upload {path.stem}")
    assert "Traceback" not in start.widget.inner_text()
    vote(start)
    before = start.says("Score")
    start.press("threshold", "ArrowRight", 3)
    start.changes("Score", before)
    assert start.errors == []


def test_det_follows_threshold_prior_and_costs(evaluation):
    for label in ("threshold", "prior of same speaker", "cost of a miss", "cost of a false alarm"):
        before = evaluation.says("os-kdft, threshold")
        evaluation.press(label, "ArrowRight", 2)
        evaluation.changes("os-kdft, threshold", before)
    before, picture = evaluation.says("os-kdft, threshold"), evaluation.image()
    evaluation.drag("threshold", 0.9)
    evaluation.changes("os-kdft, threshold", before)
    evaluation.redraws(picture)
    evaluation.picture("moved")
    assert evaluation.errors == []


def test_det_systems_are_toggled_and_chosen(evaluation):
    picture = evaluation.image()
    evaluation.page.get_by_label("scratch", exact=True).press("Space")
    evaluation.redraws(picture)
    assert evaluation.page.get_by_label("os-kdft", exact=True).is_disabled()
    evaluation.choose("look at", "student-ft")
    evaluation.page.get_by_text("student-ft, threshold").wait_for()
    evaluation.picture("toggled")
    assert evaluation.errors == []


def test_map_hover_names_and_click_plays(embeddings):
    point = embeddings.widget.locator("button[title$='.opus']").nth(3)
    name, picture = point.get_attribute("title"), embeddings.image()
    drawn = embeddings.widget.locator("img").bounding_box()
    assert point.locator("xpath=..").bounding_box() == pytest.approx(drawn, abs=1), "on its point"
    point.hover()
    point.click()
    embeddings.redraws(picture)
    assert embeddings.says(name).startswith(name)
    assert embeddings.plays(name) > 0.5
    embeddings.picture("clicked")
    assert embeddings.errors == []


def test_map_plays_a_neighbour_by_keyboard(embeddings):
    nearest = embeddings.widget.get_by_role("button", name="1", exact=True)
    title = nearest.get_attribute("title")
    nearest.press("Space")
    assert embeddings.plays(title.removeprefix("play ")) > 0.5
    assert embeddings.errors == []


def test_map_changes_space_and_colour(embeddings):
    for label, value in (("system", "verification path"), ("colour", "gender")):
        picture = embeddings.image()
        embeddings.choose(label, value)
        embeddings.redraws(picture)
    embeddings.page.get_by_text("Nearest in the space (verification path)").wait_for()
    embeddings.picture("gender")
    assert embeddings.errors == []


def test_paths_become_one_without_adapters(paths):
    picture = paths.image()
    assert "Adapters on." in paths.says("State")
    paths.page.get_by_label("adapters", exact=True).uncheck()
    paths.redraws(picture)
    assert "relative difference of the paths 0;" in paths.says("Adapters off")
    before = paths.says("State")
    paths.press("layer", "ArrowLeft")
    paths.changes("State", before)
    paths.choose("utterance", "crop 2")
    paths.picture("adapters off")
    assert paths.plays("the utterance") > 0.5
    assert paths.errors == []


def test_desk_starts_stops_and_resumes(desk):
    page, status = desk.page, desk.widget.locator("[role=status], [role=alert]").first
    start, stop, resume = (
        desk.widget.get_by_role("button", name=n) for n in ("Start", "Stop", "Resume")
    )
    assert start.is_enabled() and stop.is_disabled() and resume.is_disabled()
    start.press("Enter")
    page.get_by_text(re.compile(r"running: [1-9]\d* of")).wait_for(timeout=90_000)
    desk.widget.locator("img").wait_for()
    desk.picture("running")
    stop.press("Enter")
    page.get_by_text(re.compile(r"stopped: \d+ of")).wait_for(timeout=90_000)
    done = int(re.search(r"(\d+) of", status.inner_text()).group(1))
    resume.press("Enter")
    page.get_by_text(re.compile(r"finished: (\d+) of \1 epochs")).wait_for(timeout=180_000)
    assert done < int(re.search(r"(\d+) of", status.inner_text()).group(1))
    desk.picture("finished")
    assert desk.errors == []


def test_start_here_in_notebook_7(ran):
    """The server of `make lab` serves it too: a vote, a slider and the microphone, by keyboard."""
    notebook = ran("00_start_here", until="who_is_it(bench", alone=True)
    assert notebook.tracebacks() == []
    notebook.widget.scroll_into_view_if_needed()
    notebook.widget.get_by_role("button", name="same speaker", exact=True).press("Enter")
    notebook.widget.get_by_text("You voted: same speaker.").first.wait_for()
    before, picture = notebook.says("Score"), notebook.image()
    notebook.press("noise in second", "End")
    notebook.changes("Score", before)
    notebook.redraws(picture)
    notebook.record("first", 2)
    notebook.page.get_by_text("recording.wav: loaded").wait_for()
    notebook.picture("in Notebook 7")
    # with any file Notebook 7 logs errors of its own: a schema, a command, fonts that it lacks
    assert [error for error in notebook.errors if re.search("widget", error, re.IGNORECASE)] == []
