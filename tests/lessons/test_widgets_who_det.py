"""The widgets "Who is it?" and "DET explorer", used as a person would: through their controls."""

import base64
import io
import math
import re
import threading
import time
from datetime import datetime

import numpy as np
import pytest
import soundfile
from bad_inputs import lecture

from oskdft.evaluation import metrics, verifier
from oskdft.lessons import demo
from oskdft.lessons.widgets import uploads
from oskdft.lessons.widgets.det import COSTS, PRIORS, det_explorer, effective_prior
from oskdft.lessons.widgets.who import NOISES, ROOMS, disturb, who_is_it

RATE = 16_000


@pytest.fixture(scope="module")
def model():
    return verifier.load("classroom", quick=True)


@pytest.fixture(scope="module")
def clips():
    """Two recordings of a girl, one of a man."""
    recordings = demo.recordings()
    places = {
        "0-0": "girl A, recording 1",
        "0-1": "girl A, recording 2",
        "4-0": "man A, recording 1",
    }
    return {name: recordings[place][: 2 * RATE] for name, place in places.items()}


@pytest.fixture
def who(model, clips):
    return who_is_it(model, clips, demo.CORPUS)


@pytest.fixture(scope="module")
def kept(model, clips):
    """One widget that sees bad upload after bad upload."""
    return who_is_it(model, clips)


@pytest.fixture(scope="module")
def systems():
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], [40, 160])
    return {name: (rng.normal(gap * labels, 1), labels) for name, gap in (("good", 3), ("poor", 1))}


def encoded(wave: np.ndarray, rate: int = RATE, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=form)
    return file.getvalue()


def upload(widget, place: int, name: str, content: bytes) -> None:
    """What the front end does when somebody has chosen a file."""
    entry = {"name": name, "type": "", "size": len(content), "content": memoryview(content)}
    widget.uploads[place].value = (entry | {"last_modified": datetime.now()},)


def state(widget) -> tuple:
    chosen = tuple(choice.value for choice in widget.choices)
    return chosen, widget.result.text, bytes(widget.screen.image.value)


def png_of(widget) -> bytes:
    return bytes(widget.screen.image.value)


def test_score_is_that_of_the_verifier(who, model, clips):
    for first, second in (("0-0", "0-1"), ("0-0", "4-0"), ("4-0", "4-0")):
        who.choices[0].value, who.choices[1].value = first, second
        assert who.score == pytest.approx(model.score(clips[first], clips[second]), abs=1e-5)
        assert f"Score {who.score:.3f}" in who.result.text


def test_noise_and_room_change_what_is_heard_seen_and_scored(who, model, clips):
    for control, value, arguments in (
        (who.noise, 5.0, (5.0, 0.0)),
        (who.room, 0.8, (5.0, 0.8)),
        (who.noise, math.inf, (math.inf, 0.8)),
    ):
        before = png_of(who), bytes(who.players[1].value), who.score
        first = bytes(who.players[0].value)
        control.value = value
        wave = disturb(clips["0-1"], *arguments)
        assert who.score == pytest.approx(model.score(clips["0-0"], wave), abs=1e-5)
        heard = soundfile.read(io.BytesIO(who.players[1].value))[0]
        np.testing.assert_allclose(heard, wave, atol=1e-4)
        after = png_of(who), bytes(who.players[1].value), who.score
        assert all(a != b for a, b in zip(before, after, strict=True))
        assert bytes(who.players[0].value) == first


def test_noise_has_the_ratio_it_says_and_a_room_keeps_the_power(clips):
    wave = clips["0-0"]
    noise = disturb(wave, 10.0) - wave
    assert 10 * np.log10(np.mean(wave**2) / np.mean(noise**2)) == pytest.approx(10, abs=0.01)
    assert np.mean(disturb(wave, math.inf, 0.6) ** 2) == pytest.approx(np.mean(wave**2), rel=1e-3)
    assert abs(disturb(wave / abs(wave).max(), -5.0)).max() <= 1
    assert NOISES[0][1] == math.inf and ROOMS[0][1] == 0


