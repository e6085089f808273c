"""Parameter groups and learning rates of both releases.

Three groups: body (the student without adapters; "kd" in the released code), sv (back-end, speaker
loss, KD heads) and adapter. Both losses reach the body alone.
"""

import math

from torch import nn

from oskdft.config import TrainConfig

GROUPS = ("body", "sv", "adapter")


def paper_rates(train: TrainConfig, epoch: int) -> dict[str, float]:
    """Return the learning rates of release P in an epoch (the first epoch is 1).

        sv = lr_min + (lr - lr_min) (1 + cos(pi ((e - 1) mod epochs) / epochs)) / 2
        body = sv e / body_ramp for e < body_ramp, then the previous body rate x body_decay
        adapter = lr_adapter_factor sv

    After the ramp the body rate decays from 0.9 sv; it never returns to sv.

    >>> {k: round(v, 7) for k, v in paper_rates(TrainConfig(), 10).items()}
    {'body': 8.24e-05, 'sv': 9.8e-05, 'adapter': 0.0009803}
    """

    def sv(e: int) -> float:
        angle = math.pi * ((e - 1) % train.epochs) / train.epochs
        return train.lr_min + (train.lr - train.lr_min) * (1 + math.cos(angle)) / 2

    last_of_ramp = min(epoch, train.body_ramp - 1)
    body = sv(last_of_ramp) * last_of_ramp / train.body_ramp
    body = body * train.body_decay ** (epoch - last_of_ramp)
    return {"body": body, "sv": sv(epoch), "adapter": train.lr_adapter_factor * sv(epoch)}


def rates(train: TrainConfig, epoch: int, progress: float) -> dict[str, float]:
    """Return the learning rate of each group.

    Args:
        train: schedule and factors.
        epoch: from 1; schedule "paper" depends on it.
        progress: share of all steps done, [0, 1); schedule "warmup_cosine" depends on it.

    >>> rates(TrainConfig(schedule="constant", lr=5e-5, lr_min=5e-5, lr_adapter_factor=1.0), 7, 0.5)
    {'body': 5e-05, 'sv': 5e-05, 'adapter': 5e-05}
    """
    if train.schedule == "paper":
        return paper_rates(train, epoch)
    lr = train.lr
    if train.schedule == "warmup_cosine":
        if progress < train.warmup:
            lr = train.lr * progress / train.warmup
        else:
            done = (progress - train.warmup) / (1 - train.warmup)
            lr = train.lr_min + (train.lr - train.lr_min) * (1 + math.cos(math.pi * done)) / 2
    return {"body": lr * train.lr_body_factor, "sv": lr, "adapter": lr * train.lr_adapter_factor}


def parameter_groups(student: nn.Module, heads: list[nn.Module]) -> list[dict]:
    """Build the parameter groups of an optimiser, in the order of `GROUPS`, without frozen parameters.

    Args:
        student: its parameters whose names start with "adapters." are the adapter group.
        heads: back-end, speaker loss, KD loss: the sv group.

    >>> [group["name"] for group in parameter_groups(nn.Linear(2, 2), [])]
    ['body', 'sv', 'adapter']
    """
    named = [(n, p) for n, p in student.named_parameters() if p.requires_grad]
    members = {
        "body": [p for n, p in named if not n.startswith("adapters.")],
        "sv": [p for head in heads for p in head.parameters() if p.requires_grad],
        "adapter": [p for n, p in named if n.startswith("adapters.")],
    }
    return [{"name": name, "params": members[name], "lr": 0.0} for name in GROUPS]
