"""Training crops. The seed, the lap and the index of an utterance alone decide a crop and its turn.

A run reads one endless stream of utterances. A lap holds every utterance once, in an order of its
own; lap 1 follows lap 0. Batch s is positions s B to s B + B - 1 of the stream. Any number of
workers or processes, and a resumed run, therefore read the same batches.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from oskdft.config import SAMPLE_RATE
from oskdft.speech import audio, cutting, quality, resampling
from oskdft.speech.augment import Augment, change_speed, generator, one_thread
from oskdft.speech.corpora.headers import scan
from oskdft.speech.corpora.tables import Utterances
from oskdft.utils.console import some
from oskdft.utils.process import begin_data_worker, prepare_data_workers

CROP, KD, ORDER = 3, 4, 5  # first word of a seed: one random stream per purpose (augment.py: 1, 2)


class SpeakerDataset(Dataset):
    """Training items of a corpus by (lap, index).

    An item is (teacher's crop [N], student's crop [N], label, index): a clean crop and the same
    crop augmented. With a second corpus for distillation (OS-KDFT2) the teacher's crop is of that
    corpus, or of a random utterance of the first with a probability that rises to 1 over the run.

    Args:
        utterances: the corpus; `speaker` is the label.
        crop_s: length of a crop [s]; a shorter recording is repeated.
        seed: of the run.
        whole_second: crops start on whole seconds (release P).
        augment: augmentation of the student's crop; None: none. Its speeds are drawn per crop and
            change both crops. A faster voice is higher, thus another speaker: its label is
            label + K x position of the speed in the list.
        kd_utterances: second corpus for distillation; None: both crops are of one recording.
        kd_laps: laps of the whole run, over which the probability rises (release: epochs).
        channel: of the recordings, see `audio.channel_fault`.

    Raises:
        ValueError: no utterances, or a file whose header cannot be read.

    >>> import tempfile
    >>> from oskdft.speech.corpora.tables import Utterances
    >>> root = Path(tempfile.mkdtemp())
    >>> audio.write(root / "anna" / "1.wav", np.zeros(8_000))
    >>> data = SpeakerDataset(Utterances.from_rows(root, [("anna/1.wav", "anna", "", 0.5)]), 2.0, seed=0)
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
        channel: int = 0,
    ) -> None:
        if len(utterances) == 0:
            raise ValueError("the training table is empty; check the corpus root and the split")
        self.utterances = utterances.measured()
        self.samples = round(crop_s * SAMPLE_RATE)
        self.seed = seed
        self.whole_second = whole_second
        self.augment = augment
        self.kd_utterances = kd_utterances and kd_utterances.measured()
        self.kd_laps = kd_laps
        self.channel = channel
        self.speeds = tuple(dict.fromkeys(augment.config.speed if augment else ())) or (1.0,)

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, lap_and_index: tuple[int, int]) -> tuple[Tensor, Tensor, int, int]:
        lap, index = lap_and_index
        clean, speed_index = self._crop(self.utterances, lap, index)
        augmented = clean
        if self.augment is not None:
            augmented = self.augment(clean[None], lap, [index])[0]
        if self.kd_utterances is not None:
            clean = self._kd_crop(lap, index)
        label = int(self.utterances.speaker[index]) + speed_index * len(self.utterances.speakers)
        return clean, augmented, label, index

    def counts(self) -> np.ndarray:
        """Utterances of each label, [K x speeds]."""
        return np.tile(self.utterances.counts(), len(self.speeds))

    def _crop(self, table: Utterances, lap: int, index: int) -> tuple[Tensor, int]:
        """Crop [N] at a random speed, and the position of the speed in the list."""
        rng = generator(CROP, self.seed, lap, index)
        speed_index = int(rng.integers(len(self.speeds)))
        speed = self.speeds[speed_index]
        samples = round(self.samples * speed)  # of the recording
        total = round(float(table.seconds[index]) * SAMPLE_RATE)
        start = cutting.crop_start(total, samples, rng, self.whole_second)
        read = audio.read(table.path(index), start, samples, self.channel)
        wave = cutting.wrap(read, samples)
        crop = torch.from_numpy(wave)
        if speed != 1.0:
            with one_thread():
                crop = change_speed(crop[None], speed, self.samples)[0]
        return crop, speed_index

    def _kd_crop(self, lap: int, index: int) -> Tensor:
        """Crop [N] of the second corpus or, with a rising probability, of the first."""
        rng = generator(KD, self.seed, lap, index)
        from_first = rng.random() < (lap + 1) / self.kd_laps
        table = self.utterances if from_first else self.kd_utterances
        return self._crop(table, lap, int(rng.integers(len(table))))[0]


