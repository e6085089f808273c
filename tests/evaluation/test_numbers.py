"""A score is a property of two recordings: not of threads, companions, an offset's rounding, or a process."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import oskdft
from oskdft.config import SAMPLE_RATE, EvalConfig
from oskdft.evaluation import bootstrap, embedding, metrics, verifier
from oskdft.evaluation.scoring import normalise
from oskdft.speech import audio
from oskdft.storage import export

CLOSE = 1e-5
RNG = np.random.default_rng(0)


def speech(seconds: float, offset: float = 0.0) -> np.ndarray:
    wave = RNG.normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)
    return (wave + offset).astype(np.float32)


def constant(seconds: float, value: float) -> np.ndarray:
    return np.full(round(seconds * SAMPLE_RATE), value, np.float32)


# recordings of the kinds that a list may mix
WAVES = {
    "short": speech(0.6),
    "long": speech(4.1),
    "offset": speech(2.0, 0.5),
    "silent": constant(2.0, 0.0),
    "constant": constant(3.7, 0.3),
    "speech behind a constant": np.concatenate([constant(4.0, 0.3), speech(1.0)]),
    "speech behind silence": np.concatenate([constant(4.0, 0.0), speech(1.0)]),
}


@pytest.fixture(scope="module")
def forms(model_folder, tmp_path_factory):
    """Models in torch, ONNX and int8 form: of random weights, and the shipped student."""
    out = tmp_path_factory.mktemp("forms")
    for to in ("onnx", "int8"):
        export.export(model_folder, to, out / to)
    return {
        "torch": oskdft.load(model_folder, "cpu"),
        "onnx": oskdft.load(out / "onnx"),
        "int8": oskdft.load(out / "int8"),
        "classroom": oskdft.load("classroom", "cpu"),
        "classroom onnx": verifier.load("classroom", quick=True),
    }


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("waves")
    for name, wave in WAVES.items():
        audio.write(folder / f"{name}.wav", wave)
    return [folder / f"{name}.wav" for name in WAVES]


def scores(rows: embedding.Embeddings) -> np.ndarray:
    """Cosines of every pair: of whole recordings, and the mean over all pairs of crops."""
    full, crops = normalise(rows.full), normalise(rows.crops).mean(1)
    return np.stack([full @ full.T, crops @ crops.T])


@pytest.mark.parametrize("form", ["torch", "onnx", "classroom", "classroom onnx"])
def test_no_score_depends_on_companions(forms, paths, form):
    """One by one, all in one batch, and in another order: silence and offsets among speech."""
    student, recipe = forms[form].model, EvalConfig(tta="both", crops=5, crop_s=1.0)
    alone = [embedding.embed_files(student, [path], recipe) for path in paths]
    want = embedding.Embeddings(
        np.concatenate([a.full for a in alone]), np.concatenate([a.crops for a in alone])
    )
    for batch_s in (3.0, 100.0):
        found = embedding.embed_files(student, paths, replace(recipe, batch_s=batch_s))
        assert np.abs(scores(found) - scores(want)).max() <= CLOSE
    back = embedding.embed_files(student, paths[::-1], replace(recipe, batch_s=100.0))
    turned = embedding.Embeddings(back.full[::-1], back.crops[::-1])
    assert np.abs(scores(turned) - scores(want)).max() <= CLOSE


@pytest.mark.parametrize("pair", [("torch", "onnx"), ("classroom", "classroom onnx")])
def test_no_score_depends_on_the_form_of_the_model(forms, paths, pair):
    """Within the 1e-4 that `verifier.load` states; rounding of a constant alone would give 0.03."""
    recipe = EvalConfig(tta="both", crops=5, crop_s=1.0)
    one, other = (scores(embedding.embed_files(forms[form].model, paths, recipe)) for form in pair)
    assert np.abs(one - other).max() <= 10 * CLOSE


def test_int8_is_within_its_tolerance_for_silence_and_offsets_too(forms, paths):
    recipe = EvalConfig(tta="both", crops=5, crop_s=1.0)
    one, other = (embedding.embed_files(forms[f].model, paths, recipe) for f in ("torch", "int8"))
    for ours, theirs in ((one.full, other.full), (one.crops, other.crops)):
        assert (normalise(ours) * normalise(theirs)).sum(-1).min() >= 0.98


THREADS = """
import json, sys
import torch
from oskdft.evaluation import verifier
quick = sys.argv[1] == "quick"
student = verifier.load("classroom", "cpu", quick)
files = sys.argv[2:]
print(json.dumps([student.score(a, b) for a, b in zip(files, files[1:])]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["exact", "quick"])
def test_no_score_depends_on_the_number_of_threads(paths, form):
    found = []
    for threads in ("1", "2"):
        command = [sys.executable, "-c", THREADS, form, *map(str, paths)]
        environment = os.environ | {"OMP_NUM_THREADS": threads}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.append(np.array(json.loads(done.stdout)))
    assert np.abs(found[0] - found[1]).max() <= CLOSE
    assert np.ptp(found[0]) > 0.1


def test_bf16_of_the_objective_is_within_its_tolerance(forms):
    """As training computes it: products in bfloat16, 8 bits of which are kept."""
    wave = torch.from_numpy(np.stack([speech(1.0), speech(1.0)]))
    net = forms["torch"].model
    with torch.no_grad():
        exact = net(wave)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = net(wave).float()
    assert torch.cosine_similarity(exact, rounded).min() >= 0.999
    assert not torch.equal(exact, rounded)


def test_ties_count_half_whatever_their_order():
    """All scores equal: an EER of one half; a tie between one of each kind: half an error of each."""
    for labels in ([0, 1], [1, 0], [1, 1, 0, 0, 0], [0, 1, 0, 1, 0]):
        assert metrics.eer(np.zeros(len(labels)), np.array(labels))[0] == 0.5
    # targets 3, 2; others 2, 1: at the tie half of one of two is missed, half of one of two accepted
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 2, 0, 3], [2, 1, 3, 0]):
        values, labels = np.array([3.0, 2, 2, 1])[order], np.array([1, 1, 0, 0])[order]
        assert metrics.eer(values, labels)[0] == pytest.approx(0.25, abs=1e-12)
    rng = np.random.default_rng(1)
    values, labels = rng.integers(0, 4, 2_000).astype(float), rng.integers(0, 2, 2_000)
    once = metrics.eer(values, labels)
    for _ in range(5):
        order = rng.permutation(2_000)
        assert metrics.eer(values[order], labels[order]) == once


