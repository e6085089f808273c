"""Short runs of the notebooks: budgets, seeds, what is missing, who wins."""

import numpy as np
import pytest
import torch

from oskdft import config
from oskdft.evaluation import bootstrap, metrics
from oskdft.lessons import sweep
from oskdft.lessons.lesson import Lesson, setup
from oskdft.method import strategies
from oskdft.speech.corpora.trials import Trials
from oskdft.storage import tensors
from oskdft.storage.pretrained import load_encoder
from oskdft.training import train


@pytest.fixture(scope="module")
def lesson(tmp_path_factory) -> Lesson:
    return setup("05", "smoke", device="cpu", output_dir=str(tmp_path_factory.mktemp("sweep")))


def test_odd_budgets_are_refused():
    with pytest.raises(ValueError, match="3 updates cannot be shared"):
        sweep.short(config.load("smoke"), 3)
    with pytest.raises(ValueError, match="choose an even number"):
        sweep.short(config.load("smoke"), -2)


@pytest.mark.parametrize("profile", config.PROFILES)
def test_short_runs_are_valid_and_differ_in_nothing_else(profile):
    cfg = config.load(profile)
    made = cfg.override(sweep.short(cfg))
    assert made.model == cfg.model and made.loss == cfg.loss and made.switches == cfg.switches
    assert (made == cfg) == (profile not in sweep.SHORT)
    budget = cfg.override(sweep.short(cfg, 6)).train
    assert budget.epochs * budget.steps_per_epoch == 6


@pytest.mark.parametrize("strategy", strategies.STRATEGIES)
def test_short_budgets_divide_into_stages(strategy):
    epochs = config.load("smoke").override(sweep.short(config.load("smoke"))).train.epochs
    shares = [s.share * epochs for s in strategies.STRATEGIES[strategy]]
    assert all(share == round(share) for share in shares)


def test_seeds_start_at_the_profiles_own():
    cfg = config.load("smoke").override({"seed": 4})
    assert sweep.seeds_of(cfg) == [4] and sweep.seeds_of(cfg, 3) == [4, 5, 6]


def test_measure_trains_what_is_missing(lesson):
    changes = {"strategy": "precomp"} | sweep.short(lesson.cfg)
    assert sweep.missing(lesson, [changes], [0, 1]) == [changes | {"seed": s} for s in (0, 1)]
    found = sweep.measure(lesson, changes, [0])
    assert sweep.missing(lesson, [changes], [0, 1]) == [changes | {"seed": 1}]
    assert found["updates"] == [{"student": 4, "teacher": 0}]
    assert found["seeds"] == [found["mean"]] and found["low"] <= found["high"]
    again = sweep.measure(lesson, changes, [0])
    assert all(np.array_equal(again[key], found[key]) for key in found)


@pytest.fixture(scope="module")
def listed():
    """Four recordings of each of eight speakers, every pair a trial; and a score that knows them."""
    paths = [f"s{i // 4}/{i % 4}.wav" for i in range(32)]
    enrol, test = np.triu_indices(32, 1)
    label = (enrol // 4 == test // 4).astype(np.uint8)
    return Trials(label, enrol, test, paths, "496 pairs")


def scored(trials, strength, *seeds):
    """A result whose scores tell speakers apart with some strength."""
    noise = [np.random.default_rng(seed).normal(size=len(trials.label)) for seed in seeds]
    scores = [strength * trials.label + each for each in noise]
    rates = [metrics.eer(each, trials.label)[0] for each in scores]
    return {"mean": np.mean(rates), "seeds": rates, "scores": scores}


def test_a_clear_difference_is_told_apart(listed):
    results = {"bad": scored(listed, 0.5, 1, 2), "good": scored(listed, 4, 3, 4)}
    assert bootstrap.undecided(results, listed) == ["good"]


def test_one_seed_decides_nothing(listed):
    results = {"bad": scored(listed, 0.5, 1), "good": scored(listed, 4, 3)}
    assert bootstrap.undecided(results, listed) == ["good", "bad"]


def test_seeds_must_agree(listed):
    mixed = scored(listed, 0.5, 1, 2)
    good = scored(listed, 4, 3, 4)
    mixed["seeds"] = [0.3, good["seeds"][1] - 0.01]
    assert bootstrap.undecided({"mixed": mixed, "good": good}, listed) == ["good", "mixed"]


def test_equals_are_not_told_apart(listed):
    results = {"b": scored(listed, 2, 1, 2), "a": scored(listed, 2, 1, 2)}
    assert sorted(bootstrap.undecided(results, listed)) == ["a", "b"]


@pytest.mark.parametrize("strategy", ["os-kdft", "postcomp"])
@pytest.mark.slow
def test_a_remembering_teacher_changes_nothing_but_the_work(lesson, tmp_path, strategy):
    """Same weights with and without; the second run hears what the first one heard and asks no more."""
    cfg = lesson.cfg.override({"strategy": strategy} | sweep.short(lesson.cfg))
    teacher = sweep.RememberingTeacher(load_encoder(cfg.model.teacher))
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    train.train(cfg, tmp_path / "plain")
    for name in ("first", "second"):
        train.train(cfg, tmp_path / name, teacher=teacher)
        if name == "first":
            asked = len(teacher.cache)
    assert (
        asked == len(teacher.cache) == (4 if strategy == "os-kdft" else 0)
    )  # postcomp has its own
    assert all(value.equal(before[name]) for name, value in teacher.state_dict().items())
    plain, *shared = (
        tensors.load_tensors(tmp_path / name / "last/model.safetensors")
        for name in ("plain", "first", "second")
    )
    assert all(plain[name].equal(made[name]) for made in shared for name in plain)


def test_a_full_teacher_goes_on_without_remembering():
    teacher = sweep.RememberingTeacher(load_encoder("tiny-random-hubert"))
    teacher.room = 0
    wave = torch.ones(1, 8000)
    assert teacher(wave).equal(teacher(wave)) and not teacher.cache
