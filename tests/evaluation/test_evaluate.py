"""Embeddings, scores and reports of a random model on recordings made here."""

import json
import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from oskdft import config
from oskdft.evaluation import (
    bootstrap,
    embedding,
    evaluate,
    metrics,
    score_file,
    scoring,
    verifier,
    windows,
)
from oskdft.evaluation.verifier import load
from oskdft.method import model
from oskdft.speech import audio, cutting, quality
from oskdft.speech.corpora.trials import Trials, read_trials
from oskdft.storage import model_folder, pretrained
from oskdft.storage.export import export
from oskdft.storage.model_folder import load_model
from oskdft.storage.tensors import load_tensors, save_tensors

RATE = config.SAMPLE_RATE
KEYS = {"eer", "min_dcf_0.01", "min_dcf_0.05", "cllr", "eer_ci", "trials", "targets", "recipe"}


def waves(*seconds) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.1, round(s * RATE)).astype(np.float32) for s in seconds]


def unequal(net: torch.nn.Module) -> torch.nn.Module:
    """As after training: no adapter is idle, no normalisation is the identity."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
    for adapter in net.student.adapters:
        torch.nn.init.normal_(adapter.up.weight, std=0.3)
    return net.eval()


def build(family: str, backend: str) -> model.SpeakerModel:
    changes = {"model.backend": backend, "model.backend_channels": 32, "model.student_layers": 2}
    cfg = config.load("smoke").override(changes)
    return unequal(model.new_model(cfg, pretrained.load_encoder(f"tiny-random-{family}")))


@pytest.fixture
def copied(model_folder, tmp_path):
    """The saved model in a folder that a test may spoil."""
    return shutil.copytree(model_folder, tmp_path / "model")


@pytest.mark.parametrize("backend", ["linear", "ecapa"])
@pytest.mark.parametrize("family", ["hubert", "wav2vec2"])  # group norm; stable layer norm
def test_companions_and_padding_change_no_embedding(family, backend):
    net, parts = build(family, backend), waves(0.5, 2.9, 1.3)
    together = net.embed(parts)
    for row, wave in zip(together, parts, strict=True):
        assert np.abs(row - net.embed([wave])[0]).max() <= 1e-5
    assert np.abs(together[0] - together[1]).max() > 0.01, "the model tells them apart"


def test_score_is_the_mean_of_full_and_all_crop_pairs(model_folder, recordings):
    """Also: no score depends on how many recordings are embedded at once."""
    net, cfg, _ = load_model(model_folder)
    trials = read_trials(recordings / "trials.txt", recordings)

    def scored(cfg):
        embeddings = embedding.embed_trials(cfg, net, trials, recordings)
        return embedding.scores_by_policy(embeddings, trials)["both"]

    scores = scored(cfg)
    for batch_s in (0.1, 9.0):
        assert np.abs(scored(cfg.override({"eval.batch_s": batch_s})) - scores).max() <= 1e-5

    def unit(parts):
        return scoring.normalise(net.embed(list(parts)))

    for row in (0, 7, 40):
        a, b = (
            audio.read(recordings / trials.paths[side[row]]) for side in (trials.enrol, trials.test)
        )
        crops = [unit(cutting.segments(wave, round(cfg.eval.crop_s * RATE), 5)) for wave in (a, b)]
        full = unit([a])[0] @ unit([b])[0]
        want = (full + np.mean([x @ y for x in crops[0] for y in crops[1]])) / 2
        assert scores[row] == pytest.approx(want, abs=1e-5)


def test_recordings_are_read_while_the_model_computes(recordings, monkeypatch):
    """The model answers for a batch when the next one has been read; without that it waits in vain."""
    paths, read = [recordings / f"s0/{n}.wav" for n in range(3)], threading.Semaphore(0)

    def read_and_tell(path, original=audio.read, **chosen):
        wave = original(path, **chosen)
        read.release()
        return wave

    def embed(batch):
        if len(batch[0]) > 1.5 * RATE:  # not the last one
            assert all(read.acquire(timeout=20) for _ in range(2)), "the next batch was not read"
            read.release()
        return np.array([[len(wave)] for wave in batch], np.float32)

    monkeypatch.setattr(audio, "read", read_and_tell)
    stub = SimpleNamespace(device="cpu", embed=embed)
    rows = embedding.embed_files(stub, paths, config.EvalConfig(tta="full", batch_s=0.1)).full
    assert rows[:, 0].tolist() == [round(s * RATE) for s in (0.7, 1.6, 2.9)]


def test_half_batch_spares_two_of_five_crops_the_adapters(model_folder, recordings):
    """Surprise 1, from the switch in a model's configuration to its scores."""
    net, cfg, _ = load_model(model_folder)
    paths = [recordings / "s0/2.wav", recordings / "s1/2.wav"]
    all_, half = (embedding.embed_files(net, paths, cfg.eval, choice) for choice in (False, True))
    assert np.array_equal(all_.full, half.full)
    changed = np.abs(all_.crops - half.crops).max((0, 2)) > 1e-4
    assert changed.tolist() == [True, True, False, False, False]