@dataclass(frozen=True, eq=False)
class BatchOrder(Sampler):
    """The (lap, index) pairs of each batch, for one process.

    Args:
        items: utterances of the corpus.
        batch: B, over all processes together.
        steps: batches of the whole run.
        seed: of the run.
        start_step: first batch; more than 0 when a run resumes.
        rank: number of this process, from 0. world: number of processes. The process takes items
            rank, rank + world, ... of each batch.

    Raises:
        ValueError: no items, a batch that is no multiple of ``world``, a step outside the run.

    >>> [len(pairs) for pairs in BatchOrder(items=3, batch=2, steps=2, seed=0)]
    [2, 2]
    >>> sorted(pair for pairs in BatchOrder(3, 2, 3, seed=0) for pair in pairs)
    [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    """

    items: int
    batch: int
    steps: int
    seed: int
    start_step: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.items < 1 or self.steps < 1 or not 0 <= self.start_step <= self.steps:
            raise ValueError(
                f"{self.items} utterances, {self.steps} steps, start {self.start_step}: "
                f"need 1, 1, 0 to {self.steps}"
            )
        if self.batch < 1 or self.batch % self.world:
            raise ValueError(
                f"batch {self.batch} over {self.world} processes; choose a multiple of {self.world}"
            )

    def __len__(self) -> int:
        return self.steps - self.start_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        lap = -1
        for step in range(self.start_step, self.steps):
            first = step * self.batch
            pairs = []
            for position in range(first + self.rank, first + self.batch, self.world):
                if position // self.items != lap:
                    lap = position // self.items
                    order = generator(ORDER, self.seed, lap).permutation(self.items)
                pairs.append((lap, int(order[position % self.items])))
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
    """Batches of (teacher's crops [b, N], student's crops [b, N], labels [b], indices [b]).

    One iteration is the whole run from `start_step` on: workers read ahead across laps.

    Args:
        dataset: the items.
        batch: B, over all processes together; b = B / world.
        steps: batches of the whole run.
        workers: processes that read and augment; 0: the training process does.
        start_step, rank, world: as in `BatchOrder`.
    """
    order = BatchOrder(len(dataset), batch, steps, dataset.seed, start_step, rank, world)
    if workers:
        prepare_data_workers()
    return DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=begin_data_worker,
    )


def validate(utterances: Utterances, augment: Augment | None = None, channel: int = 0) -> None:
    """Read the header of every file that a run will read, before its first step.

    Args:
        utterances: speech to train on.
        augment: its noise and room files are checked too; they may be short.
        channel: of the speech, see `audio.channel_fault`.

    Raises:
        ValueError: files with a fault that the header shows (see `quality`); names some of them.

    >>> from oskdft.speech.corpora.tables import Utterances
    >>> validate(Utterances.from_rows("/no/such", [("anna/1.wav", "anna", "", 0.5)]))
    Traceback (most recent call last):
    ValueError: 1 files cannot be used: /no/such/anna/1.wav does not exist; check the root
    """
    faults = _faults(utterances.root, list(utterances.names()), True, channel)
    if augment is not None:
        for clips in (*augment.clips.values(), augment.rooms):
            faults += _faults(clips.root, clips.names, False)
    if faults:
        raise ValueError(f"{len(faults)} files cannot be used: {some(faults, len(faults))}")


def _faults(root: Path, names: list[str], speech: bool, channel: int = 0) -> list[str]:
    """One line for each file whose header cannot be read or shows a fault."""
    headers = scan(root, lambda: names, len(names))
    samples, rate, channels = headers["samples"], headers["rate"], headers["channels"]
    suspects = (channels != 1) | (channels < channel) | quality.is_short(samples, rate)
    suspects |= (rate < resampling.LOWEST_RATE) | (rate > resampling.HIGHEST_RATE)  # unreadable: -1
    faults = []
    for row in np.flatnonzero(suspects).tolist():
        path = root / names[row]
        if headers["size"][row] < 0:
            faults.append(f"{path} does not exist; check the root")
        elif row in headers.errors:
            faults.append(headers.errors[row])
        else:
            header = audio.AudioInfo(int(samples[row]), int(rate[row]), int(channels[row]))
            if fault := quality.header_fault(header, speech, channel=channel):
                faults.append(f"{path} {fault}")
    return faults
