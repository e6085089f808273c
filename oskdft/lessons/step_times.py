"""Where the time of a training step goes: data, teacher, student, backward, optimiser."""

import numpy as np
import torch
from torch.utils.benchmark.utils.timer import timer

from oskdft.config import Config
from oskdft.method import losses, teacher
from oskdft.method.model import device_of, new_model
from oskdft.method.objective import Objective, total_loss
from oskdft.method.strategies import STRATEGIES
from oskdft.speech import protocol
from oskdft.speech.dataset import loader
from oskdft.storage.pretrained import load_encoder

PARTS = ("data", "teacher forward", "student forward", "backward", "optimiser")


def step_seconds(cfg: Config, task: protocol.Task, repeats: int = 5) -> dict[str, float]:
    """Median time of each part of a step of OS-KDFT [s]; nothing of the training is kept.

    The batch is read in this process, so "data" is the whole work of reading. In a training, processes
    of their own read ahead, and a step waits for less.

    Args:
        cfg: the whole configuration. task: its speech, see `protocol.prepare`.
        repeats: steps that are timed, after a first one that is not.
    Returns:
        part -> seconds, in the order of `PARTS`.
    Raises:
        ValueError: repeats is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}; time at least one step")
    device = device_of(cfg.device)
    encoder = load_encoder(cfg.model.teacher)
    data = protocol.dataset(cfg, task, 1)
    with torch.random.fork_rng():
        model = new_model(cfg, encoder)
        if cfg.train.freeze_cnn:
            model.student.encoder.feature_extractor.requires_grad_(False)
        counts = torch.from_numpy(data.counts()).float()
        sv = losses.build_sv_loss(cfg.loss, cfg.model.embedding, counts)
        widths = model.config.hidden_size, encoder.config.hidden_size
        kd = losses.build_kd_loss(cfg.loss, cfg.switches, *widths)
        objective = Objective(model, sv, kd, STRATEGIES["os-kdft"][0]).to(device).train()
        guide = teacher.Teacher(encoder).to(device)
        adam = torch.optim.Adam(objective.parameters(), lr=cfg.train.lr)
        weight = losses.kd_weight(cfg.loss, 1, cfg.train.epochs)
        batches = iter(loader(data, cfg.train.batch, repeats + 1))
        spent = []
        for _ in range(repeats + 1):
            marks = [timer()]  # waits until a GPU has finished its queued work
            clean, augmented, speaker, _ = (tensor.to(device) for tensor in next(batches))
            marks.append(timer())
            target = teacher.imitation_target(
                guide,
                clean,
                augmented,
                kd.layers,
                second_corpus=protocol.uses_kd_corpus(cfg),
                standardise=cfg.loss.kd_targets == "standardised",
            )
            marks.append(timer())
            loss = total_loss(objective(augmented, speaker, target), weight)
            marks.append(timer())
            loss.backward()
            marks.append(timer())
            adam.step()
            adam.zero_grad()
            marks.append(timer())
            spent.append(np.diff(marks))
    return dict(zip(PARTS, map(float, np.median(spent[1:], axis=0)), strict=True))