def test_published_evaluation_differs_from_the_corrected(model_folder, copied, recordings):
    described = json.loads((copied / "model.json").read_text())
    described["config"]["switches"]["eval_path"] = "half_batch"
    (copied / "model.json").write_text(json.dumps(described))
    found = {}
    for folder in (model_folder, copied):
        out = folder.with_suffix(".scores") if folder == copied else copied / "scores.txt"
        evaluate.evaluate(folder, recordings / "trials.txt", recordings, out, device="cpu")
        found[folder] = score_file.read_scores(out)[0]
    assert np.abs(found[copied] - found[model_folder]).max() > 1e-4


def test_report_equals_its_score_file(model_folder, recordings, tmp_path):
    """66 trials, far fewer than 1,000, are enough; the list is labelled unknown."""
    out = tmp_path / "scores.txt"
    result = evaluate.evaluate(model_folder, recordings / "trials.txt", recordings, out)
    assert result.keys() >= KEYS
    scores, labels = score_file.read_scores(out)
    again = metrics.summary(scores, labels)
    same = KEYS & again.keys() - {"cllr"}
    assert {key: result[key] for key in same} == {key: again[key] for key in same}
    assert result["cllr"] == metrics.cllr(2.0 * scores - 1.0, labels), "calibrated on development"
    low, high = result["eer_ci"]
    assert 0 <= low <= high <= 1
    recipe = result["recipe"]
    assert recipe["list"] == "unknown list of 66 trials" and recipe["step"] == 7
    assert recipe["policy"] == "full utterance and 5 crops of 1 s"
    assert recipe["score normalisation"] == "none" and recipe["mode"] == "corrected"
    text = evaluate.report_text(result)
    assert all(f"{name} {version}" in text for name, version in result["versions"].items())
    assert "unknown list of 66 trials" in text and f"{100 * result['eer']:.4f} %" in text
    plain = evaluate.evaluate(model_folder, recordings / "trials.txt", recordings, tta=False)
    assert plain["recipe"]["policy"] == "full utterance"


def test_cohort_normalises_and_is_named(model_folder, recordings, tmp_path):
    rng = np.random.default_rng(1)
    for speaker in range(5):
        for name in "ab":
            noise = np.convolve(rng.normal(0, 0.1, RATE), rng.normal(size=4), "same")
            audio.write(tmp_path / f"cohort/p{speaker}/{name}.wav", noise)
    trials, out = recordings / "trials.txt", tmp_path / "scores.txt"
    result = evaluate.evaluate(
        model_folder, trials, recordings, out, tmp_path / "cohort", tta=False
    )
    assert result["recipe"]["score normalisation"] == "AS-norm, top 5 of 5"
    assert result["recipe"]["Cllr of"] == "uncalibrated scores"
    verifier, listed = load(model_folder), read_trials(trials)
    rows = np.stack([verifier.embed(recordings / path) for path in listed.paths])
    cohort = np.stack([verifier.embed(tmp_path / f"cohort/p{i}/a.wav") for i in range(5)])
    pairs = np.stack([listed.enrol, listed.test], 1)
    want = scoring.as_norm(scoring.score_trials(rows, None, pairs), pairs, rows, cohort, 5)
    # float32 embeddings, divided by the small deviations of five cohort scores
    assert score_file.read_scores(out)[0] == pytest.approx(want, rel=1e-4, abs=1e-3)
    shutil.rmtree(tmp_path / "cohort/p0")
    for i in (1, 2, 3):
        shutil.rmtree(tmp_path / f"cohort/p{i}")
    with pytest.raises(ValueError, match="holds 1 speaker; a cohort needs"):
        evaluate.evaluate(model_folder, trials, recordings, cohort=tmp_path / "cohort")


