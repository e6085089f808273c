"""The widgets "Who is it?" and "DET explorer", used as a person would: through their controls."""

import base64
import io
import math
import re
import threading
import time
from datetime import datetime
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from bad_inputs import lecture

from oskdft.evaluation import bootstrap, metrics, probes, verifier
from oskdft.evaluation.bands import BAND, band, draws_of_speakers
from oskdft.lessons import demo, judges
from oskdft.lessons.widgets import uploads
from oskdft.lessons.widgets.det import COSTS, OF_CALLERS, PRIORS, det_explorer, effective_prior
from oskdft.lessons.widgets.gaussians import gaussian_explorer
from oskdft.lessons.widgets.side import NOISES, ROOMS, disturb
from oskdft.lessons.widgets.voices import MOST
from oskdft.lessons.widgets.who import VOTE_FIRST, who_is_it
from oskdft.speech.corpora.trials import Trials

pytestmark = pytest.mark.slow

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


SPEAKERS = {"0-0": "girl A", "0-1": "girl A", "4-0": "man A"}


@pytest.fixture
def who(model, clips):
    """The widget after a vote."""
    widget = who_is_it(model, clips, demo.CORPUS, SPEAKERS)
    widget.votes[True].click()
    return widget


@pytest.fixture(scope="module")
def kept(model, clips):
    """One widget that sees bad upload after bad upload."""
    widget = who_is_it(model, clips)
    widget.votes[True].click()
    return widget


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
    widget.sides[place].upload.value = (entry | {"last_modified": datetime.now()},)


def state(widget) -> tuple:
    chosen = tuple(side.choice.value for side in widget.sides)
    return chosen, widget.result.text, bytes(widget.screen.image.value)


def png_of(widget) -> bytes:
    return bytes(widget.screen.image.value)


def test_the_judge_answers_after_the_vote_only(model, clips):
    """Another pair opens the vote again; another noise does not."""
    widget = who_is_it(model, clips, speakers=SPEAKERS)
    assert widget.result.text == VOTE_FIRST == widget.statuses[0].text
    assert not widget.mark.get_visible() and widget.scores == {} and not widget.warnings.text
    before = png_of(widget)
    widget.votes[False].click()
    assert widget.result.text.startswith("You voted: different speakers. Truth: one speaker.\n")
    assert widget.mark.get_visible() and png_of(widget) != before
    assert widget.tally_line.text == "So far: you 0 of 1 right, the machine 1."
    widget.votes[True].click()  # thought better of it: the first vote counts
    assert widget.tally_line.text.startswith("So far: you 0 of 1")
    widget.sides[0].noise.value = 20.0
    assert "Score" in widget.result.text
    widget.sides[1].choice.value = "4-0"
    assert widget.result.text == VOTE_FIRST and not widget.mark.get_visible()
    widget.votes[False].click()
    assert "You voted: different speakers. Truth: two speakers." in widget.result.text
    assert widget.tally_line.text == "So far: you 1 of 2 right, the machine 2."


def test_no_truth_is_told_where_a_speaker_is_not_known(who):
    upload(who, 1, "mine.wav", encoded(SPEECH))
    who.votes[True].click()
    assert "Truth" not in who.result.text and "You voted: same speaker.\n" in who.result.text
    assert who.tally_line.text.startswith("So far: you 1 of 1"), "only known pairs are counted"


def test_score_is_that_of_the_verifier(who, model, clips):
    for first, second in (("0-0", "0-1"), ("0-0", "4-0"), ("4-0", "4-0")):
        who.sides[0].choice.value, who.sides[1].choice.value = first, second
        who.votes[True].click()
        score = who.scores["student"]
        assert score == pytest.approx(model.score(clips[first], clips[second]), abs=1e-5)
        assert f"Score {score:.3f}" in who.result.text


