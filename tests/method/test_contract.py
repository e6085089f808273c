"""Back-ends, losses and strategies from outside that break the contract of docs/extend.md are refused."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from oskdft.method import contract, strategies
from oskdft.method.backends import WeightedSumLinear
from oskdft.method.losses import AamSoftmax, CrossEntropy, LastStateMse
from oskdft.method.strategies import STRATEGIES, Stage


class Good(nn.Module):
    """Mean of the last state over the frames of speech."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 8)

    def forward(self, states, mask=None):
        last = states[-1]
        if mask is None:
            return self.linear(last.mean(1))
        return self.linear((last * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


class Padded(Good):
    def forward(self, states, mask=None):
        return super().forward(states)


class Narrow(Good):
    def forward(self, states, mask=None):
        return super().forward(states, mask)[:, :5]


class Random(Good):
    def forward(self, states, mask=None):
        out = super().forward(states, mask)
        return out + torch.randn_like(out)


class Unsaved(Good):
    def __init__(self) -> None:
        super().__init__()
        self.offset = torch.randn(8)

    def forward(self, states, mask=None):
        return super().forward(states, mask) + self.offset


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Padded, "padded utterance another embedding"),
        (Random, "or a random one in evaluation mode"),
        (Narrow, r"must give \[B, E\] = \[2, 8\]; it gives \[2, 5\]"),
        (Unsaved, "outside its state_dict"),
        (dict, "must be a torch.nn.Module; it makes a dict"),
    ],
)
def test_back_ends(kind, message):
    with pytest.raises(ValueError, match=message):
        contract.check_backend(kind, (2, 16, 8), "mykit:Pool")


def test_trying_changes_no_random_number_and_no_module():
    norm = nn.BatchNorm1d(8)  # whose running mean any call in training mode moves
    loss = CrossEntropy(8, 3)
    loss.linear = nn.Sequential(norm, loss.linear)
    torch.manual_seed(3)
    wanted = torch.randn(1)
    torch.manual_seed(3)
    contract.check_backend(lambda: WeightedSumLinear(16, 2, 8, True), (2, 16, 8), "linear")
    contract.check_kd_loss(LastStateMse(), 1, (8, 8), "mykit:Kd")
    contract.check_sv_loss(loss, 8, 3, "mykit:Loss")
    assert torch.equal(torch.randn(1), wanted) and not norm.running_mean.any()


def test_kd_losses():
    def refused(message, **changes):
        kd = LastStateMse()
        for name, value in changes.items():
            setattr(kd, name, value)
        with pytest.raises(ValueError, match=message):
            contract.check_kd_loss(kd, 1, (8, 8), "mykit:Kd")

    refused("needs `layers`, a tuple", layers=[1, 2])
    refused("needs `layers`, a tuple", layers=())
    refused(r"one loss per layer, \[2\]; it gives \[1\]", layers=(1, 2))
    refused("it gives float", forward=lambda student, teacher: 0.0)


def test_sv_losses():
    with pytest.raises(ValueError, match=r"logits \[B, K\] = \[4, 5\].*\[\[\], \[4, 3\]\]"):
        contract.check_sv_loss(CrossEntropy(8, 3), 8, 5, "mykit:Sv")
    with pytest.raises(ValueError, match="it gives Tensor"):
        contract.check_sv_loss(LossAlone(), 8, 3, "mykit:Sv")


class LossAlone(nn.Module):
    def forward(self, embedding, label):
        return embedding.mean()


KD = Stage("distil", kd=True, sv=False)
TUNE = STRATEGIES["postcomp"][0]


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        ((), "must be a tuple of Stage objects"),
        (("os-kdft",), "must be a tuple of Stage objects"),
        (AamSoftmax, "must be a tuple of Stage objects"),
        ([replace(KD, kd=False)], "stage 'distil': it has no loss"),
        ([replace(KD, start="zero")], "start is 'zero'"),
        ([replace(KD, layers="all")], "layers is 'all'"),
        ([replace(KD, share=0.0)], "share is 0.0"),
        ([replace(KD, frozen=1.0)], "frozen 1.0"),
        ([replace(KD, start="previous")], "first stage has no previous one"),
        ([KD, Stage("b", start="previous", adapters=True)], "the same layers and adapters"),
        ([replace(KD, embedding_kd=True)], "embedding_kd needs kd, and a stage before it"),
        ([TUNE, Stage("b", embedding_kd=True)], "embedding_kd needs kd"),
        ([KD, TUNE], "becomes_teacher needs a stage after it"),
        ([replace(TUNE, layers="student"), KD], "becomes_teacher needs layers='teacher'"),
    ],
)
def test_stages_that_cannot_follow_one_another(plan, fault):
    with pytest.raises(ValueError, match=fault) as error:
        strategies.check_stages(plan, "mykit:PLAN")
    assert "mykit:PLAN" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_strategies_of_the_package_keep_the_contract(name):
    strategies.check_stages(STRATEGIES[name], name)