def test_a_list_without_labels_gives_the_scores_of_the_same_list_with_labels(
    model_folder, recordings, tmp_path
):
    lines = (recordings / "trials.txt").read_text().splitlines()
    (tmp_path / "bare.txt").write_text("".join(f"{line[2:]}\n" for line in lines))
    result = evaluate.evaluate(model_folder, tmp_path / "bare.txt", recordings, tmp_path / "bare")
    evaluate.evaluate(model_folder, recordings / "trials.txt", recordings, tmp_path / "scores")
    labelled = (tmp_path / "scores").read_text().splitlines()
    assert (tmp_path / "bare").read_text().splitlines() == [line[2:] for line in labelled]
    assert result["trials"] == 66 and not {"eer", "cllr", "min_dcf_0.01"} & result.keys()
    assert "66, without labels: scores only" in evaluate.report_text(result)
    with pytest.raises(ValueError, match=r"gives scores alone: oskdft evaluate --scores FILE"):
        evaluate.evaluate(model_folder, tmp_path / "bare.txt", recordings)
    with pytest.raises(ValueError, match="--groups needs a list with labels"):
        evaluate.evaluate(
            model_folder, tmp_path / "bare.txt", recordings, tmp_path / "x", columns=["gender"]
        )


def test_a_cohort_of_tested_recordings_or_of_no_speakers_is_refused(
    model_folder, recordings, tmp_path
):
    trials = recordings / "trials.txt"
    with pytest.raises(ValueError, match="4 recordings of the cohort are in the trials: .*s0/0"):
        evaluate.evaluate(model_folder, trials, recordings, None, recordings)
    for part in ("dev", "test"):
        audio.write(tmp_path / f"vox/{part}/wav/id1/v/1.wav", np.full(RATE, 0.1))
    with pytest.raises(ValueError, match="holds the folders dev, test; name the folder that holds"):
        evaluate.evaluate(model_folder, trials, recordings, None, tmp_path / "vox")


def test_a_run_that_is_not_finished_says_so(model_folder, recordings, tmp_path, capsys):
    shutil.copytree(model_folder, tmp_path / "run" / "best")
    (tmp_path / "run" / "config.yaml").touch()
    load(tmp_path / "run")
    assert f"warning: {tmp_path}/run is not finished; wait for" in capsys.readouterr().err
    with pytest.raises(ValueError, match="is not finished; wait for its training, or go on with"):
        export(tmp_path / "run", "hf", tmp_path / "out")
    (tmp_path / "run" / "report.json").write_text("{}")
    load(tmp_path / "run")
    assert "not finished" not in capsys.readouterr().err
    assert export(tmp_path / "run", "hf", tmp_path / "out")["files"]


