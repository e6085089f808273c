"""Crops for training, in an order and with a content that (seed, lap, index) alone decide.

The run reads one endless stream: lap 0 holds every utterance once in shuffled order, lap 1 again
in another order, and so on; batch s is the stream's places s B to s B + B - 1. (A lap is an epoch
where an epoch is one pass.) So workers, processes and a resumed run all see the same batches.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from oskdft import config
from oskdft.speech import audio
from oskdft.speech.augment import Augment, change_speed, generator, one_thread
from oskdft.speech.corpora.headers import scan
from oskdft.speech.corpora.tables import Utterances
from oskdft.utils.process import begin_data_worker

CROP, KD, ORDER = 3, 4, 5  # first word of a seed: one stream per purpose
SHORTEST_S = 0.1  # a shorter file is no speech; it would be wrapped twenty times into a crop
LISTED = 5  # bad files named in a message


class SpeakerDataset(Dataset):
    """Training items of a corpus, asked for by (lap, index).

    An item is (heard by the teacher [N], heard by the student [N], label, index): the clean crop
    and the augmented one. With a second corpus for distillation (OS-KDFT2) the first comes from
    there, or from a random utterance of this one with a probability that rises to 1 over the run.

    Args:
        utterances: the corpus; `speaker` is the label.
        crop_s: length of a crop [s]; shorter recordings are repeated.
        seed: of the run.
        whole_second: crops start on whole seconds only (release P).
        augment: what the student's crop gets; None: nothing. Its speeds, where it has any, are
            drawn per crop, for both listeners. A voice played faster is higher: it is labelled as
            a speaker of its own, label + K x place of the speed in the list.
        kd_utterances: second corpus for distillation; None: the same crop for both.
        kd_laps: laps of the whole run, over which that probability rises (release: epochs).

    >>> import tempfile
    >>> from oskdft.speech.corpora.tables import table
    >>> root = Path(tempfile.mkdtemp())
    >>> audio.write(root / "anna" / "1.wav", np.zeros(8_000))
    >>> data = SpeakerDataset(table(root, [("anna/1.wav", "anna", "", 0.5)]), 2.0, seed=0)
    >>> data[0, 0][0].shape, data[0, 0][2:]
    (torch.Size([32000]), (0, 0))
    """

    def __init__(
        self,
        utterances: Utterances,
        crop_s: float,
        seed: int,
        whole_second: bool = False,
        augment: Augment | None = None,
        kd_utterances: Utterances | None = None,
        kd_laps: int = 1,
    ) -> None:
        if len(utterances) == 0:
            raise ValueError("the training table is empty; check the corpus root and the split")
        self.utterances, self.seed, self.whole_second = utterances.measured(), seed, whole_second
        self.samples = round(crop_s * config.SAMPLE_RATE)
        self.augment, self.kd_laps = augment, kd_laps
        self.kd_utterances = kd_utterances and kd_utterances.measured()
        self.speeds = tuple(dict.fromkeys(augment.config.speed if augment else ())) or (1.0,)

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, Tensor, int, int]:
        lap, index = place
        clean, speed = self._crop(self.utterances, lap, index)
        changed = clean
        if self.augment is not None:
            changed = self.augment(clean[None], lap, [index])[0]
        if self.kd_utterances is not None:
            clean = self._kd_crop(lap, index)
        label = int(self.utterances.speaker[index]) + speed * len(self.utterances.speakers)
        return clean, changed, label, index

    def counts(self) -> np.ndarray:
        """Utterances of each label."""
        return np.tile(self.utterances.counts(), len(self.speeds))

    def _crop(self, table: Utterances, lap: int, index: int) -> tuple[Tensor, int]:
        """[N] and the place of its speed in the list."""
        rng = generator(CROP, self.seed, lap, index)
        speed = int(rng.integers(len(self.speeds)))
        factor = self.speeds[speed]
        wanted = round(self.samples * factor)
        total = round(float(table.seconds[index]) * config.SAMPLE_RATE)
        start = audio.crop_start(total, wanted, rng, self.whole_second)
        wave = torch.from_numpy(audio.wrap(audio.read(table.path(index), start, wanted), wanted))
        if factor != 1.0:
            with one_thread():
                wave = change_speed(wave[None], factor, self.samples)[0]
        return wave, speed

    def _kd_crop(self, lap: int, index: int) -> Tensor:
        """[N] of the second corpus, or more and more often of a random utterance of the first."""
        rng = generator(KD, self.seed, lap, index)
        from_target = rng.random() < (lap + 1) / self.kd_laps
        table = self.utterances if from_target else self.kd_utterances
        return self._crop(table, lap, int(rng.integers(len(table))))[0]


class Batches(Sampler):
    """The (lap, index) pairs of each batch that one process reads.

    Args:
        items: utterances of the corpus.
        batch: B, over all processes together.
        steps: batches of the whole run.
        seed: of the run.
        start_step: first batch, where an interrupted run goes on.
        rank, world: this process and how many there are; it takes items rank, rank + world, ...

    Raises:
        ValueError: no items, a batch the processes cannot share equally, a step outside the run.

    >>> [len(pairs) for pairs in Batches(items=3, batch=2, steps=2, seed=0)]
    [2, 2]
    >>> sorted(pair for pairs in Batches(3, 2, 3, seed=0) for pair in pairs)
    [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    """

    def __init__(
        self,
        items: int,
        batch: int,
        steps: int,
        seed: int,
        start_step: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if items < 1 or steps < 1 or not 0 <= start_step <= steps:
            raise ValueError(
                f"{items} utterances, {steps} steps, start {start_step}: need 1, 1, 0 to {steps}"
            )
        if batch < 1 or world < 1 or batch % world:
            raise ValueError(f"batch {batch} over {world} processes; choose a multiple of {world}")
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world} processes; ranks count from 0")
        self.items, self.batch, self.steps, self.seed = items, batch, steps, seed
        self.start_step, self.rank, self.world = start_step, rank, world

    def __len__(self) -> int:
        return self.steps - self.start_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        lap, order = -1, np.empty(0, int)
        for step in range(self.start_step, self.steps):
            pairs = []
            for place in range(step * self.batch + self.rank, (step + 1) * self.batch, self.world):
                if place // self.items != lap:
                    lap = place // self.items
                    order = generator(ORDER, self.seed, lap).permutation(self.items)
                pairs.append((lap, int(order[place % self.items])))
            yield pairs


def loader(
    dataset: SpeakerDataset,
    batch: int,
    steps: int,
    workers: int = 0,
    start_step: int = 0,
    rank: int = 0,
    world: int = 1,
) -> DataLoader:
    """Batches of (heard by the teacher [b, N], by the student [b, N], labels [b], indices [b]).

    One iteration is the whole run from `start_step` on, so that workers read ahead across epochs.

    Args:
        dataset: the items.
        batch: B over all processes; this one gets b = B / world.
        steps: batches of the whole run.
        workers: processes that read and augment; 0: this one.
        start_step: first batch, for resuming.
        rank, world: this process and how many there are.
    """
    batches = Batches(len(dataset), batch, steps, dataset.seed, start_step, rank, world)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=begin_data_worker,
    )


def validate(utterances: Utterances, augment: Augment | None = None) -> None:
    """Open the header of every file a run will read, before its first step.

    Raises:
        ValueError: files that are missing, unreadable, not mono or shorter than 0.1 s; names the
            first of them and counts the rest.

    >>> from oskdft.speech.corpora.tables import table
    >>> validate(table("/no/such", [("anna/1.wav", "anna", "", 0.5)]))
    Traceback (most recent call last):
    ValueError: 1 files cannot be used: /no/such/anna/1.wav does not exist, check the root
    """
    bad = _faults(utterances.root, list(utterances.names()), SHORTEST_S)
    for clips in (*augment.clips.values(), augment.rooms) if augment else ():
        bad += _faults(clips.root, clips.names, 0.0)
    if bad:
        more = f" and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
        raise ValueError(f"{len(bad)} files cannot be used: {'; '.join(bad[:LISTED])}{more}")


def _faults(root: Path, names: list[str], shortest_s: float) -> list[str]:
    headers = scan(root, lambda: names, len(names))
    fine = (headers["channels"] == 1) & (headers.seconds() >= shortest_s)
    lines = []
    for row in np.flatnonzero(~fine):
        path = root / names[row]
        if headers["size"][row] < 0:
            lines.append(f"{path} does not exist, check the root")
        elif row in headers.errors:
            lines.append(headers.errors[row])
        elif headers["channels"][row] != 1:
            lines.append(f"{path} has {headers['channels'][row]} channels, make it mono")
        else:
            lines.append(f"{path} is shorter than {shortest_s} s, take it out")
    return lines
