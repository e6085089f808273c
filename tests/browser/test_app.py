"""The page of `make demo` in Chromium: the same numbers as Python, every control, nothing sent anywhere."""

import base64
import io
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

import oskdft
from browser.conftest import PROGRAM, QUIET
from browser.lab import ROOT, Watched, free_port, made, server
from oskdft.evaluation import metrics, probes, scoring
from oskdft.lessons import demo
from oskdft.lessons.widgets.paths import path_states
from oskdft.lessons.widgets.uploads import USED_S, read_upload
from oskdft.speech import audio, resampling
from oskdft.speech.corpora.tables import load_corpus
from oskdft.speech.mel import mel_levels
from oskdft.storage.onnx_model import OnnxModel
from oskdft.utils.files import read_json

DIST = ROOT / "app" / "dist"
CLIPS = 50
CLOSE = 1e-3
RATES = (16_000, 16_000, 8_000, 22_050, 44_100, 48_000)
# the page's own way of a file to a score, without its controls
EMBED = """async ([files, judges]) => {
  const { fileClip, Side } = await import('/ui/side.js');
  const data = await (await fetch('data/data.json')).json();
  const whole = new Float32Array(await (await fetch('data/domain.bin')).arrayBuffer());
  const size = data.domain.size;
  const domain = { mean: whole.subarray(0, size), whitening: whole.subarray(size), limit: data.domain.limit };
  const app = { data, own: [], domain };
  const { distance } = await import('/engine/score.js');
  const rows = [];
  for (const [name, content] of files) {
    const side = new Side(app);
    side.clip = await fileClip(app, new File([Uint8Array.from(atob(content), c => c.charCodeAt(0))], name));
    await side.hear();
    const row = { mel: [...side.heard.mel.levels], samples: side.heard.samples.length };
    for (const judge of judges) row[judge] = [...(await side.embed(judge)).embedding];
    row.distance = distance(row.float32, domain);
    rows.push(row);
  }
  return rows;
}"""


class App(Watched):
    """The page, with its requests."""

    def __init__(self, context, name: str) -> None:
        super().__init__(context, name)
        self.requests: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))

    def load(self, url: str) -> None:
        """Load the page afresh, in English."""
        self.url = url
        self.page.goto(f"{url}?lang=en")
        self.page.locator("main .view").wait_for()

    def open(self, view: str) -> None:
        """Choose a view by its tab."""
        self.page.get_by_role("tab", name=view, exact=True).click()
        self.page.locator("main .lead, main h2").first.wait_for()

    def button(self, name: str, exact: bool = True):
        """The first button of this name."""
        return self.page.get_by_role("button", name=name, exact=exact).first

    def list(self, name: str):
        """A list of this name."""
        return self.page.get_by_role("combobox", name=name, exact=True)

    def enter(self, name: str) -> None:
        """Press a button by keyboard, when it can be pressed."""
        self.button(name).click(trial=True)
        self.button(name).focus()
        self.page.keyboard.press("Enter")

    def slide(self, label: str, key: str, times: int = 1, nth: int = 0) -> None:
        """Press a key on a slider."""
        self.page.get_by_label(label, exact=True).nth(nth).focus()
        for _ in range(times):
            self.page.keyboard.press(key)

    def hear(self, text: str) -> None:
        """Wait until the page shows a text."""
        self.page.locator("main").get_by_text(text).first.wait_for()

    def verdict(self) -> str:
        """What the machine says in full."""
        return self.page.locator(".verdict").first.inner_text()

    def another(self, before: str) -> None:
        """Wait until the machine says something else."""
        self.eventually(
            "before => (document.querySelector('.verdict')?.innerText ?? before) !== before", before
        )

    def give(self, which: str, name: str, content: bytes) -> None:
        """Upload a file."""
        file = {"name": name, "mimeType": "", "buffer": content}
        self.page.get_by_label(f"Upload: {which}").set_input_files(file)

    def chosen(self, which: str, name: str) -> None:
        """Wait until a list shows a name as chosen."""
        self.eventually(
            """([which, name]) => [...document.querySelectorAll('select')].some(list =>
                list.labels[0].innerText === which && list.selectedOptions[0].text === name)""",
            [which, name],
        )

    def is_clean(self) -> bool:
        """No error on the page, and no request to another place."""
        elsewhere = [url for url in self.requests if not url.startswith(self.url)]
        assert self.errors == [] and elsewhere == []
        return True


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Address of the page; `make app` before, where it is not built."""
    if shutil.which("npm") is None and not (DIST / "index.html").is_file():
        pytest.skip("no npm, which fetches the runtime of the page; install Node.js")
    subprocess.run([sys.executable, ROOT / "app" / "build.py"], cwd=ROOT, check=True)
    address, began = f"http://127.0.0.1:{(port := free_port())}/", time.monotonic()
    with server(made("demo", port), address, tmp_path_factory.mktemp("app") / "log", {}):
        print(f"\n`make demo`: answers {time.monotonic() - began:.1f} s after the command")
        yield address


@pytest.fixture(scope="module")
def app(url, watched):
    """The page, once for all tests."""
    opened = watched("app", App)
    opened.load(url)
    return opened


@pytest.fixture(scope="module")
def content():
    """What the builder wrote for the page."""
    return read_json(DIST / "data" / "data.json")


def wav(wave: np.ndarray, rate: int = 16_000, kind: str = "WAV") -> bytes:
    """A recording as a file."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind)
    return file.getvalue()


