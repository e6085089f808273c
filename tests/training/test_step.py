"""A training step computed in parts, with recomputed activations, or compiled: the same update."""

from contextlib import closing

import pytest
import torch

from oskdft import config
from oskdft.method import strategies, student
from oskdft.method.teacher import Teacher
from oskdft.speech.dataset import loader
from oskdft.storage import pretrained
from oskdft.training import run
from oskdft.training.loop import StageLoop
from oskdft.training.run import Run
from oskdft.utils.process import Interrupts

QUIET = {"augment.probability": 0.0}
CHANCE = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")


def without_chance(teacher: str) -> Teacher:
    """A teacher whose student has no dropout, LayerDrop and SpecAugment."""
    made = pretrained.load_encoder(teacher)
    for name in (*CHANCE, "layerdrop", "mask_time_prob"):
        setattr(made.config, name, 0.0)
    return Teacher(made)


def one_step(tmp_path, changes, teacher=None, batch_statistics=True):
    """Gradients and log of the first step of a smoke run."""
    cfg = config.load("smoke").override({"device": "cpu"} | changes)
    out = tmp_path / str(len(list(tmp_path.iterdir())))
    with Interrupts() as interrupts, closing(Run(cfg, out, False, teacher, interrupts)) as made:
        stage = strategies.stages(cfg)[0]
        layers = made.teacher.encoder.config.num_hidden_layers
        loop = StageLoop(made, strategies.stage_config(cfg, stage, layers), stage, 0, None)
        if loop.objective.sv is not None:  # weights that differ from class to class
            weights = loop.objective.sv.class_weight
            weights.copy_(torch.arange(1.0, len(weights) + 1))
        loop.prepare()
        if not batch_statistics:
            loop.model.backend.norm.eval()
        loop.meter.reset()
        loop.step(0, next(iter(loader(loop.data, cfg.train.batch, 1))))
        figures = {name: value for name, value in loop.meter.sums.items()}
        return {n: p.grad for n, p in loop.objective.named_parameters()}, figures


def alike(one, other, tolerance=1e-5):
    """Compare the gradients and figures of two steps; where terms cancel, by the largest gradient."""
    (grads, figures), (other_grads, other_figures) = one, other
    assert figures == pytest.approx(other_figures, rel=tolerance)
    largest = max(float(grad.abs().max()) for grad in grads.values() if grad is not None)
    for name, grad in grads.items():
        assert (grad is None) == (other_grads[name] is None), name
        if grad is not None:
            most = tolerance * float(grad.abs().max()) + 1e-6 * largest
            torch.testing.assert_close(grad, other_grads[name], rtol=0, atol=most, msg=name)


@pytest.mark.parametrize("strategy", ["os-kdft", "student-ft"])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(strategy, tmp_path):
    """Where nothing depends on the batch statistics; also the log, with unequal class weights."""
    steps = [
        one_step(
            tmp_path,
            QUIET | {"strategy": strategy, "train.accumulate": parts},
            without_chance("tiny-random-hubert"),
            batch_statistics=False,
        )
        for parts in (1, 4)
    ]
    alike(*steps)


def test_batch_normalisation_sees_the_crops_of_a_part(tmp_path):
    steps = [
        one_step(
            tmp_path, QUIET | {"train.accumulate": parts}, without_chance("tiny-random-hubert")
        )
        for parts in (1, 4)
    ]
    assert steps[0][1]["sv"] != pytest.approx(steps[1][1]["sv"], rel=1e-3)
    assert steps[0][1]["kd_layer1"] == pytest.approx(steps[1][1]["kd_layer1"], rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.teacher": "tiny-random-wavlm", "model.student_layers": 2},
        {"model.teacher": "tiny-random-wav2vec2", "model.student_layers": 2},
        {"strategy": "teacher-ft"},
    ],
)
def test_layers_that_are_computed_again_give_the_same_gradient(changes, tmp_path, monkeypatch):
    """With dropout and noise on; every layer runs twice. A teacher that is fine-tuned is a student."""
    runs, attend = [], student.attend

    def counted(layer, *rest):
        runs[-1].append(layer)
        return attend(layer, *rest)

    monkeypatch.setattr(student, "attend", counted)
    steps = []
    for checkpointing in (False, True):
        runs.append([])
        settings = {"model.adapter_noise": [0.5, 1.0], "train.checkpointing": checkpointing}
        steps.append(one_step(tmp_path, changes | settings))
    (grads, figures), (again, figures_again) = steps
    assert figures == figures_again
    assert all(torch.equal(g, again[n]) for n, g in grads.items() if g is not None)
    assert [len(set(map(id, run))) for run in runs] == [2, 2]
    assert [len(run) for run in runs] == [2, 4]


@pytest.mark.slow
def test_a_compiled_step_is_traced_without_a_change(tmp_path, monkeypatch):
    """Before code is generated: noise, LayerDrop, SpecAugment, layers computed again."""
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module, options: compile_(module, backend="aot_eager")
    )
    monkeypatch.setattr(run, "require_compiler", lambda device: None)
    changes = {"model.teacher": "tiny-random-wavlm", "train.checkpointing": True}
    changes |= {"model.adapter_noise": [0.5, 1.0], "model.student_layers": 2}
    torch._dynamo.utils.counters.clear()
    steps = [
        one_step(tmp_path, changes | {"train.compile": compiled}) for compiled in (False, True)
    ]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    alike(*steps, tolerance=1e-6)


@pytest.mark.slow
def test_a_compiled_step_gives_the_same_gradient(tmp_path):
    try:
        run.require_compiler(torch.device("cpu"))
    except ValueError as error:
        pytest.skip(str(error))
    alike(*(one_step(tmp_path, {"train.compile": compiled}) for compiled in (False, True)))


def test_without_a_compiler_nothing_begins(tmp_path, monkeypatch):
    def absent(function):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", absent)
    with pytest.raises(ValueError, match=r"No working C\+\+ compiler found\); install g\+\+"):
        one_step(tmp_path, {"train.compile": True})
    assert not list(tmp_path.iterdir())