@pytest.mark.parametrize("place", [0, 1])
def test_noise_and_room_change_what_is_heard_seen_and_scored(who, model, clips, place):
    """On either recording; the other one stays as it is."""
    side, other = who.sides[place], who.sides[1 - place]
    names = ["0-0", "0-1"]
    for control, value, arguments in (
        (side.noise, 5.0, (5.0, 0.0)),
        (side.room, 0.8, (5.0, 0.8)),
        (side.noise, math.inf, (math.inf, 0.8)),
    ):
        before = png_of(who), bytes(side.player.value), who.scores["student"]
        still = bytes(other.player.value)
        control.value = value
        wave = disturb(clips[names[place]], *arguments)
        score = model.score(clips[names[1 - place]], wave)
        assert who.scores["student"] == pytest.approx(score, abs=1e-5)
        heard = soundfile.read(io.BytesIO(side.player.value))[0]
        np.testing.assert_allclose(heard, wave, atol=1e-4)
        after = png_of(who), bytes(side.player.value), who.scores["student"]
        assert all(a != b for a, b in zip(before, after, strict=True))
        assert bytes(other.player.value) == still


@pytest.fixture(scope="module")
def bench(model, clips):
    """Three judges: the student, MFCC, and one that says the same to everybody."""
    trials = Trials(
        np.array([1, 0]), np.array([0, 0]), np.array([1, 2]), ["0-0", "0-1", "4-0"], "three"
    )
    (table,) = probes.pooled(probes.mfcc_states, clips.values())
    mfcc = judges.untrained(probes.mfcc_states, table, trials)
    one = SimpleNamespace(device="cpu", embed=lambda waves: np.ones((len(waves), 3)))
    fitted = {"threshold": 0.9, "llr_scale": 1.0, "llr_offset": 0.0}
    credulous = verifier.Verifier(one, model.recipe, {"calibration": {"full": fitted}})
    return {"student": model, "MFCC, no model": mfcc, "credulous": credulous}


def test_judges_answer_on_the_same_pair_and_one_sees_who_is_fooled(bench, clips):
    widget = who_is_it(bench, clips, speakers=SPEAKERS)
    widget.sides[1].choice.value = "4-0"
    widget.votes[False].click()
    assert widget.compared.text.splitlines()[1] == (
        "Choose another judge to ask it about the same pair."
    )
    for name, judge in bench.items():
        widget.judge.value = name
        score = judge.score(clips["0-0"], clips["4-0"])
        assert widget.scores[name] == pytest.approx(score, abs=1e-5)
        assert widget.threshold.value == pytest.approx(judge.threshold, abs=0.005)
        assert f"threshold {judge.threshold:.3f}" in widget.result.text
    student, mfcc, credulous = widget.compared.text.splitlines()
    assert student.startswith("student: different speakers (") and "fooled" not in student
    assert mfcc.startswith("MFCC, no model: different speakers (") and "fooled" not in mfcc
    assert credulous == "credulous: same speaker (1.000, 0.900), is fooled"
    widget.threshold.value = 1.0  # of this judge alone
    widget.judge.value = "student"
    assert widget.threshold.value == pytest.approx(bench["student"].threshold, abs=0.005)
    widget.sides[0].noise.value = 10.0
    assert len(widget.compared.text.splitlines()) == 2, "other sounds: the others are not asked yet"


def test_own_recordings_are_forgotten_one_or_all(who):
    assert who.forget.disabled and who.forget_all.disabled and not who.own.options
    for name in ("one.wav", "two.wav", "three.wav"):
        upload(who, 0, name, encoded(SPEECH))
    assert who.own.options == ("one.wav", "two.wav", "three.wav") and not who.forget.disabled
    who.own.value = "one.wav"
    who.forget.click()
    assert "one.wav" not in who.clips and who.message.text == "Forgotten: one.wav."
    assert who.sides[0].choice.value == "three.wav", "what is in use stays in use"
    who.forget_all.click()
    assert set(who.clips) == set(SPEAKERS) and who.forget_all.disabled
    for side in who.sides:
        assert set(side.choice.options) == set(SPEAKERS)
    assert who.sides[0].choice.value == "0-0"
    heard = soundfile.read(io.BytesIO(who.sides[0].player.value))[0]
    np.testing.assert_allclose(heard, who.clips["0-0"].wave, atol=1e-4)
    assert who.result.text == VOTE_FIRST