def test_decision_and_probability_follow_threshold_and_prior(who, model):
    fitted = model.described["calibration"]["full"]
    assert who.threshold.value == pytest.approx(model.threshold, abs=0.005)
    who.threshold.value = round(who.score, 2) - 0.1
    assert who.result.text.splitlines()[0].endswith("same speaker.")
    picture = png_of(who)
    who.threshold.value += 0.2
    assert who.result.text.splitlines()[0].endswith("different speakers.")
    assert png_of(who) != picture
    who.prior.value = 0.1
    odds = math.exp(fitted["llr_scale"] * who.score + fitted["llr_offset"]) * 0.1 / 0.9
    assert f"same speaker: {100 * odds / (1 + odds):.1f} % (prior 10 %)" in who.result.text


SPEECH = np.sin(np.arange(2 * RATE) * 0.07) * np.linspace(0.1, 0.5, 2 * RATE)
LONG = lecture()
BAD = {
    "notes.txt": (b"<b>not</b> a sound", "notes.txt cannot be read .* not audio or damaged"),
    "empty.wav": (b"", "empty.wav is empty; copy or download it again"),
    "lecture.flac": (LONG, "lecture.flac is 120 min long; give at most 5 min"),
    "silence.wav": (encoded(np.zeros(RATE)), "silence.wav is silent.* check the microphone"),
    "blip.wav": (encoded(SPEECH[:3_000]), "blip.wav is 0.19 s long; give at least 0.5 s"),
    "voice.m4a": (b"\x00\x00\x00 ftypM4A ", "voice.m4a cannot be read .* convert it: ffmpeg"),
    "cut.wav": (encoded(SPEECH)[:40], "cut.wav cannot be read|cut.wav holds no samples"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_upload_is_one_friendly_line_and_nothing_is_lost(kept, name):
    content, words = BAD[name]
    before = state(kept)
    upload(kept, 0, name, content)
    assert kept.message.bad and len(kept.message.text.splitlines()) == 1
    assert re.search(words, kept.message.text), kept.message.text
    assert "<b>" not in kept.message.value and "/tmp" not in kept.message.text
    assert state(kept) == before and kept.uploads[0].value == ()
    upload(kept, 0, "good.wav", encoded(SPEECH))
    assert kept.choices[0].value.startswith("good") and not kept.message.bad


def test_long_and_large_files_are_refused():
    with pytest.raises(ValueError, match="120 min"):
        uploads.read_upload("lecture.flac", LONG)
    with pytest.raises(ValueError, match="large.wav is 100 MB large; give at most 100 MB"):
        uploads.read_upload("large.wav", bytes(uploads.MOST_BYTES + 1))


def test_stereo_mp3_is_mixed_and_resampled(who, model):
    time = np.arange(8 * 44_100) / 44_100
    left = 0.4 * np.sin(2 * np.pi * 440 * time)
    upload(who, 1, "stereo.mp3", encoded(np.stack([left, 0 * left], 1), 44_100, "MP3"))
    clip = who.clips["stereo.mp3"]
    assert who.choices[1].value == "stereo.mp3" and len(clip.wave) == uploads.USED_S * RATE
    spectrum = np.abs(np.fft.rfft(clip.wave[RATE : 2 * RATE]))
    assert spectrum.argmax() == 440 and abs(clip.wave).max() == pytest.approx(0.2, abs=0.02)
    assert "2 channels averaged, resampled from 44,100 Hz, the first 6 of" in who.message.text
    assert "second has 44100 Hz, not 16000" in who.warnings.text and who.warnings.bad
    upload(who, 1, "stereo.mp3", encoded(SPEECH))  # another file of that name
    assert who.choices[1].value == "stereo+.mp3" and "stereo.mp3" in who.choices[0].options


def test_names_that_matplotlib_could_take_for_formulas(who, systems):
    upload(who, 0, r"$\foo$.wav", encoded(SPEECH))
    assert who.choices[0].value == r"$\foo$.wav" and not who.message.bad, who.message.text
    widget = det_explorer({r"_a$\b$": systems["good"], "$_$": systems["poor"]})
    shown = [text.get_text() for text in widget.axes[0].get_legend().get_texts()]
    assert len(shown) == 2 and all(text.count(r"\$") == 2 for text in shown)


def test_recording_goes_the_way_of_an_upload(who, clips):
    heard = encoded(SPEECH, 48_000)
    who.recorders[1]._handle_custom_msg({}, [memoryview(heard)])  # what the front end sends
    assert who.choices[1].value == "recording.wav" and who.choices[0].value == "0-0"
    assert "recording.wav: loaded, resampled from 48,000 Hz" in who.message.text
    before = state(who)
    who.recorders[0]._handle_custom_msg({"problem": "Permission <denied>"}, [])
    assert who.message.bad and "no microphone (Permission <denied>); allow it" in who.message.text
    who.recorders[0]._handle_custom_msg({}, [encoded(np.zeros(0))])  # stopped at once
    assert "recording.wav is 0.00 s long" in who.message.text and state(who) == before


def test_doubtful_recordings_are_warned_of(model, clips):
    some = {"quiet": np.zeros(RATE, np.float32), "short": clips["0-0"][: RATE * 3 // 4]}
    widget = who_is_it(model, some)
    text = widget.warnings.text
    assert "first is silent; " in text and "second is 0.75 s long" in text
    assert "No probability: outside what this model knows." in widget.result.text


class Failing:
    """A model that fails on request."""

    def __init__(self, model) -> None:
        self.model, self.fails = model, False

    def embed(self, *waves):
        if self.fails:
            raise RuntimeError("no <power>")
        return self.model.embed(*waves)


def test_errors_of_callbacks_are_said(model, clips):
    failing = Failing(model.model)
    who = who_is_it(verifier.Verifier(failing, model.recipe, model.described), clips)
    failing.fails = True
    who.noise.value = 10.0
    assert "RuntimeError: no <power>" in who.message.text and "<power>" not in who.message.value
    failing.fails = False
    who.noise.value = 5.0
    assert who.message.text == ""


def test_controls_turned_in_two_threads_draw_one_picture(systems, monkeypatch):
    """JupyterLab answers some controls in a thread of their own: nothing may be drawn over the other."""
    det, drawing = det_explorer(systems), []
    draw, first = det.screen.draw, det.system.value

    def watched(alt: str | None = None) -> None:
        drawing.append(threading.current_thread())
        time.sleep(0.001)  # let the other thread try
        draw(alt)
        assert set(drawing) == {threading.current_thread()}, "two at once"
        drawing.clear()

    monkeypatch.setattr(det.screen, "draw", watched)

    def turn() -> None:
        for name in [*systems, first]:
            det.system.value = name

    def push() -> None:
        for value in (0.1, 0.2, 0.5) * 3:
            det.prior.value = value

    threads = [threading.Thread(target=work) for work in (turn, push)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not det.status.bad, det.status.text
    fresh = det_explorer(systems)
    fresh.prior.value = 0.5
    assert bytes(det.screen.image.value) == bytes(fresh.screen.image.value)


def test_what_cannot_be_shown_is_refused(model, clips):
    with pytest.raises(ValueError, match="clips is empty"):
        who_is_it(model, {})
    unset = verifier.Verifier(model.model, model.recipe, {})
    with pytest.raises(ValueError, match="no threshold"):
        who_is_it(unset, clips)
    with pytest.raises(ValueError, match="systems is empty"):
        det_explorer({})
    with pytest.raises(ValueError, match="finite"):
        det_explorer({"a": ([0.0, math.nan], [0, 1])})


def test_operating_point_and_counts_are_those_of_the_scores(systems):
    widget = det_explorer(systems)
    for name, threshold in (("good", 0.7), ("poor", 0.2), ("good", -1.0)):
        widget.system.value, widget.threshold.value = name, threshold
        scores, labels = systems[name]
        hits = sum(1 for s, t in zip(scores, labels, strict=True) if t and s >= threshold)
        false = sum(1 for s, t in zip(scores, labels, strict=True) if not t and s >= threshold)
        shown = [text.get_text() for text in widget.moving[4:]]
        assert shown == [str(n) for n in (hits, 40 - hits, false, 160 - false)]
        rates = f"{100 * (1 - hits / 40):.2f} % misses, {100 * false / 160:.2f} % false alarms"
        assert rates in widget.status.text
        p_miss, p_fa, levels = metrics.det_points(scores, labels)
        place = np.sum(scores < threshold)  # so many trials are rejected
        assert (p_miss[place], p_fa[place]) == pytest.approx((1 - hits / 40, false / 160))
        assert levels[place] == pytest.approx(threshold, abs=0.5)


def test_the_threshold_starts_at_the_eer(systems):
    widget = det_explorer(systems)
    for name, pair in systems.items():
        widget.system.value = name
        rate, threshold = metrics.eer(*pair)
        assert widget.threshold.value == pytest.approx(threshold)
        (x,), (y,) = widget.moving[1].get_data()
        assert abs(x - y) < 0.2, "the point lies on the diagonal, but for the step of a trial"


def test_costs_are_those_of_the_metric(systems):
    widget = det_explorer(systems)
    scores, labels = systems["good"]
    for prior, miss, false in ((PRIORS[0], 1, 1), (0.5, 1, COSTS[3]), (0.99, 2, 1000)):
        widget.prior.value, widget.miss_cost.value = prior, miss
        widget.false_alarm_cost.value = false
        least = metrics.min_dcf(scores, labels, effective_prior(prior, miss, false))
        assert f"minDCF {least:.3f} at" in widget.status.text
        by_hand = min(
            (prior * miss * a + (1 - prior) * false * b) / min(prior * miss, (1 - prior) * false)
            for a, b in zip(*metrics.det_points(scores, labels)[:2], strict=True)
        )
        assert least == pytest.approx(by_hand)
        best = float(widget.status.text.partition("threshold ")[2].split()[0].rstrip(":"))
        assert best == pytest.approx(widget.threshold.value, abs=1e-3)


def test_pictures_follow_every_control(systems):
    widget = det_explorer(systems)
    for control, value in (
        (widget.threshold, 0.3),
        (widget.prior, 0.5),
        (widget.miss_cost, 10),
        (widget.shown["poor"], False),
        (widget.system, "poor"),
    ):
        before = png_of(widget)
        control.value = value
        assert png_of(widget) != before and not widget.status.bad
    assert widget.shown["poor"].value and widget.shown["poor"].disabled


@pytest.mark.parametrize("kind", ["who", "det"])
def test_the_still_is_the_first_state(kind, who, systems):
    widget = who if kind == "who" else det_explorer(systems, "drawn at random")
    still = widget.still()
    picture = base64.b64decode(still["text/html"].partition("base64,")[2].partition('"')[0])
    assert picture == png_of(widget) and picture[1:4] == b"PNG"
    line = widget.result if kind == "who" else widget.status
    assert line.text in still["text/plain"] and line.text.splitlines()[0] in still["text/plain"]
    assert f"still-{widget.model_id}" in still["text/html"]
    assert f".still-{widget.model_id} {{display: none}}" in widget.children[0].value


def test_every_control_has_a_name(who, systems):
    det = det_explorer(systems)
    controls = [*who.choices, *who.uploads, who.noise, who.room, who.threshold, who.prior]
    controls += [*det.shown.values(), det.system, det.threshold, det.prior]
    controls += [det.miss_cost, det.false_alarm_cost]
    assert all(control.description for control in controls)
    assert all(sound.tooltip for sound in who.players)
    assert [recorder.name for recorder in who.recorders] == [
        "record the first",
        "record the second",
    ]
    assert who.screen.alt.startswith("Waveforms and mel pictures of 0-0 and 0-1.")
    assert det.screen.alt.startswith("DET curves, histogram and counts.")
