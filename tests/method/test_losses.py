"""Losses against hand-worked values, finite differences and each other."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from oskdft.config import BUNDLES, LossConfig
from oskdft.method import losses, teacher

PUBLISHED, CORRECTED = BUNDLES["published"], BUNDLES["corrected"]


def states(layers=3, batch=2, frames=5, width=4, seed=0):
    return torch.randn(
        layers,
        batch,
        frames,
        width,
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )


def test_margin_zero_is_scaled_cosine_cross_entropy():
    torch.manual_seed(0)
    aam = losses.AamSoftmax(6, 4, LossConfig(margin=0.0))
    x, y = torch.randn(5, 6), torch.tensor([0, 1, 2, 3, 0])
    expected = F.cross_entropy(30 * F.normalize(x) @ F.normalize(aam.weight).T, y)
    torch.testing.assert_close(aam(x, y)[0], expected)


def test_aam_by_hand():
    """Two classes on the axes, a vector at 60 degrees to its own: cos(60 deg + 0.2)."""
    aam = losses.AamSoftmax(2, 2, LossConfig(scale=1.0))
    aam.weight.data = torch.eye(2)
    angle = math.pi / 3
    x = torch.tensor([[math.cos(angle), math.sin(angle)]])
    target, other = math.cos(angle + 0.2), math.sin(angle)
    assert aam(x, torch.tensor([0]))[0].item() == pytest.approx(
        -target + math.log(math.exp(target) + math.exp(other)), abs=1e-5
    )


def test_fallback_continues_past_pi_minus_margin():
    x = torch.tensor([[-1.0, 0.02]])  # nearly opposite to its class
    values = []
    for fallback in (True, False):
        aam = losses.AamSoftmax(2, 2, LossConfig(scale=1.0, aam_fallback=fallback))
        aam.weight.data = torch.eye(2)
        values.append(aam(x, torch.tensor([0]))[0].item())
    assert values[0] != pytest.approx(values[1])
    cosine = F.normalize(x)[0, 0].item()
    target, other = cosine - 0.2 * math.sin(math.pi - 0.2), F.normalize(x)[0, 1].item()
    assert values[0] == pytest.approx(
        -target + math.log(math.exp(target) + math.exp(other)), abs=1e-5
    )


def test_topk_raises_the_hardest_others():
    torch.manual_seed(0)
    plain = losses.AamSoftmax(6, 8, LossConfig(aam_fallback=False))
    hard = losses.AamSoftmax(6, 8, LossConfig(aam_fallback=False, aam_topk=3))
    hard.load_state_dict(plain.state_dict())
    x = plain.weight[:4].detach() + 0.1 * torch.randn(4, 6)
    y = torch.arange(4)
    assert hard(x, y)[0] > plain(x, y)[0]
    with pytest.raises(ValueError, match="aam_topk is 8, there are 8 speakers"):
        losses.AamSoftmax(6, 8, LossConfig(aam_topk=8))


@pytest.mark.parametrize("name", ["mse", "distilhubert", "fithubert"])
def test_distillation_gradients_by_finite_differences(name):
    torch.manual_seed(0)
    config = LossConfig(kd=name, kd_layers=(1, 2))
    loss = losses.build_kd_loss(config, CORRECTED, 4, 4).double()
    target = states(2, seed=1)
    x = states(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, target).sum(), (x,))


@pytest.mark.parametrize("name", ["mse", "fithubert"])
def test_identical_states_cost_nothing(name):
    loss = losses.build_kd_loss(LossConfig(kd=name, kd_layers=(1, 2)), CORRECTED, 4, 4)
    x = states(3)
    assert loss(x, x[1:]).abs().sum() == 0


def test_distilhubert_of_a_perfect_student_is_its_floor():
    loss = losses.DistilHubertLoss(4, 4, (1,), 1.0, averaged=False).double()
    loss.heads[0] = torch.nn.Identity()
    x = states(2)
    assert loss(x, x[1:]).item() == pytest.approx(loss.floor(5))


def test_summed_cosine_grows_with_the_crop_and_averaged_does_not():
    """Surprise 8."""

    def cosine_part(switches, frames):
        torch.manual_seed(0)
        loss = losses.build_kd_loss(
            LossConfig(kd="distilhubert", kd_layers=(1,)), switches, 4, 4
        ).double()
        x = states(2, frames=1).expand(-1, -1, frames, -1)  # every frame alike
        target = states(1, frames=1, seed=1).expand(-1, -1, frames, -1)
        both = loss(x, target).item()
        loss.cosine = 0.0
        return both - loss(x, target).item()

    assert cosine_part(PUBLISHED, 50) == pytest.approx(10 * cosine_part(PUBLISHED, 5))
    assert cosine_part(CORRECTED, 50) == pytest.approx(cosine_part(CORRECTED, 5))
    assert cosine_part(PUBLISHED, 5) == pytest.approx(5 * cosine_part(CORRECTED, 5))


def test_standardised_targets_do_not_reward_a_constant():
    """Raw, a guess of nothing but the mean is nearly perfect where the states hold a large constant."""
    torch.manual_seed(0)
    raw = 100 + torch.randn(1, 4, 50, 8)
    for states, near in ((raw, True), (teacher.standardised(raw), False)):
        guess = states.mean((1, 2), keepdim=True)
        error = (states - guess).norm() / states.norm()
        assert (error < 0.02) == near and (error > 0.99) != near


def test_a_dimension_that_never_changes_stays_finite():
    assert torch.equal(teacher.standardised(torch.ones(1, 2, 3, 4)), torch.zeros(1, 2, 3, 4))


def test_class_weights_are_total_over_count():
    counts = torch.tensor([2, 6])
    for name in ("aam", "cross_entropy"):
        loss = losses.build_sv_loss(LossConfig(sv=name), 4, counts)
        assert loss.class_weight.tolist() == pytest.approx([4.0, 8 / 6])
        assert (
            losses.build_sv_loss(LossConfig(sv=name, class_weights=False), 4, counts).class_weight
            is None
        )


def test_class_absent_from_a_batch_is_fine():
    loss = losses.build_sv_loss(LossConfig(), 4, torch.tensor([2, 0, 3]))
    value, _ = loss(torch.randn(2, 4), torch.tensor([0, 2]))
    assert torch.isfinite(value)


def test_kd_schedules():
    paper, constant = LossConfig(), dataclasses.replace(LossConfig(), kd_schedule="constant")
    assert [losses.kd_weight(paper, e, 100) for e in (1, 50, 100)] == [99.0, 50.0, 0.0]
    assert [losses.kd_weight(constant, e, 100) for e in (1, 100)] == [100.0, 100.0]


def test_widths_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="loss.kd=mse compares widths 4 and 8; use distilhubert"):
        losses.build_kd_loss(LossConfig(), CORRECTED, 4, 8)