def test_models_are_the_means_of_their_recordings(model_folder, recordings, tmp_path):
    """Two enrolment recordings of unlike length: each weighs the same, whole and crop by crop."""
    (tmp_path / "enrol.txt").write_text("m0 s0/0.wav s0/1.wav\nm1 s1/0.wav s1/1.wav s1/2.wav\n")
    (tmp_path / "list.txt").write_text("1 m0 s0/2.wav\n0 m0 s1/2.wav\n0 m1 s0/2.wav\n")
    words = tmp_path / "list.txt", recordings, tmp_path / "scores"
    result = evaluate.evaluate(model_folder, *words, enrol=tmp_path / "enrol.txt")
    assert result["recipe"]["enrolment"] == "mean of the unit embeddings of a model's recordings"
    net, cfg, _ = load_model(model_folder)

    def unit(rows):
        return rows / np.sqrt((rows**2).sum(-1, keepdims=True))

    def parts(name):
        wave = audio.read(recordings / name)
        crops = cutting.segments(wave, round(cfg.eval.crop_s * RATE), 5)
        return unit(net.embed([wave])[0]), unit(net.embed(list(crops)))

    models = [["s0/0.wav", "s0/1.wav"], ["s1/0.wav", "s1/1.wav", "s1/2.wav"]]
    want = []
    for model_, test in ((0, "s0/2.wav"), (0, "s1/2.wav"), (1, "s0/2.wav")):
        whole, crops = zip(*map(parts, models[model_]), strict=True)
        test_whole, test_crops = parts(test)
        mean, means = unit(sum(whole)), unit(sum(crops))
        cosines = [a @ b for a in means for b in test_crops]
        want.append((mean @ test_whole + np.mean(cosines)) / 2)
    assert score_file.read_scores(tmp_path / "scores")[0] == pytest.approx(want, abs=1e-5)
    assert (tmp_path / "scores").read_text().startswith("1 m0 s0/2.wav ")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("1 id1/x/1.wav id1/x/2.wav\n0 id1/x/1.wav id2/y/1.wav\n", "probably of another corpus"),
        ("1 s0/0.wav s0/1.wav\n0 s0/0.wav s9/1.wav\n", "1 of 3 recordings are not below"),
        ("1 s0/0.wav s0/1.wav\n0 s0/1.wav s0/0.wav\n", "same speaker and as different speakers"),
        ("0 s0/0.wav s1/0.wav\n0 s0/0.wav s2/0.wav\n", "0 of 2 are targets; both kinds"),
        ("s0/0.wav s0/1.wav\n", "is no trial; expected"),
        ("", "holds no trials"),
        (None, "no such trial list"),
    ],
)
def test_bad_lists_are_refused_before_a_model_is_loaded(
    lines, says, recordings, tmp_path, monkeypatch
):
    monkeypatch.setattr(evaluate, "load", lambda *_: pytest.fail("the model was loaded"))
    if lines is not None:
        (tmp_path / "list.txt").write_text(lines)
    with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
        evaluate.evaluate("any", tmp_path / "list.txt", recordings)
    assert "\n" not in str(caught.value) and "list.txt" in str(caught.value)


