"""Exports of a random model: the same embeddings elsewhere, nothing half-written, nothing overwritten."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel
from typer.testing import CliRunner

import oskdft
from oskdft import config
from oskdft.commands.cli import app
from oskdft.evaluation.embedding import embed_trials, scores_by_policy
from oskdft.evaluation.scoring import normalise
from oskdft.method import encoder, model
from oskdft.speech import audio
from oskdft.speech.corpora.trials import read_trials
from oskdft.storage import export, hub, int8, onnx_model, pretrained
from oskdft.storage.model_folder import load_model, save_model

RATE = config.SAMPLE_RATE


def noise(*seconds) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.1, round(s * RATE)).astype(np.float32) for s in seconds]


@pytest.fixture(scope="module")
def exported(model_folder, tmp_path_factory) -> dict:
    """One export in each format."""
    out = tmp_path_factory.mktemp("exports")
    for to in export.FORMATS:
        export.export(model_folder, to, out / to)
    return {to: out / to for to in export.FORMATS}


@pytest.mark.slow
def test_safetensors_export_is_the_same_model_without_names(model_folder, exported):
    theirs, ours = oskdft.load(model_folder, "cpu"), oskdft.load(exported["hf"], "cpu")
    (wave,) = noise(1.3)
    assert np.array_equal(theirs.embed(wave), ours.embed(wave))
    assert ours.threshold == theirs.threshold == 0.5
    described = json.loads((exported["hf"] / "model.json").read_text())
    assert described["speakers"] == [] and described["training_speakers"] == 2
    files = {path.name for path in exported["hf"].iterdir()}
    assert files == {"README.md", "encoder", "encoder.json", "model.json", "model.safetensors"}


@pytest.mark.parametrize("family", ["wav2vec2", "wavlm"])  # pre-norm; positions in layer 1
def test_plain_transformers_opens_the_encoder_of_an_export(family, tmp_path):
    cfg = config.load("smoke").override({"model.teacher": f"tiny-random-{family}"})
    made = model.new_model(cfg, pretrained.load_encoder(cfg.model.teacher)).eval()
    torch.nn.init.normal_(made.student.adapters[0].up.weight, std=0.3)
    save_model(tmp_path / "model", made, cfg, [], {})
    report = export.export(tmp_path / "model", "hf", tmp_path / "hf")
    assert report["largest_difference"] <= 1e-5
    assert {"encoder/config.json", "encoder/model.safetensors"} <= report["files"].keys()
    for where, inner in ((tmp_path / "hf/encoder", ""), (tmp_path / "hf", "encoder")):
        opened = AutoModel.from_pretrained(where, trust_remote_code=False, subfolder=inner).eval()
        wave = torch.from_numpy(np.stack(noise(1.7, 1.7)))
        with torch.no_grad():
            output = opened(wave, output_hidden_states=True)
            wanted = made.student(wave, distilled_rows=2)
            verified = made.student(wave)
        states = torch.stack([*output.hidden_states[:-1], output.last_hidden_state])
        assert (states - wanted).abs().max() <= 1e-5 < (states - verified).abs().max()
    settings = json.loads((tmp_path / "hf/encoder/config.json").read_text())
    assert settings["model_type"] == family and str(tmp_path) not in json.dumps(settings)
    with pytest.raises((ValueError, OSError)):  # the folder itself is no model of transformers
        AutoModel.from_pretrained(tmp_path / "hf", trust_remote_code=False)


PROGRAM = """
import sys, numpy, torch
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("oskdft", "transformers"):
            raise ImportError(name)