def test_voices_are_enrolled_by_name_named_and_forgotten(who, model, clips):
    voices = who.voices
    assert "No voice yet" in voices.result.text and voices.forget.disabled
    voices.enrol.click()
    assert who.message.bad and who.message.text == "Write a name first."
    for name, clip in ((" Ann ", "0-0"), ("<Bob>", "4-0"), ("<Bob>", "4-0")):
        who.sides[0].choice.value = clip
        voices.name.value = name
        voices.enrol.click()
    assert voices.voice.options == (("Ann (1)", "Ann"), ("<Bob> (2)", "<Bob>"))
    assert voices.name.value == "" and not who.message.bad
    assert voices.result.text.splitlines()[0] == "The machine says: the second recording is Ann."
    score = model.score(clips["0-0"], clips["0-1"])
    assert f"Scores: Ann {score:.3f}, <Bob> " in voices.result.text
    assert "<Bob>" not in voices.result.value, "a name is text"
    who.sides[1].choice.value = "4-0"
    assert voices.result.text.startswith("The machine says: the second recording is <Bob>.")
    voices.voice.value = "<Bob>"
    voices.forget.click()
    assert voices.voice.options == (("Ann (1)", "Ann"),)
    assert "none of the enrolled voices" in voices.result.text
    voices.forget_all.click()
    assert voices.embeddings == {} and "No voice yet" in voices.result.text


def test_a_class_of_voices_has_an_end(who):
    for number in range(MOST + 1):
        who.voices.name.value = f"voice {number}"
        who.voices.enrol.click()
    assert who.message.bad and "There are 10 voices already. Forget one first." in who.message.text
    assert len(who.voices.embeddings) == MOST


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
    who.threshold.value = round(who.scores["student"], 2) - 0.1
    assert who.result.text.splitlines()[1] == "The machine says: same speaker."
    picture = png_of(who)
    who.threshold.value += 0.2
    assert who.result.text.splitlines()[1] == "The machine says: different speakers."
    assert png_of(who) != picture
    who.prior.value = 0.1
    odds = math.exp(fitted["llr_scale"] * who.scores["student"] + fitted["llr_offset"]) * 0.1 / 0.9
    assert f"one speaker: {100 * odds / (1 + odds):.1f} % (prior 10 %)" in who.result.text


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
    assert state(kept) == before and kept.sides[0].upload.value == ()
    upload(kept, 0, "good.wav", encoded(SPEECH))
    assert kept.sides[0].choice.value.startswith("good") and not kept.message.bad


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
    assert who.sides[1].choice.value == "stereo.mp3" and len(clip.wave) == uploads.USED_S * RATE
    spectrum = np.abs(np.fft.rfft(clip.wave[RATE : 2 * RATE]))
    assert spectrum.argmax() == 440 and abs(clip.wave).max() == pytest.approx(0.2, abs=0.02)
    assert "2 channels averaged, resampled from 44,100 Hz, the first 6 of" in who.message.text
    who.votes[True].click()
    assert "second has 44100 Hz, not 16000" in who.warnings.text and who.warnings.bad
    upload(who, 1, "stereo.mp3", encoded(SPEECH))  # another file of that name
    assert (
        who.sides[1].choice.value == "stereo+.mp3" and "stereo.mp3" in who.sides[0].choice.options
    )


def test_names_that_matplotlib_could_take_for_formulas(who, systems):
    upload(who, 0, r"$\foo$.wav", encoded(SPEECH))
    assert who.sides[0].choice.value == r"$\foo$.wav" and not who.message.bad, who.message.text
    widget = det_explorer({r"_a$\b$": systems["good"], "$_$": systems["poor"]})
    shown = [text.get_text() for text in widget.axes[0].get_legend().get_texts()]
    assert len(shown) == 2 and all(text.count(r"\$") == 2 for text in shown)