def encoded(wave: np.ndarray, number: int) -> tuple[str, bytes]:
    """A recording as a file: WAV or FLAC, one channel or two, at one of several rates."""
    rate = RATES[number % len(RATES)]
    if rate != 16_000:
        wave = resampling.resample(wave, 16_000, rate)
    kind = "flac" if number % 5 == 4 else "wav"
    stereo = np.stack([wave, 0.5 * wave], 1) if number % 7 == 6 else wave
    return f"clip {number}.{kind}", wav(np.clip(stereo, -1, 1), rate, kind.upper())


def unit_scores(table: np.ndarray) -> np.ndarray:
    """Cosine of each recording with the next."""
    table = scoring.normalise(np.asarray(table, np.float64))
    return (table * np.roll(table, -1, axis=0)).sum(1)


def test_loads_little_and_computes_in_workers(app):
    """Its first files, compressed or not; decoding and embedding leave the page free."""
    app.enter("same speaker")
    app.hear("The machine says: ")
    paths = {request.removeprefix(app.url).partition("?")[0] for request in app.requests}
    files = [DIST / (path or "index.html") for path in paths]
    assert any(file.suffix == ".wasm" for file in files)
    assert sum(file.stat().st_size for file in files) < 16e6
    assert (DIST / "data" / "int8.onnx").stat().st_size < 1e6
    assert {worker.url.rpartition("/")[2] for worker in app.page.workers} == {"ear.js", "judge.js"}


