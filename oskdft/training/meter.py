"""What a training step reports: means over some steps, speed, waiting, gradient norms."""

import os
import time

import torch

LITTLE_WAITING = 0.1  # share of the time; workers that keep up hand over a batch at once


def gradient_norms(optimiser: torch.optim.Optimizer) -> dict[str, float]:
    """L2 norm of the gradient of each named parameter group."""
    norms = {}
    for group in optimiser.param_groups:
        grads = [p.grad.norm() for p in group["params"] if p.grad is not None]
        norms[f"grad_{group['name']}"] = float(torch.stack(grads).norm()) if grads else 0.0
    return norms


class Meter:
    """Means over some steps, speed, and the share of time spent waiting for data."""

    def __init__(self) -> None:
        self.reset()

    def reset(self, window: list | None = None) -> None:
        """Forget everything but an interrupted `window`; from now on the loop waits for data."""
        self.sums, self.steps, self.utterances = window or ({}, 0, 0)
        self.waited, self.began = 0.0, time.monotonic()
        self.mark = self.began

    def data_ready(self) -> None:
        """The batch is here: the time since the last step was waiting."""
        self.waited += time.monotonic() - self.mark

    def add(self, figures: dict[str, float], utterances: int) -> None:
        """Count a finished step."""
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps, self.utterances = self.steps + 1, self.utterances + utterances
        self.mark = time.monotonic()

    def window(self) -> list:
        """What was counted since the last reading, for `reset` in a run that goes on."""
        return [self.sums, self.steps, self.utterances]

    def read(self) -> dict[str, float]:
        """Means since the last reading, utterances per second, share of waiting."""
        spent = time.monotonic() - self.began
        row = {name: total / self.steps for name, total in self.sums.items()}
        row |= {
            "utterances_per_s": self.utterances / spent,
            "waiting_for_data": self.waited / spent,
        }
        self.reset()
        return row


def bottleneck(waited: float, workers: int) -> str:
    """Line that says whether data or model set the speed, and what to do about it.

    Args:
        waited: share of the time in which a step waited for its batch. workers: `data.workers`.

    >>> bottleneck(0.02, 2)
    'the model is the bottleneck: 2 % of the time went into waiting for data'
    """
    share = f"{100 * waited:.0f} % of the time went into waiting for"
    if waited <= LITTLE_WAITING:
        return f"the model is the bottleneck: {share} data"
    cores = os.cpu_count()
    return f"data is the bottleneck: {share} it; raise data.workers ({workers} on {cores} cores)"