def test_recorder_hands_consent_line_and_limit_to_the_browser(who):
    """The browser draws the level and the clock; what it needs is in the state that it is sent."""
    for side in who.sides:
        state = side.recorder.get_state()
        assert state["consent"].startswith("Record yourself, or someone who agrees.")
        assert state["longest_s"] == 10
        for word in ("consent", "longest_s", "name"):
            assert f'model.get("{word}")' in state["_esm"]


def test_recording_goes_the_way_of_an_upload(who, clips):
    heard = encoded(SPEECH, 48_000)
    who.sides[1].recorder._handle_custom_msg({}, [memoryview(heard)])  # what the front end sends
    assert who.sides[1].choice.value == "recording.wav" and who.sides[0].choice.value == "0-0"
    assert "recording.wav: loaded, resampled from 48,000 Hz" in who.message.text
    before = state(who)
    who.sides[0].recorder._handle_custom_msg({"problem": "Permission <denied>"}, [])
    assert who.message.bad and "no microphone (Permission <denied>); allow it" in who.message.text
    who.sides[0].recorder._handle_custom_msg({}, [encoded(np.zeros(0))])  # stopped at once
    assert "recording.wav is 0.00 s long" in who.message.text and state(who) == before


def test_doubtful_recordings_are_warned_of(model, clips):
    some = {"quiet": np.zeros(RATE, np.float32), "short": clips["0-0"][: RATE * 3 // 4]}
    widget = who_is_it(model, some)
    widget.votes[True].click()
    text = widget.warnings.text
    assert "first is silent; " in text and "second is 0.75 s long" in text
    assert "Outside what this model knows, so there is no probability." in widget.result.text


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
    who.votes[True].click()
    failing.fails = True
    who.sides[1].noise.value = 10.0
    assert "RuntimeError: no <power>" in who.message.text and "<power>" not in who.message.value
    failing.fails = False
    who.sides[1].noise.value = 5.0
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


def test_a_thousand_callers_are_counted_by_the_share_of_genuine_ones(systems):
    widget = det_explorer(systems)
    widget.prior.value, widget.threshold.value = 0.1, 0.7
    scores, labels = systems["good"]
    miss = np.mean(scores[labels == 1] < 0.7)
    alarm = np.mean(scores[labels == 0] >= 0.7)
    before = png_of(widget)
    widget.count.value = OF_CALLERS
    shown = [text.get_text() for text in widget.moving[4:]]
    people = (100 * (1 - miss), 100 * miss, 900 * alarm, 900 * (1 - alarm))
    assert shown == [f"{count:.0f}" for count in people] and png_of(widget) != before
    assert widget.axes[2].get_title() == "1,000 callers"
    words = f"Of 1,000 callers, 100 are who they say: {100 * miss:.0f} of them are turned away"
    assert words in widget.status.text
    widget.to_eer.click()
    assert widget.threshold.value == pytest.approx(metrics.eer(scores, labels)[1])


def test_the_band_of_the_chosen_curve_comes_from_draws_of_speakers(systems):
    """Its ends are the quantiles of the miss rates that draws of speakers give."""
    rng = np.random.default_rng(1)
    speakers = rng.integers(12, size=(200, 2))
    speakers[:40, 1] = speakers[:40, 0]
    widget = det_explorer(systems, speakers=speakers)
    first = widget.band
    assert det_explorer(systems).band is None, "speakers are not known"
    scores, labels = systems["good"]
    low, high = band(draws_of_speakers(scores, labels, speakers))
    assert np.all(low <= high)
    place = int(np.argmin(abs(BAND - 0.05)))
    drawn = []
    for weight in bootstrap.weights(labels == 1, speakers, 300):
        target, other = (weight * (labels == kind) for kind in (1, 0))
        if not target.sum() or not other.sum():
            continue
        alarms = [np.sum(other * (scores >= t)) / other.sum() for t in np.sort(scores)[::-1]]
        misses = [1 - np.sum(target * (scores >= t)) / target.sum() for t in np.sort(scores)[::-1]]
        drawn.append(np.interp(BAND[place], alarms, misses))
    assert (low[place], high[place]) == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=1e-6)
    widget.system.value = "poor"
    assert widget.band is not first and not widget.status.bad


def test_two_gaussians_follow_distance_and_spread():
    """The formula of notebook 01: the EER is Phi(-d / (1 + spread)), at d / (1 + spread)."""
    widget = gaussian_explorer()
    for distance, wide in ((3.0, 1.0), (1.0, 1.0), (4.0, 2.0), (0.0, 1.0)):
        before = png_of(widget)
        widget.distance.value, widget.spread.value = distance, wide
        rate = 0.5 * math.erfc(distance / (1 + wide) / math.sqrt(2))
        assert not widget.status.bad, widget.status.text
        assert widget.threshold.value == pytest.approx(distance / (1 + wide), abs=0.05)
        found = float(re.search(r"([\d.]+) % misses", widget.status.text).group(1)) / 100
        assert found == pytest.approx(rate, abs=0.004)
        assert widget.band is not None
        assert png_of(widget) != before or (distance, wide) == (3.0, 1.0)
    before = png_of(widget)
    widget.threshold.value = 1.0
    assert "threshold 1.000: 84.20 % misses, 15.80 %" in widget.status.text
    assert png_of(widget) != before


def test_the_band_of_two_gaussians_holds_95_per_cent_of_new_tests():
    low, high = band(gaussian_explorer(2.0)._draws())
    rng = np.random.default_rng(7)
    place, inside = int(np.argmin(abs(BAND - 0.1))), 0
    for _ in range(400):
        other, target = rng.normal(size=500), rng.normal(2.0, 1.0, 500)
        threshold = np.quantile(other, 1 - BAND[place])
        inside += low[place] - 0.002 <= np.mean(target < threshold) <= high[place] + 0.002
    assert 0.90 <= inside / 400 <= 0.99


@pytest.mark.parametrize("kind", ["who", "det"])
def test_the_still_is_the_first_state(kind, who, systems):
    widget = who if kind == "who" else det_explorer(systems, "drawn at random")
    still = widget.still()
    picture = base64.b64decode(still["text/html"].partition("base64,")[2].partition('"')[0])
    assert picture == png_of(widget) and picture[1:4] == b"PNG"
    if kind == "who":
        assert VOTE_FIRST in who_is_it(who.judges, {"0-0": who.sides[0].wave}).still()["text/plain"]
    line = widget.result if kind == "who" else widget.status
    assert line.text in still["text/plain"] and line.text.splitlines()[0] in still["text/plain"]
    assert "text/plain" in widget._repr_mimebundle_(), "a live front end asks for this"
    assert f"still-{widget.model_id}" in still["text/html"]
    assert f".still-{widget.model_id} {{display: none}}" in widget.children[0].value


def test_every_control_has_a_name(who, systems):
    det = det_explorer(systems)
    controls = [who.judge, *who.votes.values(), who.threshold, who.prior]
    for side in who.sides:
        controls += [side.choice, side.upload, side.noise, side.room]
    controls += [who.own, who.forget, who.forget_all, who.voices.name, who.voices.enrol]
    controls += [who.voices.voice, who.voices.forget, who.voices.forget_all]
    controls += [*det.shown.values(), det.system, det.threshold, det.prior]
    controls += [det.miss_cost, det.false_alarm_cost, det.count, det.to_eer]
    toy = gaussian_explorer()
    controls += [toy.distance, toy.spread]
    assert all(control.description for control in controls)
    assert all(side.player.tooltip for side in who.sides)
    assert [side.recorder.name for side in who.sides] == [
        "record the first",
        "record the second",
    ]
    assert who.screen.alt.startswith("Waveforms and mel pictures of 0-0 and 0-1.")
    assert det.screen.alt.startswith("DET curves, histogram and counts.")