def test_missing_cohort_is_refused_before_a_model_is_loaded(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "load", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(FileNotFoundError, match="gone is not a folder"):
        evaluate.evaluate("any", recordings / "trials.txt", recordings, cohort=tmp_path / "gone")


def test_repeated_trials_are_said_and_kept(model_folder, recordings, tmp_path, capsys):
    path = tmp_path / "list.txt"
    path.write_text("1 s0/0.wav s0/1.wav\n0 s0/0.wav s1/1.wav\n1 s0/1.wav s0/0.wav\n")
    result = evaluate.evaluate(model_folder, path, recordings, tta=False)
    assert result["trials"] == 3
    assert "1 of 3 trials repeat an earlier one" in capsys.readouterr().err


def test_speakers_are_what_targets_link():
    enrol, test = np.array([[0, 1], [1, 2], [3, 4], [0, 3], [5, 0]]).T
    made = Trials(np.array([1, 1, 1, 0, 0]), enrol, test, list("abcdef"), "mine")
    who = bootstrap.trial_speakers(made)
    assert who[0, 0] == who[0, 1] == who[1, 1] == who[3, 0]
    assert who[2, 0] == who[2, 1] == who[3, 1]
    assert len({who[0, 0], who[2, 0], who[4, 0]}) == 3


def test_verifier(model_folder, recordings):
    verifier = load(model_folder, "cpu")
    a, b = recordings / "s0/0.wav", recordings / "s1/1.wav"
    row = verifier.embed(a)
    assert row.shape == (32,) and row.dtype == np.float32
    assert np.array_equal(verifier.embed(audio.read(a)), row)
    assert verifier.score(a, a) == pytest.approx(1.0)
    assert verifier.score(a, b) == pytest.approx(verifier.score(b, a), abs=1e-6)
    found = verifier.verify(a, b)
    assert found == {
        "score": verifier.score(a, b), "threshold": 0.5, "same": found["score"] >= 0.5,
        "probability": None, "warnings": [f"{a} is 0.70 s long"],
    }  # fmt: skip
    verifier.described = {}
    with pytest.raises(ValueError, match="no threshold; train it with development speakers"):
        verifier.verify(a, b)


def test_a_long_recording_is_the_mean_of_its_windows(model_folder, tmp_path, monkeypatch):
    """3.2 s in windows of at most 1 s: four of 0.8 s. Up to the limit nothing changes, bit for bit."""
    monkeypatch.setattr(quality, "LONGEST_WHOLE_S", 2.0)
    monkeypatch.setattr(windows, "WINDOW_S", 1.0)
    loaded = verifier.load(model_folder, "cpu")
    wave, short = waves(3.2, 2.0)
    rows = [loaded.model.embed([wave[i : i + 12_800]])[0] for i in range(0, 51_200, 12_800)]
    lengths = [np.sqrt((row**2).sum()) for row in rows]
    mean = sum(row / length for row, length in zip(rows, lengths, strict=True))
    want = mean / np.sqrt((mean**2).sum()) * np.mean(lengths)
    assert np.abs(loaded.embed(wave) - want).max() <= 1e-5
    assert np.abs(loaded.model.embed([wave])[0] - want).max() > 1e-3
    paths = [tmp_path / f"{name}.wav" for name in ("long", "short", "second")]
    for path, one in zip(paths, (wave, short, short[:31_000]), strict=True):
        soundfile.write(path, one, RATE, subtype="FLOAT")
    recipe = config.EvalConfig(tta="full", batch_s=99)
    all_, others = (embedding.embed_files(loaded.model, p, recipe).full for p in (paths, paths[1:]))
    assert np.array_equal(all_[0], loaded.embed(wave)) and np.array_equal(all_[1:], others)
    assert np.array_equal(loaded.embed(short), loaded.model.embed([short])[0])
    found = loaded.verify(paths[0], paths[1])
    assert found["warnings"] == [f"{paths[0]} is 3 s long, embedded in windows"]
    assert found["score"] == loaded.score(wave, short)


def test_a_whole_recording_has_a_longest_length(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "LONGEST_S", 2.0)
    long, said = (
        tmp_path / "long.wav",
        r"is 3 s long; at most 2 s are embedded whole; cut it",
    )
    wave = waves(3.0)[0]
    audio.write(long, wave)
    loaded = verifier.load(model_folder, "cpu")
    for source, name in ((long, r"long\.wav"), (wave, "wave")):
        with pytest.raises(ValueError, match=f"{name} {said}"):
            loaded.embed(source)
    with pytest.raises(ValueError, match=said):
        loaded.verify(long, long)
    for tta in ("full", "both"):
        with pytest.raises(ValueError, match=said):
            embedding.embed_files(loaded.model, [long], config.EvalConfig(tta=tta))
    crops = embedding.embed_files(loaded.model, [long], config.EvalConfig(tta="crops", crop_s=1.0))
    assert crops.full is None and crops.crops.shape[:2] == (1, 5)


def test_recordings_that_are_too_short_or_broken(model_folder, recordings, tmp_path):
    verifier = load(model_folder)
    audio.write(tmp_path / "short.wav", waves(0.4)[0])
    short, list_ = tmp_path / "short.wav", [recordings / "s0/0.wav", tmp_path / "short.wav"]
    with pytest.raises(ValueError, match=r"short\.wav is 0\.40 s long; give at least 0\.5 s"):
        verifier.embed(short)
    with pytest.raises(ValueError, match=r"short\.wav is 0\.40 s long"):
        embedding.embed_files(verifier.model, list_, verifier.recipe)
    for wave, says in (
        (waves(0.4)[0], "at least 0.5 s"),
        (np.zeros((2, RATE)), "give \\[N\\] samples"),
        (np.full(RATE, np.nan), "not finite"),
        (np.zeros(RATE, np.int16), "wave has type int16; give float samples"),
    ):
        with pytest.raises(ValueError, match=says):
            verifier.embed(wave)
    with pytest.raises(FileNotFoundError, match=r"gone\.wav does not exist"):
        verifier.embed(tmp_path / "gone.wav")


def test_another_rate_is_accepted(model_folder, tmp_path):
    """A low tone at 24 kHz is the same tone at 16 kHz."""
    tones = {r: 0.3 * np.sin(2 * np.pi * 200 * np.arange(2 * r) / r) for r in (RATE, 24_000)}
    for rate, tone in tones.items():
        soundfile.write(tmp_path / f"{rate}.wav", tone, rate)
    verifier = load(model_folder)
    with pytest.warns(UserWarning, match="24000 Hz; resampled"):
        assert verifier.score(*(tmp_path / f"{rate}.wav" for rate in tones)) > 0.99


def test_embed_to_writes_rows_and_names(model_folder, recordings, tmp_path):
    files = sorted(recordings.glob("s*/*.wav"))[:4]
    evaluate.embed_to(files, tmp_path / "new/out.npz", model_folder)
    with np.load(tmp_path / "new/out.npz") as made:
        assert set(made.files) == {"embeddings", "paths"}
        rows, paths = made["embeddings"], made["paths"]
    assert rows.shape == (4, 32) and rows.dtype == np.float32
    assert paths.tolist() == [str(path) for path in files]
    assert np.abs(rows[2] - verifier.load(model_folder).embed(files[2])).max() <= 1e-5


def test_weights_that_do_not_fit_are_listed(copied):
    path = copied / "model.safetensors"
    tensors = load_tensors(path)
    tensors["stray"] = tensors.pop("backend.weights")
    save_tensors(path, tensors)
    with pytest.raises(ValueError, match="missing backend.weights; left over stray") as caught:
        verifier.load(copied)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("model.json", "{", "model.json is not valid JSON"),
        ("model.json", "{}", "model.json: the configuration is None"),
        (
            "model.json",
            '{"config": {"nam": 1}}',
            "model.json: unknown setting nam; did you mean name",
        ),
        ("encoder.json", "[]", "model_type must be one of wav2vec2, hubert, wavlm"),
        ("encoder.json", '{"model_type": "bert"}', "model_type must be one of"),
        ("model.safetensors", "pickle", "not a readable safetensors file"),
    ],
)
def test_damaged_models_are_one_line(copied, name, text, says):
    (copied / name).write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        verifier.load(copied)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_a_saved_model_does_not_tell_where_its_teacher_was(tmp_path):
    pretrained.load_encoder("tiny-random-hubert").save_pretrained(tmp_path / "teacher")
    cfg = config.load("smoke")
    made = model.new_model(cfg, pretrained.load_encoder(str(tmp_path / "teacher")))
    model_folder.save_model(tmp_path / "model", made, cfg, [], {})
    text = "".join(path.read_text() for path in (tmp_path / "model").glob("*.json"))
    assert str(tmp_path) not in text and verifier.load(tmp_path / "model").threshold is None


def test_folders_that_hold_no_model(tmp_path):
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(ValueError, match="is no model: neither a run folder"):
            verifier.load(folder)


def test_device(model_folder):
    with pytest.raises(ValueError, match="device is 'gpu'; choose auto, cpu or cuda"):
        verifier.load(model_folder, "gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch sees no GPU here; choose auto or cpu"):
            verifier.load(model_folder, "cuda")
