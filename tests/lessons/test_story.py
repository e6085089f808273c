"""The moving picture of the method: what it says agrees with which gradients really arrive."""

import pytest
import torch
from PIL import Image, ImageChops

from oskdft.config import Config
from oskdft.lessons.figures import animation
from oskdft.lessons.figures.animation import ACTS, DISTILLATION, VERIFICATION, Story
from oskdft.lessons.lesson import ROOT
from oskdft.lessons.widgets.story import method_story
from oskdft.method.losses import build_kd_loss, build_sv_loss
from oskdft.method.model import new_model
from oskdft.method.objective import Objective
from oskdft.method.strategies import STRATEGIES
from oskdft.method.teacher import Teacher, imitation_target
from oskdft.storage.pretrained import load_encoder


def reached(loss_name: str) -> set[str]:
    """Parts of the student that a loss sends a gradient to."""
    cfg = Config().override(
        {"model.teacher": "tiny-random-hubert", "model.student_layers": 1, "model.backend": "linear",
         "loss.kd": "distilhubert", "loss.kd_layers": [1, 2], "switches.adapter_init": "normal"}
    )  # fmt: skip
    encoder = load_encoder(cfg.model.teacher)
    model = new_model(cfg, encoder)
    width = encoder.config.hidden_size
    kd = build_kd_loss(cfg.loss, cfg.switches, width, width)
    sv = build_sv_loss(cfg.loss, cfg.model.embedding, torch.ones(2))
    objective = Objective(model, sv, kd, STRATEGIES["os-kdft"][0]).train()
    wave = torch.randn(2, 8000)
    target = imitation_target(Teacher(encoder), wave, wave, kd.layers)
    objective(wave, torch.tensor([0, 1]), target)[loss_name].sum().backward()
    parts = {
        "cnn": model.student.encoder.feature_extractor,
        "layers": model.student.encoder.encoder,
        "adapters": model.student.adapters,
        "backend": model.backend,
        "heads": kd,
    }
    return {
        name
        for name, module in parts.items()
        if any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    }


def test_the_story_frames_the_weights_that_a_loss_reaches():
    torch.manual_seed(0)
    rows = {"distillation": "layers", "verification": "layers"}  # two rows, one set of weights
    assert {rows.get(name, name) for name in DISTILLATION} == reached("kd")
    assert {rows.get(name, name) for name in VERIFICATION} == reached("sv")
    assert [act.trained for act in ACTS if act.trained] == [DISTILLATION, VERIFICATION]


def test_every_act_speaks_of_parts_that_are_drawn():
    parts = Story().parts
    assert all(set(act.lit) | set(act.trained) <= set(parts) for act in ACTS)
    story = Story(teacher_layers=24, student_layers=4)
    for number in range(len(ACTS)):
        story.show(number, 0.6)
        assert story.picture.alt == ACTS[number].words


@pytest.mark.slow
def test_the_committed_animation_is_what_the_code_draws():
    stored = Image.open(ROOT / "figures/two_paths.webp")
    pictures, _ = animation.frames()
    assert stored.n_frames == len(pictures)
    for number in (0, len(pictures) // 2, len(pictures) - 1):
        stored.seek(number)
        apart = ImageChops.difference(stored.convert("L"), pictures[number].convert("L"))
        mean = sum(level * count for level, count in enumerate(apart.histogram())) / (
            apart.width * apart.height
        )
        assert mean < 2, f"frame {number}: draw figures/two_paths.webp again"


def test_the_widget_shows_each_act_and_its_still():
    widget = method_story()
    seen = {bytes(widget.screen.image.value)}
    for act in range(2, len(ACTS) + 1):
        widget.act.value = act
        seen.add(bytes(widget.screen.image.value))
        assert widget.status.text == ACTS[act - 1].words
    assert len(seen) == len(ACTS) and "After training" in widget.still()["text/plain"]
