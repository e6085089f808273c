"""The figures of the training log: means over some steps, speed, waiting for data, gradient norms."""

import os
import time

import torch

LOG_EVERY = 10  # steps averaged into one row of metrics.csv
LITTLE_WAITING = 0.1  # share of the time; below it the model sets the speed


def gradient_norms(optimiser: torch.optim.Optimizer) -> dict[str, float]:
    """Compute the L2 norm of the gradient of each named parameter group.

    Returns:
        {"grad_body": ..., "grad_sv": ..., "grad_adapter": ...}; 0 where no gradient arrived.
    """
    norms = {}
    for group in optimiser.param_groups:
        grads = [p.grad.norm() for p in group["params"] if p.grad is not None]
        norms[f"grad_{group['name']}"] = float(torch.stack(grads).norm()) if grads else 0.0
    return norms


class Meter:
    """Means over some steps, speed, and the share of the time that went into waiting for data."""

    def __init__(self) -> None:
        self.reset()

    def reset(self, window: list | None = None) -> None:
        """Start anew, or with the `window` of an interrupted run; the wait for data begins."""
        self.sums, self.steps, self.utterances = window or ({}, 0, 0)
        self.waited, self.began = 0.0, time.monotonic()
        self.mark = self.began

    def data_ready(self) -> None:
        """Count the time since the last step as waiting."""
        self.waited += time.monotonic() - self.mark

    def add(self, figures: dict[str, float], utterances: int) -> None:
        """Add the figures of a finished step."""
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps, self.utterances = self.steps + 1, self.utterances + utterances
        self.mark = time.monotonic()

    def window(self) -> list:
        """Return the sums since the last reading, for `reset` in a resumed run."""
        return [self.sums, self.steps, self.utterances]

    def read(self) -> dict[str, float]:
        """Return means since the last reading, utterances per second, and the share of waiting."""
        spent = time.monotonic() - self.began
        row = {name: total / self.steps for name, total in self.sums.items()}
        row |= {
            "utterances_per_s": self.utterances / spent,
            "waiting_for_data": self.waited / spent,
        }
        self.reset()
        return row


def bottleneck(waited: float, workers: int) -> str:
    """Return a line that names the bottleneck, data or model, and the remedy.

    Args:
        waited: share of the time in which a step waited for its batch.
        workers: `data.workers`.

    >>> bottleneck(0.02, 2)
    'the model is the bottleneck: 2 % of the time went into waiting for data'
    """
    share = f"{100 * waited:.0f} % of the time went into waiting for"
    if waited <= LITTLE_WAITING:
        return f"the model is the bottleneck: {share} data"
    cores = os.cpu_count()
    return f"data is the bottleneck: {share} it; raise data.workers ({workers} on {cores} cores)"