DRAWS = """
import hashlib, sys
import numpy as np
from oskdft.evaluation import bootstrap
with np.load(sys.argv[1]) as given:
    found = bootstrap.bootstrap(given["scores"], given["labels"], given["speakers"], 200)
print(hashlib.sha256(found.tobytes()).hexdigest())
"""


def test_the_bootstrap_is_the_same_in_every_process(tmp_path):
    """Other hashes of strings, another number of threads: the same draws, bit by bit."""
    rng = np.random.default_rng(2)
    speakers = np.array([f"id{n}" for n in range(30)])[rng.integers(30, size=(3_000, 2))]
    labels = (speakers[:, 0] == speakers[:, 1]).astype(np.uint8)
    values = np.round(labels + rng.normal(size=3_000), 2).astype(np.float32)  # with ties
    np.savez(tmp_path / "given.npz", scores=values, labels=labels, speakers=speakers)
    found = set()
    for seed, threads in (("0", "1"), ("7", "2")):
        environment = os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", DRAWS, str(tmp_path / "given.npz")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.add(done.stdout)
    order = rng.permutation(3_000)
    low = bootstrap.bootstrap_ci(values, labels, speakers, 200)
    assert bootstrap.bootstrap_ci(values[order], labels[order], speakers[order], 200) == low
    assert len(found) == 1