sys.meta_path.insert(0, Refused())
program = torch.export.load(sys.argv[1]).module()
waves = numpy.load(sys.argv[2])
numpy.savez(sys.argv[3], **{name: program(torch.from_numpy(wave)) for name, wave in waves.items()})
"""


@pytest.mark.slow
def test_a_torch_program_runs_without_this_package(model_folder, exported, tmp_path):
    (short,), (long,) = noise(0.7), noise(2.9)
    waves = {"short": short[None], "long": long[None]}
    np.savez(tmp_path / "waves.npz", **waves)
    places = exported["torch"] / "model.pt2", tmp_path / "waves.npz", tmp_path / "embeddings.npz"
    subprocess.run([sys.executable, "-c", PROGRAM, *map(str, places)], check=True, cwd=tmp_path)
    net = load_model(model_folder)[0]
    with np.load(tmp_path / "embeddings.npz") as given, torch.no_grad():
        for name, wave in waves.items():
            assert np.abs(given[name] - net(torch.from_numpy(wave)).numpy()).max() <= 1e-5
    with pytest.raises(ValueError, match="holds a torch program for other programs"):
        oskdft.load(exported["torch"])


@pytest.mark.parametrize(
    ("family", "backend"),
    [
        ("wavlm", "linear"),
        pytest.param("data2vec-audio", "tft", marks=pytest.mark.slow),
        pytest.param("wav2vec2", "ecapa", marks=pytest.mark.slow),
    ],
)
def test_a_torch_program_equals_its_model_at_any_length(family, backend):
    changes = {"model.backend": backend, "model.backend_channels": 32, "model.student_layers": 2}
    cfg = config.load("smoke").override(changes)
    torch.manual_seed(0)
    net = model.new_model(cfg, pretrained.load_encoder(f"tiny-random-{family}")).eval()
    program = export.to_program(net).module()
    with torch.no_grad():
        for (wave,) in (noise(0.3), noise(1.0), noise(3.3)):
            wave = torch.from_numpy(wave)[None]
            assert (program(wave) - net(wave)).abs().max() <= 1e-5


def test_an_export_keeps_no_path_and_no_name(tmp_path):
    """Nor does its card show the markup of a stranger's settings."""
    cfg = config.load("smoke").override({
        "data.root": str(tmp_path / "speech"), "data.trials": "/data/hopper/trials.txt",
        "data.trials_root": "/data/hopper", "data.kd_root": "/data/hopper/kd", "device": "cpu",
        "augment.noise_root": "/data/hopper/musan", "augment.rir_root": "rirs_noises",
    })  # fmt: skip
    made = model.new_model(cfg, pretrained.load_encoder(cfg.model.teacher))
    cfg = cfg.override({"model.teacher": "/data/hopper/hubert"})
    facts = {"speech": "`a` *b*\n\n## c", "measured": ["<script>d</script>"], "step": "|e|"}
    save_model(tmp_path / "model", made, cfg, ["hopper", "grace"], facts)
    for to in ("hf", "onnx"):
        export.export(tmp_path / "model", to, tmp_path / to)
        text = (tmp_path / to / "model.json").read_text()
        assert not any(word in text for word in (str(tmp_path), "/data", "hopper", "grace"))
        kept = json.loads(text)["config"]
        assert kept["augment"]["noise_root"] == "musan" and kept["model"]["teacher"] == "hubert"
        assert kept["augment"]["rir_root"] == "rirs_noises"
        card = (tmp_path / to / "README.md").read_text()
        assert "hopper" not in card and str(tmp_path) not in card
        assert r"- speech: \`a\` \*b\* \#\# c" in card and r"- steps: \|e\|" in card
        assert r"- \<script\>d\</script\>" in card
        assert "teacher: hubert" in card


KILLED = """
import os, sys
from pathlib import Path
from oskdft.storage.new_folder import new_folder
with new_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_the_next_export_removes_what_a_killed_one_left(model_folder, tmp_path):
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.") and (left / "out" / "half").is_file()
    (tmp_path / ".out.mine.part").mkdir()  # of somebody else: no lock in it
    held = tmp_path / ".out.abcdefgh.part"  # of an export that is still running
    script = "import sys; from pathlib import Path; from oskdft.utils.lock import Lock\n"
    script += "lock = Lock(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script, str(held)], **pipes) as other:
        other.stdout.readline()
        export.export(model_folder, "hf", out)
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"out", ".out.mine.part", held.name}
        other.stdin.close()


class Hub:
    """In place of the hub's API."""

    def __init__(self, token: str) -> None:
        self.token, self.calls = token, []

    def repo_exists(self, name: str) -> bool:
        return name == "ada/taken"

    def create_repo(self, name: str, private: bool) -> str:
        self.calls.append((name, private))
        return f"https://hub/{name}"

    def upload_folder(self, repo_id: str, folder_path: Path) -> None:
        self.calls.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))


