"""The page of `make demo` in Chromium: the same numbers as Python, every control, nothing sent anywhere."""

import base64
import io
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

import oskdft
from browser.lab import ROOT, Watched, free_port, made, server
from oskdft.evaluation import probes, scoring
from oskdft.lessons.widgets.uploads import USED_S, read_upload
from oskdft.speech import audio
from oskdft.speech.corpora.tables import load_corpus
from oskdft.speech.mel import mel_levels
from oskdft.storage.onnx_model import OnnxModel
from oskdft.utils.files import read_json

DIST = ROOT / "app" / "dist"
CLIPS = 50
CLOSE = 1e-3
RATES = (16_000, 16_000, 8_000, 22_050, 44_100, 48_000)
TRANSFER = 16e6  # bytes, at most
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
        self.requests, self.received = [], 0
        self.page.on("request", lambda request: self.requests.append(request.url))

    def show(self, url: str, view: str) -> None:
        """Load the page afresh at a view."""
        self.url = url
        self.page.goto("about:blank")
        self.page.goto(f"{url}?lang=en#{view}")
        self.page.locator("main .view").wait_for()

    def is_clean(self) -> bool:
        """No error on the page, and no request to another place."""
        elsewhere = [url for url in self.requests if not url.startswith((self.url, "about:"))]
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
    """The page at its first view."""
    opened = watched("app", App)
    opened.show(url, "same")
    return opened


def encoded(wave: np.ndarray, number: int) -> tuple[str, bytes]:
    """A recording as a file: WAV or FLAC, one channel or two, at one of several rates."""
    rate = RATES[number % len(RATES)]
    if rate != 16_000:
        wave = audio.resample(wave, 16_000, rate)
    kind = "flac" if number % 5 == 4 else "wav"
    stereo = np.stack([wave, 0.5 * wave], 1) if number % 7 == 6 else wave
    file = io.BytesIO()
    soundfile.write(file, np.clip(stereo, -1, 1), rate, format=kind.upper(), subtype="PCM_16")
    return f"clip {number}.{kind}", file.getvalue()


def unit_scores(table: np.ndarray) -> np.ndarray:
    """Cosine of each recording with the next."""
    table = scoring.normalise(np.asarray(table, np.float64))
    return (table * np.roll(table, -1, axis=0)).sum(1)


def test_fifty_recordings_score_as_in_python(app):
    """Decoding, channels, resampling, mel, three judges, distance to the domain."""
    everyone = load_corpus("speechbox", split="test")
    rows = np.linspace(0, len(everyone) - 1, CLIPS).astype(int)
    files = [encoded(audio.read(everyone.path(row)), n) for n, row in enumerate(rows)]
    packed = [[name, base64.b64encode(content).decode()] for name, content in files]
    found = app.page.evaluate(EMBED, [packed, ["float32", "int8", "mfcc"]])
    waves = [read_upload(name, content).wave for name, content in files]
    assert [row["samples"] for row in found] == [len(wave) for wave in waves]
    verifier = oskdft.load("classroom", "cpu", quick=True)
    judges = read_json(DIST / "data" / "data.json")["judges"]
    (cepstra,) = probes.pooled(probes.mfcc_states, waves)
    columns = judges["mfcc"]
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
        levels = mel_levels(wave, 64, hop, centred=True, range_db=80.0)
        apart = np.abs(np.reshape(row["mel"], levels.T.shape) - levels.T)
        loud = levels.max() - 60 < levels.T  # [dB]; further below, float32 is all noise
        assert apart[loud].max() < 0.01
    assert all(len(wave) <= USED_S * 16_000 for wave in waves)
    assert app.is_clean()