def test_fifty_recordings_score_as_in_python(app, content):
    """Decoding, channels, resampling, mel, three judges, distance to the domain."""
    everyone = load_corpus("speechbox", split="test")
    rows = np.linspace(0, len(everyone) - 1, CLIPS).astype(int)
    files = [encoded(audio.read(everyone.path(row)), n) for n, row in enumerate(rows)]
    packed = [[name, base64.b64encode(content).decode()] for name, content in files]
    found = app.page.evaluate(EMBED, [packed, ["float32", "int8", "mfcc"]])
    waves = [read_upload(name, content).wave for name, content in files]
    assert [row["samples"] for row in found] == [len(wave) for wave in waves]
    verifier = oskdft.load("classroom", "cpu", quick=True)
    (cepstra,) = probes.pooled(probes.mfcc_states, waves)
    columns = content["judges"]["mfcc"]
    tables = {
        "float32": [verifier.embed(wave) for wave in waves],
        "int8": [
            OnnxModel((DIST / "data" / "int8.onnx").read_bytes()).embed([w])[0] for w in waves
        ],
        "mfcc": (cepstra - columns["mean"]) / (np.array(columns["deviation"]) + 1e-8),
    }
    for judge, table in tables.items():
        ours = unit_scores([row[judge] for row in found])
        assert np.abs(ours - unit_scores(table)).max() < CLOSE, judge
    for row, wave, embedding in zip(found, waves, tables["float32"], strict=True):
        assert row["distance"] == pytest.approx(verifier.domain.distance(embedding), abs=CLOSE)
        hop = max(160, len(wave) // 200)
        levels = mel_levels(wave, 64, hop, centred=True, range_db=80.0).T
        loudest = levels.max() - levels < 60  # [dB]; further below, float32 is all noise
        assert np.abs(np.reshape(row["mel"], levels.shape) - levels)[loudest].max() < 0.1
    assert all(len(wave) <= USED_S * 16_000 for wave in waves)
    assert app.is_clean()


def test_rates_are_those_of_python(app):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    scores = np.round(rng.normal(1.2 * labels), 1)  # with ties
    found = app.page.evaluate(
        """async ([scores, labels]) => {
          const { detPoints, eer, leastCost, phi, probit } = await import('/engine/rates.js');
          const points = detPoints(scores, labels);
          const normal = [0.001, 0.2, 0.5, 0.97].map(p => phi(probit(p)));
          return { points, eer: eer(points), least: leastCost(points, 0.05).cost, normal };
        }""",
        [scores.tolist(), labels.tolist()],
    )
    miss, false_alarm, thresholds = metrics.det_points(scores, labels)
    assert found["points"]["miss"] == pytest.approx(miss)
    assert found["points"]["alarm"] == pytest.approx(false_alarm)
    assert found["points"]["threshold"] == pytest.approx(thresholds)
    rate, threshold = metrics.eer(scores, labels)
    assert found["eer"] == pytest.approx({"rate": rate, "threshold": threshold})
    assert found["least"] == pytest.approx(metrics.min_dcf(scores, labels, 0.05))
    assert found["normal"] == pytest.approx([0.001, 0.2, 0.5, 0.97], rel=1e-5)


def test_same_speaker_hides_the_names_until_the_vote(app):
    app.open("Same speaker?")
    app.enter("New pair")
    names = app.list("First recording").locator("option:checked")
    app.eventually(
        "() => document.querySelector('select option:checked').textContent === 'hidden until you vote'",
        None,
    )
    assert app.page.locator(".verdict").count() == 0
    app.enter("different speakers")
    app.hear("Truth: ")
    assert "hidden" not in names.inner_text() and "of 2 right" in app.verdict()
    assert app.button("different speakers").evaluate("e => e === document.activeElement")


def test_same_speaker_follows_every_control(app):
    before = app.verdict()
    app.slide("Threshold", "End")
    app.hear("The machine says: different speakers")
    app.slide("Threshold", "Home")
    app.hear("The machine says: same speaker")
    app.enter("Reset")
    assert app.verdict() == before
    app.slide("Prior of the same speaker", "Home")
    assert "(prior 1 %)" in app.verdict()
    app.enter("Reset")
    for label, key in (("Noise", "End"), ("Echo", "ArrowRight"), ("Speed", "Home")):
        before = app.verdict()
        app.slide(label, key, nth=1)
        app.another(before)
    assert "Outside what this model knows" in app.verdict()
    app.page.get_by_role("radio", name="Student, 32-bit").check()
    row = app.page.locator("tr.chosen", has_text="32-bit")
    row.get_by_text("outside").wait_for()
    assert row.get_by_text(" ms").count() == 1
    app.page.get_by_role("radio", name="MFCC, no model").check()
    app.page.locator("tr.chosen", has_text="MFCC").wait_for()
    app.page.get_by_role("radio", name="Student, 8-bit").check()
    for label in ("Noise", "Echo", "Speed"):
        app.slide(label, "Home", nth=1)
    app.slide("Speed", "ArrowRight", 3, nth=1)  # back to 1
    app.enter("Play: First recording")
    app.button("Stop: First recording").wait_for()
    app.button("Play: First recording").wait_for()
    assert app.is_clean()


def longer(content: bytes, seconds: int) -> bytes:
    """A FLAC file whose header promises another length."""
    rate = soundfile.info(io.BytesIO(content)).samplerate
    samples = seconds * rate
    head = bytearray(content)
    head[21] = head[21] & 0xF0 | samples >> 32
    head[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(head)


RNG = np.random.default_rng(0)
VOICE = 0.1 * RNG.standard_normal(32_000)
UPLOADS = [
    ("notes.txt", b"Dear diary", "This is no audio file"),
    ("notes.wav", b"RIFF, said the diary", "This is no audio file"),
    ("empty.wav", b"", "This file is empty."),
    ("short.wav", wav(VOICE[:3_200]), "This recording is 0.2 s long."),
    ("silence.wav", wav(np.zeros(32_000)), "This recording is silent."),
    ("lecture.flac", longer(wav(VOICE, kind="FLAC"), 7_200), "is 120 minutes long."),
    ("music.ogg", wav(RNG.normal(0, 0.1, (88_200, 2)), 44_100, "OGG"), "2 channels averaged."),
    ("music.mp3", wav(RNG.normal(0, 0.1, (88_200, 2)), 44_100, "MP3"), "Resampled from 44,100"),
    ("loud.wav", wav(np.clip(80 * VOICE, -1, 1)), "clipped: too loud"),
    ("<img src=x onerror=alert(1)>.wav", wav(VOICE), "unlike the speech of the calibration"),
]


@pytest.mark.parametrize(("name", "file", "said"), UPLOADS, ids=[name for name, *_ in UPLOADS])
def test_uploads_good_and_bad_get_one_line(app, name, file, said):
    """The page stays alive, and a file name is text."""
    app.give("Second recording", name, file)
    if not said.startswith("This") and "minutes" not in said:
        app.chosen("Second recording", name)
        app.enter("same speaker")
    app.hear(said)
    assert app.page.locator("main img").count() == 0
    assert app.is_clean()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg, which makes the file")
def test_takes_stereo_m4a(app, tmp_path):
    """As phones record it; a Chromium without AAC says so in one line."""
    sound, file = tmp_path / "a.wav", tmp_path / "phone.m4a"
    sound.write_bytes(wav(RNG.normal(0, 0.1, (3 * 48_000, 2)), 48_000))
    subprocess.run(["ffmpeg", "-loglevel", "error", "-i", sound, file], check=True)
    app.give("Second recording", file.name, file.read_bytes())
    app.page.get_by_text(re.compile("Resampled from 48,000 Hz|no audio file")).first.wait_for()
    assert app.is_clean()


def test_records_and_says_when_it_may_not(app):
    """Two seconds of the browser's own beeping microphone, then none, then one that is refused."""
    app.enter("Record: First recording")
    button = app.page.get_by_role("button", name="Record: First recording")
    button.filter(has_text="Stop").wait_for()
    app.hear("of at most 10 s.")
    app.page.wait_for_timeout(2_000)
    app.page.keyboard.press("Enter")
    app.chosen("First recording", "my recording")
    app.page.evaluate(
        """() => { navigator.mediaDevices.getUserMedia = async () => {
            throw new DOMException("no", "NotAllowedError"); } }"""
    )
    app.enter("Record: First recording")
    app.hear("The browser may not use the microphone.")
    app.page.evaluate("() => Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")
    app.enter("Record: First recording")
    app.hear("There is no microphone")
    assert app.is_clean()


def test_who_is_it_enrols_identifies_and_forgets(app):
    app.open("Who is it?")
    app.page.locator("canvas[aria-label*='girl A, recording 2']").first.wait_for()
    app.enter("Enrol the recording")
    app.hear("Write a name first.")
    app.page.get_by_label("Name of this voice").fill("<b>Ada</b>")
    app.page.keyboard.press("Enter")
    app.hear("The machine says: <b>Ada</b>")
    app.enter("Enrol eight examples")
    rows = app.page.locator(".bars li")
    rows.nth(8).wait_for()
    app.list("Recording").select_option(label="man B, recording 2")
    app.hear("The machine says: man B")
    app.slide("Threshold", "End")
    app.hear("none of the enrolled voices")
    app.enter("Reset")
    app.enter("Forget man B")
    rows.nth(8).wait_for(state="detached")
    names = app.page.locator(".bars .name").all_inner_texts()
    assert len(names) == 8 and "man B" not in names
    app.enter("Forget all voices")
    app.hear("No voice yet.")
    assert app.is_clean()


def test_class_votes_and_sees_its_point(app, content):
    app.open("Class against machine")
    kinds = [row["same"] for row in content["class"]]
    for trial in (kinds.index(0), kinds.index(1)):
        app.enter(f"Trial {trial + 1} of 20")
        for _ in range(3):
            app.enter("same speaker")
        app.enter("different speakers")
        app.enter("Reveal")
        app.hear("75 % of the votes say: same speaker.")
    app.hear("Crowd, by majority: misses 0 of 1, false alarms 1 of 1.")
    threshold = content["judges"]["float32"]["threshold"]
    scores = [content["class"][kinds.index(kind)]["score"] >= threshold for kind in (1, 0)]
    app.hear(f"misses {int(not scores[0])} of 1, false alarms {int(scores[1])} of 1.")
    app.page.get_by_label("Misses (of 10)").fill("3")
    app.enter("Add a person")
    assert app.page.locator(".point.person").count() == 1
    app.enter("▶ First recording")
    assert app.is_clean()


def test_det_explorer_moves_with_threshold_costs_and_shape(app):
    app.open("DET explorer")
    systems = {row["name"]: row for row in read_json(DIST / "data" / "det.json")["systems"]}
    rate = f"{100 * systems['shipped']['eer']:.2f} %"
    app.hear(f"EER {rate}")
    for label in (
        "Threshold",
        "Share of genuine callers",
        "Cost of a miss",
        "Cost of a false alarm",
    ):
        before = app.page.locator("main").inner_text()
        app.slide(label, "ArrowRight", 2)
        assert app.page.locator("main").inner_text() != before
    app.enter("Jump to EER")
    assert f"{rate} misses" in app.verdict()
    curves = app.page.locator(".det .curve").count()
    app.page.get_by_label("student from scratch").check()
    assert app.page.locator(".det .curve").count() == curves + 1
    app.page.get_by_label("Look at").select_option(label="MFCC, no model")
    app.hear(f"EER {100 * systems['mfcc']['eer']:.2f} %")
    app.enter("Two Gaussians")
    app.slide("Distance of the means", "Home")
    app.hear("EER 50.00 %")
    app.slide("Spread of the same speaker", "End")
    app.hear("EER 50.00 %")
    app.enter("Kept systems")
    assert app.is_clean()


def test_map_names_plays_and_knows_the_neighbours(app):
    app.open("Embedding map")
    app.hear("Nearest in the space")
    table = read_json(DIST / "data" / "map.json")
    space = np.frombuffer((DIST / "data" / "map.bin").read_bytes(), "<i2").reshape(240, -1) / 32767
    number = {name: n for n, name in enumerate(dict.fromkeys(table["speaker"]), 1)}
    app.list("Recording").select_option("7")
    cosines = space @ space[7]
    near = [row for row in np.argsort(-cosines) if row != 7][:5]
    shown = app.page.locator(".near li").all_inner_texts()
    for row, line in zip(near, shown, strict=True):
        assert (
            f"speaker {number[table['speaker'][row]]} (" in line and f"{cosines[row]:.3f}" in line
        )
    for name in ("PCA", "Gender", "Age", "UMAP"):
        app.enter(name)
        assert app.button(name).get_attribute("aria-pressed") == "true"
    point = app.page.locator(".map .dot").last
    point.hover()
    point.click()
    assert app.list("Recording").input_value() == "239"
    assert app.is_clean()


def test_inside_shows_the_states_of_python_and_counts(app):
    app.open("What is inside")
    app.page.locator("canvas.states").nth(2).wait_for()
    student = oskdft.load("classroom", "cpu").model.student
    voice = next(iter(demo.recordings().values()))
    distilled, verified = path_states(student, voice)
    apart = np.linalg.norm(verified[2] - distilled[2]) / np.linalg.norm(distilled[2])
    told = app.page.locator("main p", has_text="Relative difference of the paths").inner_text()
    assert float(re.search(r"paths: ([\d.]+)\.", told)[1]) == pytest.approx(apart, abs=0.002)
    app.page.get_by_label("Adapters").uncheck()
    app.hear("Without adapters both paths are one.")
    app.slide("State", "Home")
    app.hear("State 0, in front of layer 1. Relative difference of the paths: 0.")
    app.page.get_by_label("Family").select_option("HuBERT base")
    app.hear("94.4 million")
    app.slide("Layers of the student", "End")
    app.hear("12 of 12")
    assert app.is_clean()


NAMELESS = """() => [...document.querySelectorAll('button, select, input, canvas, svg[role]')].filter(e =>
  !(e.getAttribute('aria-label') || e.innerText || (e.labels && [...e.labels].some(l => l.innerText))))
  .map(e => e.outerHTML.slice(0, 80))"""
SMALL = """() => {
  const words = [...document.querySelectorAll('body *')].filter(e => e.offsetParent && !e.closest('svg')
    && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
  return { smallest: Math.min(...words.map(e => parseFloat(getComputedStyle(e).fontSize))),
    wider: document.documentElement.scrollWidth - document.documentElement.clientWidth };
}"""
VIEWS = ("same", "who", "crowd", "det", "map", "inside", "privacy")


def test_every_view_fits_a_projector_a_tablet_and_a_phone(app):
    """Both languages, light and dark; each control has a name."""
    sizes = {"projector": (1280, 720), "tablet": (820, 1180), "phone": (390, 844)}
    for name, (width, height) in sizes.items():
        app.page.set_viewport_size({"width": width, "height": height})
        app.enter("Deutsch" if name == "tablet" else "English") if name != "projector" else None
        if name == "tablet":
            app.page.emulate_media(color_scheme="dark")
            assert app.page.locator("html").get_attribute("lang") == "de"
        for view in VIEWS:
            app.page.locator(f"#tab-{view}").click()
            app.page.locator("main .card, main h3").first.wait_for()
            found = app.page.evaluate(SMALL)
            assert found["smallest"] >= 12 and found["wider"] <= 0, (name, view, found)
            assert app.page.evaluate(NAMELESS) == [], view
            app.picture(f"{view} {name}")
    app.page.emulate_media(color_scheme="light")
    app.page.set_viewport_size({"width": 1280, "height": 720})
    assert app.is_clean()


def test_keyboard_reaches_everything(app):
    """Tab visits each control of the first view, arrow keys each tab."""
    app.page.locator("#tab-same").click()
    app.page.evaluate("() => document.querySelector('.settings button').focus()")
    visited = app.page.evaluate_handle("() => new Set()")
    for _ in range(60):
        visited.evaluate("seen => { seen.add(document.activeElement); }")
        app.page.keyboard.press("Tab")
    missed = visited.evaluate(
        """seen => [...document.querySelectorAll('button, select, input')].filter(e =>
            !seen.has(e) && !e.disabled && e.tabIndex >= 0 && e.type !== 'radio').map(e => e.outerHTML)"""
    )
    assert missed == []
    app.page.evaluate("location.hash = 'crowd'")
    app.hear(" of 20")
    app.page.evaluate("location.hash = 'same'")
    app.page.locator("#tab-same").focus()
    for view in (*VIEWS[1:], "same"):
        app.page.keyboard.press("ArrowRight")
        assert app.page.evaluate("document.activeElement.id") == f"tab-{view}"


def test_forgets_everything_and_has_each_text_in_both_languages(app):
    app.open("Privacy")
    app.enter("Forget everything now")
    app.hear("Everything is forgotten.")
    app.open("Same speaker?")
    assert app.page.get_by_role("option", name="my recording").count() == 0
    german, english = app.page.evaluate(
        """async () => { const { languages } = await import('/texts/index.js');
            return ['de', 'en'].map(name => languages[name]); }"""
    )
    assert german.keys() == english.keys()
    holes = {key: sorted(re.findall(r"{\w+}", text)) for key, text in english.items()}
    assert {key: sorted(re.findall(r"{\w+}", text)) for key, text in german.items()} == holes
    assert app.page.evaluate("() => [document.cookie, localStorage.length]") == ["", 0]
    assert app.is_clean()


def test_says_when_there_is_no_webassembly(url, chromium):
    """One line where the student is asked; the other views work."""
    options = {"executable_path": PROGRAM, "args": [*QUIET, "--js-flags=--jitless"]}
    browser = chromium.browser_type.launch(**options)
    try:
        bare = App(browser.new_context(), "bare")
        bare.load(url)
        bare.enter("same speaker")
        bare.hear("This browser has no WebAssembly")
        bare.open("DET explorer")
        bare.hear("Of 1,000 callers")
        assert bare.is_clean()
    finally:
        browser.close()