def test_an_export_is_sent_to_the_hub_with_a_token_only(model_folder, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(hub, "HfApi", lambda token: made.append(Hub(token)) or made[-1])
    monkeypatch.setattr(hub, "get_token", lambda: None)
    words = ["export", "--model", str(model_folder), "--to", "hf", "--out", str(tmp_path / "out")]

    def refused(name: str) -> str:
        done = CliRunner().invoke(app, [*words, "--push", name])
        assert isinstance(done.exception, ValueError) and list(tmp_path.iterdir()) == []
        return str(done.exception)

    assert "needs a token of the hub; set HF_TOKEN" in refused("ada/student")
    monkeypatch.setattr(hub, "get_token", lambda: "secret")
    assert "unset HF_HUB_OFFLINE" in refused("ada/student") and made == []
    for variable in hub.OFFLINE:
        monkeypatch.delenv(variable, raising=False)
    assert "--push is 'student'; write USER/NAME" in refused("student")
    assert "--push is 'a/b/c'; write USER/NAME" in refused("a/b/c")
    assert "is on the hub already and is not overwritten" in refused("ada/taken")
    done = CliRunner().invoke(app, [*words, "--push", "ada/student"])
    assert done.exit_code == 0 and "sent to https://hub/ada/student" in done.stdout
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made[-1].calls == [("ada/student", True), ("ada/student", files)]
    assert "README.md" in files and made[-1].token == "secret"
    monkeypatch.setattr(Hub, "upload_folder", lambda *_, **__: 1 / 0)
    words[-1] = str(tmp_path / "again")
    done = CliRunner().invoke(app, [*words, "--push", "ada/student"])
    assert "ada/student could not be sent (division by zero)" in str(done.exception)
    assert str(done.exception).endswith("again holds the export") and (tmp_path / "again").is_dir()


def test_an_export_of_an_export_still_says_how_many_speakers_trained_it(exported, tmp_path):
    export.export(exported["hf"], "hf", tmp_path / "again")
    assert json.loads((tmp_path / "again/model.json").read_text())["training_speakers"] == 2
    assert "training speakers: 2" in (tmp_path / "again/README.md").read_text()


def test_a_student_of_every_family_is_saved_and_loaded(tmp_path):
    for family in encoder.FAMILIES:
        cfg = config.load("smoke").override({"model.teacher": f"tiny-random-{family}"})
        made = model.new_model(cfg, pretrained.load_encoder(cfg.model.teacher)).eval()
        save_model(tmp_path / family, made, cfg, [], {})
        loaded = load_model(tmp_path / family)[0]
        with torch.no_grad():
            wave = torch.from_numpy(np.stack(noise(1.0)))
            assert torch.equal(made(wave), loaded(wave))


OTHERS = (
    ("hubert", "ecapa"), ("hubert", "tft"), ("wav2vec2", "linear"), ("wav2vec2", "tft"),
    ("wavlm", "linear"), ("wavlm", "ecapa"), ("unispeech-sat", "linear"), ("data2vec-audio", "linear"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("family", "backend"),
    [("hubert", "linear"), ("wav2vec2", "ecapa"), ("wavlm", "tft")]
    + [pytest.param(*pair, marks=pytest.mark.slow) for pair in OTHERS],
)
def test_onnx_equals_torch_at_any_batch_and_length(family, backend):
    changes = {"model.backend": backend, "model.backend_channels": 32, "model.student_layers": 2}
    cfg = config.load("smoke").override(changes)
    torch.manual_seed(0)
    net = model.new_model(cfg, pretrained.load_encoder(f"tiny-random-{family}")).eval()
    content = export.to_onnx(net)
    cosine, largest = export.compare(net, content)  # batches of 2 and 1, of 1.0 and 2.6 s
    assert largest <= 1e-5 and cosine >= 1 - 1e-5
    assert export.compare(net, int8.to_int8(content))[0] >= 0.995
    net(torch.zeros(1, RATE))  # the original still works: its weight norm was not touched


def test_onnx_folder_is_a_verifier(model_folder, exported):
    theirs, ours = oskdft.load(model_folder, "cpu"), oskdft.load(exported["onnx"])
    parts = noise(0.6, 2.2, 1.1, 2.2)
    one_by_one = np.stack([theirs.embed(wave) for wave in parts])
    together = ours.model.embed(parts)  # unequal lengths in one call
    assert np.abs(together - one_by_one).max() <= 1e-5
    assert ours.score(*parts[:2]) == pytest.approx(theirs.score(*parts[:2]), abs=1e-5)
    assert ours.verify(*parts[:2])["same"] == theirs.verify(*parts[:2])["same"]


def test_int8_is_smaller_and_close(model_folder, exported):
    sizes = {to: (exported[to] / onnx_model.FILE).stat().st_size for to in ("onnx", "int8")}
    check = json.loads((exported["int8"] / "model.json").read_text())["check"]
    assert check["float32_bytes"] == sizes["onnx"] and check["bytes"] == sizes["int8"]
    assert sizes["int8"] < sizes["onnx"]
    theirs, ours = oskdft.load(model_folder, "cpu"), oskdft.load(exported["int8"])
    for wave in noise(0.8, 3.1):
        a, b = normalise(np.stack([theirs.embed(wave), ours.embed(wave)]))
        assert a @ b >= 0.99


def test_int8_keeps_a_quarter_of_the_weights_of_a_model_that_is_mostly_weights():
    cfg = config.load("smoke").override({"model.backend": "ecapa", "model.backend_channels": 256})
    net = model.new_model(cfg, pretrained.load_encoder("tiny-random-hubert")).eval()
    exact = export.to_onnx(net)
    assert len(int8.to_int8(exact)) <= 0.3 * len(exact)


def test_evaluation_of_an_onnx_folder_gives_the_same_scores(model_folder, exported, recordings):
    trials = read_trials(recordings / "trials.txt", recordings)
    scores = []
    for folder in (model_folder, exported["onnx"]):
        verifier = oskdft.load(folder, "cpu")
        assert verifier.recipe.tta == "both"
        cfg = config.from_dict(verifier.described["config"])
        embeddings = embed_trials(cfg, verifier.model, trials, recordings)
        scores.append(scores_by_policy(embeddings, trials)["both"])
    assert np.abs(scores[0] - scores[1]).max() <= 1e-5
    released = cfg.override({"eval.tta": "crops", "switches.eval_path": "half_batch"})
    with pytest.raises(ValueError, match="verification path only.*eval_path=all"):
        embed_trials(released, verifier.model, trials, recordings)


def test_model_card_states_recipe_sizes_origin_and_use(exported):
    for to, folder in exported.items():
        card = (folder / "README.md").read_text()
        for heading in ("Recipe", "Measured", "Sizes", "Provenance", "Intended use"):
            assert f"\n## {heading}\n" in card
        assert f", {to}\n" in card and "training speakers: 2" in card and "steps: 7" in card
        assert "development EER: not recorded" in card and ": 0.5000" in card


def test_an_export_never_overwrites(model_folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="exists and is not empty; choose another --out"):
        export.export(model_folder, "hf", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_onnx_model_that_differs_is_not_written(model_folder, tmp_path, monkeypatch):
    other = copy.deepcopy(load_model(model_folder)[0])
    torch.nn.init.normal_(other.backend.linear.weight)
    wrong = export.to_onnx(other)
    monkeypatch.setattr(export, "to_onnx", lambda net: wrong)
    with pytest.raises(ValueError, match="differs from the original by .*not written"):
        export.export(model_folder, "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_refusals_name_the_fix(model_folder, exported, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="--to is 'tflite'; choose hf, onnx, int8, torch"):
        export.export(model_folder, "tflite", tmp_path / "out")
    with pytest.raises(ValueError, match="is no model"):
        export.export(tmp_path, "hf", tmp_path / "out")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "model.json").write_text((exported["onnx"] / "model.json").read_text())
    (damaged / onnx_model.FILE).write_bytes(b"no model")
    with pytest.raises(ValueError, match="model.onnx is not the file that model.json was written"):
        oskdft.load(damaged)
    monkeypatch.setattr(onnx_model.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="do: pip install onnx onnxruntime"):
        export.export(model_folder, "onnx", tmp_path / "out")
    with pytest.raises(ImportError, match="do: pip install onnxruntime"):
        oskdft.load(exported["onnx"])


def test_export_and_verify_on_the_command_line(model_folder, recordings, tmp_path):
    out = tmp_path / "out"
    words = ["export", "--model", str(model_folder), "--to", "int8", "--out", str(out), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and json.loads(done.stdout)["files"].keys() >= {"model.onnx"}
    pair = [str(recordings / "s0" / f"{number}.wav") for number in (1, 2)]
    done = CliRunner().invoke(app, ["verify", *pair, "--model", str(out), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout).keys() >= {"score", "threshold", "same"}


def test_folded_weight_norm_changes_no_state(model_folder):
    net = load_model(model_folder)[0]
    folded = encoder.fold_weight_norm(copy.deepcopy(net))
    wave = torch.randn(2, RATE)
    with torch.no_grad():
        assert torch.equal(net(wave), folded(wave))
    names = set(net.state_dict()) - set(folded.state_dict())
    assert len(names) == 2 and all("parametrizations" in name for name in names)


TELEMETRY = """
import os, sys
sys.argv = ["oskdft", *sys.argv[1:]]
from oskdft.commands.cli import main
try:
    main()
except SystemExit:
    pass
import onnxruntime
own = "/.cache/oskdft/"  # documented by oskdft doctor
files = [str(p) for p in __import__("pathlib").Path.home().rglob("*") if p.is_file()]
print([name for name in files if own not in name])
"""


@pytest.mark.parametrize("command", ["verify", pytest.param("export", marks=pytest.mark.slow)])
def test_nothing_is_written_to_an_empty_home(command, tmp_path):
    """ONNX Runtime would write a device id and a queue of events there."""
    home = tmp_path / "home"
    home.mkdir()
    wave = np.random.default_rng(0).normal(0, 0.1, 32_000)
    for name in ("a.wav", "b.wav"):
        audio.write(tmp_path / name, wave)
    words = {
        "verify": ["verify", str(tmp_path / "a.wav"), str(tmp_path / "b.wav")],
        "export": ["export", "--model", "classroom", "--to", "onnx", "--out", str(tmp_path / "x")],
    }[command]
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run(
        [sys.executable, "-c", TELEMETRY, *words],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


@pytest.mark.parametrize(("words", "threads"), [("", 0), ("4,2", 4), ("auto", 0), ("3", 3)])
def test_thread_variables_of_any_form(words, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", words)
    assert onnx_model._threads() == threads
