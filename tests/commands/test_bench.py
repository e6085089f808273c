"""The benchmarks' references give the package's results; each benchmark runs at tiny size. No times."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from oskdft import config
from oskdft.commands import bench, cli
from oskdft.evaluation import scoring
from oskdft.evaluation.embedding import embed_files
from oskdft.method import losses, model
from oskdft.method.encoder import architecture, build_encoder, cnn
from oskdft.method.teacher import Teacher

sys.path.append(str(bench.FOLDER))
import deployment
import embedding
import growth
import measure
import pipeline
import scoring as pairwise
import training


def gradients(net, sv, paths, wave, target) -> tuple[list, dict]:
    """States of both paths, and the gradient of both losses."""
    net.zero_grad()
    states = paths(net.student, wave)
    kd = losses.LastStateMse()(states[0], target).sum()
    (kd + sv(net.backend(states[1]), torch.arange(len(wave)))[0]).backward()
    return list(states), {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("backend", ["linear", "ecapa"])
@pytest.mark.parametrize("family", ["hubert", "wav2vec2", "wavlm"])
def test_released_formulation_has_equal_outputs_and_gradients(family, backend):
    name = f"tiny-random-{family}"
    changes = {"model.backend": backend, "model.student_layers": 2, "model.backend_channels": 32}
    cfg = config.load("smoke").override(changes)
    encoder = build_encoder(architecture(name, **measure.STILL))
    net = model.new_model(cfg, encoder).train()
    for adapter in net.student.adapters:
        torch.nn.init.normal_(adapter.up.weight, std=0.3)  # zero would hide the second path
    net.backend.eval()  # statistics of a batch of four would magnify rounding
    sv = losses.build_sv_loss(cfg.loss, cfg.model.embedding, torch.ones(4))
    wave = torch.randn(4, 8_000, generator=torch.Generator().manual_seed(0)) * 0.1
    target = Teacher(encoder)(wave)
    states, grads = gradients(net, sv, training.doubled, wave, target)
    ours, our_grads = gradients(net, sv, training.Student.forward_two_paths, wave, target)
    assert not torch.allclose(ours[0], ours[1], atol=1e-3)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(states, ours, strict=True))
    assert grads.keys() == our_grads.keys() and len(grads) > 20
    for key, value in grads.items():
        assert torch.allclose(value, our_grads[key], atol=1e-5), key


def test_shared_cnn_features_change_nothing():
    net = measure.random_student(measure.TINY, 2, "linear")
    wave = torch.randn(2, 8_000, device=net.device)
    with torch.no_grad():
        features = cnn(net.student.encoder, wave)
        shared = net.student.forward_two_paths(wave, features)
        own = net.student.forward_two_paths(wave)
    assert all(torch.equal(a, b) for a, b in zip(shared, own, strict=True))


def test_batches_and_one_by_one_give_the_same_embeddings(recordings):
    net = measure.random_student(measure.TINY, 1, "linear")
    paths = sorted(recordings.glob("*/*.wav"))
    ours = embed_files(net, paths, embedding.RECIPE)
    theirs = embedding.one_by_one(net, paths, embedding.RECIPE)
    assert np.abs(ours.full - theirs.full).max() <= 1e-5
    assert np.abs(ours.crops - theirs.crops).max() <= 1e-5


def test_pair_by_pair_gives_the_same_scores():
    full, crops, pairs = (part.astype(float) for part in pairwise.embeddings(50, 200))
    pairs = pairs.astype(int)
    scores = scoring.score_trials(full, crops, pairs)
    assert np.abs(scores - pairwise.pair_by_pair(full, crops, pairs)).max() <= 1e-6
    cohort = np.random.default_rng(1).standard_normal((60, pairwise.E))
    ours = scoring.as_norm(scores, pairs, full, cohort, 20)
    theirs = pairwise.norm_pair_by_pair(scores, pairs, full, cohort, 20)
    assert np.abs(ours - theirs).max() <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", bench.names())
def test_quick_run_prints_a_table_and_writes_its_result(name, tmp_path, monkeypatch, capsys):
    """Each benchmark as a command, in this process: the same options, the same form of result."""
    out = tmp_path / "result.json"
    module = importlib.import_module(name)
    if name == "page" and (why := module.unfit()):
        pytest.skip(why)
    monkeypatch.setattr(sys, "argv", [name, "--quick", "--out", str(out)])
    before = sorted(measure.RESULTS.iterdir())
    more = ("model", "trials", "root") if name == "deployment" else ()
    measure.main(name, module.__doc__, module.run, *more)
    found = json.loads(out.read_text())
    assert sorted(measure.RESULTS.iterdir()) == before
    assert found["benchmark"] == name and found["quick"]
    assert {"device", "kind", "cores", "versions", "commit", "threads"} <= set(found)
    check_form(found, capsys.readouterr().out)


def check_form(found: dict, table: str) -> None:
    """Rows and comparisons as every benchmark has them, all of them in the table."""
    measured = [entry for entry in found["rows"] if entry["median_s"] is not None]
    assert measured and found["comparisons"]
    for entry in measured:
        assert 0 < entry["low_s"] <= entry["median_s"] <= entry["high_s"]
    for entry in found["rows"]:
        assert (entry["median_s"] is None) == ("reason" in entry)
    assert all({"name", "times", "target"} <= set(entry) for entry in found["comparisons"])
    assert all(entry["name"] in table for entry in found["rows"] + found["comparisons"])


def test_eer_of_the_exports_is_measured_on_request(model_folder, recordings):
    trials = recordings / "trials.txt"
    given = Namespace(model=str(model_folder), trials=str(trials), root=str(recordings))
    found = deployment.eer_changes(given)
    assert found["torch"] == found["onnx"] and found["number of trials"] == 66
    assert found["int8_change"] == pytest.approx(found["int8"] - found["torch"])


def test_eer_of_an_earlier_result_stays_where_none_is_asked_for(tmp_path):
    file = tmp_path / "result.json"
    given = Namespace(model="", trials="", root="", out=str(file))
    assert set(deployment.eer_changes(given).values()) == {None}
    eer = {"model": "m", "int8_change": 0.001}
    file.write_text(json.dumps({"commit": "abc", "date": "2020-01-01", "eer": eer}))
    kept = deployment.eer_changes(given)
    assert eer.items() <= kept.items() and (kept["commit"], kept["date"]) == ("abc", "2020-01-01")
    file.write_text(json.dumps({"commit": "def", "date": "2020-01-02", "eer": kept}))
    assert deployment.eer_changes(given) == kept


@pytest.mark.slow
def test_an_option_that_a_benchmark_does_not_know():
    assert CliRunner().invoke(cli.app, ["bench", "scoring", "--wrong"]).exit_code == 2


def test_options_belong_to_one_benchmark():
    with pytest.raises(ValueError, match="--out o.json is for one benchmark; name it: cnn"):
        bench.run(options=["--out", "o.json"])


def test_options_of_an_eer_belong_together(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["deployment", "--quick", "--model", "classroom"])
    with pytest.raises(SystemExit, match="--model, --trials and --root belong together"):
        measure.main("deployment", "doc", deployment.run, "model", "trials", "root")


def test_slope_of_growth():
    for power in (1, 2):
        rows = [{"size": size, "median_s": size**power / 10} for size in (1, 10, 100)]
        assert growth.slope("s", rows)["times"] == pytest.approx(power)


def test_ratios_are_taken_within_a_turn():
    found = measure.comparison("x", [2.0, 20.0, 6.0], [1.0, 10.0, 2.0], "at least 2")
    assert (found["times"], found["low"], found["high"]) == (2.0, 2.0, 3.0)
    assert measure.comparison("x", None, [1.0], "y")["times"] is None


def test_every_turn_holds_every_row():
    order = []
    rows = {name: lambda name=name: order.append(name) for name in "ab"}
    taken = measure.interleaved(rows, 3)
    assert order == list("ab") * 4 and [len(v) for v in taken.values()] == [3, 3]


@pytest.mark.slow
def test_bench_finds_and_runs_what_there_is(monkeypatch, tmp_path):
    assert {"training", "pipeline", "scoring"} <= set(bench.names())
    assert not set(bench.NO_BENCHMARKS) & set(bench.names())
    assert all((bench.FOLDER / f"{name}.py").is_file() for name in bench.NO_BENCHMARKS)
    with pytest.raises(ValueError, match="no benchmark 'speed'; there are "):
        bench.run("speed")
    out = tmp_path / "o.json"
    options = ["--out", str(out)]
    found = bench.run("scoring", quick=True, as_json=True, options=options)["scoring"]
    assert json.loads(out.read_text()) == found
    assert found["quick"] and found["rows"] and {"device", "versions", "commit"} <= set(found)
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="run oskdft bench in a source checkout"):
        bench.names()


def test_loader_delivers_what_is_counted(tmp_path):
    works = pipeline.loader_works(tmp_path, quick=True)
    assert [count for _, count in works.values()] == [4, 4, 8, 4, 8]
    table, config_ = pipeline.sources(tmp_path / "again", made=True)
    assert len(table) == 4 and config_.probability == 0.6
    data = pipeline.SpeakerDataset(table, 0.5, 0, augment=pipeline.Augment(config_, 0))
    assert pipeline.loading(data, 2, 2, 1) > 0


def test_results_are_read_from_files_of_one_and_of_several(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    (tmp_path / "results").mkdir()
    one, two = {"benchmark": "a"}, {"benchmark": "b"}
    for name, value in (("one", one), ("several", {"b": two, "a": one}), ("study", {"rows": [1]})):
        (tmp_path / "results" / f"{name}.json").write_text(json.dumps(value))
    assert bench.results() == [one, two, one]


def test_readme_shows_what_the_results_hold():
    page = measure.README.read_text(encoding="utf-8")
    assert measure.updated(page) == page, "python benchmarks/measure.py"
    lines = measure.summary().splitlines()[2:]
    assert len(lines) > 50 and all(line.count("|") == 6 for line in lines)
    with pytest.raises(ValueError, match="lacks <!-- results --> and "):
        measure.updated("no table")


STUB = """
import json, sys
from pathlib import Path
out = Path(sys.argv[sys.argv.index("--out") + 1])
out.write_text(json.dumps({"rows": [{"median_s": 1.0}, {"median_s": None}]}))
sys.exit(NAME in Path("failing.txt").read_text().split())
"""
GPU_PARTS = ("training", "cnn", "positions", "embedding", "deployment", "pipeline")


@pytest.mark.parametrize("failing", [[], ["deployment"], list(GPU_PARTS)], ids=str)
@pytest.mark.slow
def test_gpu_script_succeeds_when_all_its_parts_do(tmp_path, failing):
    """With a stub in the place of each benchmark, which writes its result and then ends as told."""
    for name in ("run_gpu.sh", "measure.py"):
        shutil.copy(bench.FOLDER / name, tmp_path)
    for name in GPU_PARTS:
        (tmp_path / f"{name}.py").write_text(STUB.replace("NAME", repr(name)))
    (tmp_path / "failing.txt").write_text(" ".join(failing))
    command = ["bash", str(tmp_path / "run_gpu.sh"), "--quick", str(tmp_path / "out.json")]
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == bool(failing), done.stderr
    there = [name for name in GPU_PARTS if name not in failing]
    assert sorted(json.loads((tmp_path / "out.json").read_text())) == sorted(there)
    assert sorted(done.stdout.splitlines()) == sorted(
        f"{name}: 2 rows, 1 not measured" for name in there
    )
    assert not failing or f"failed, see above: {', '.join(failing)}" in done.stderr


@pytest.mark.slow
def test_gpu_script_says_when_there_is_no_gpu():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run(
        ["bash", str(bench.FOLDER / "run_gpu.sh")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "no CUDA device" in done.stderr
