"""dataset: the same batches for any number of workers and processes, and after a resume."""

import itertools
import pickle

import numpy as np
import pytest
import torch

from oskdft import config
from oskdft.config import AugmentConfig
from oskdft.evaluation.embedding import batches_by_length
from oskdft.speech import audio, dataset
from oskdft.speech.augment import Augment
from oskdft.speech.corpora import tables
from oskdft.speech.dataset import BatchOrder, SpeakerDataset, loader

RATE = config.SAMPLE_RATE
LENGTHS_S = (0.5, 0.6, 1.5, 2.0, 2.7)  # the first two are shorter than a crop
LOUD = AugmentConfig(probability=0.8, white_snr_db=(10.0, 30.0), clipping=0.5, easing=0.5)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """Scans are remembered in a folder of the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """3 speakers x 5 FLAC files; every sample of a file is different from its neighbours."""
    root = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for speaker in range(3):
        for number, seconds in enumerate(LENGTHS_S):
            wave = rng.uniform(-0.5, 0.5, int(seconds * RATE))
            audio.write(root / f"s{speaker}" / f"{number}.flac", wave)
    return folder_table(root)


def folder_table(root) -> tables.Utterances:
    """SPEAKER/FILE.flac below a folder."""
    names = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*.flac"))
    return tables.Utterances.from_rows(
        root, [(name, name.split("/")[0], "", float("nan")) for name in names]
    )


def items(table, **options) -> SpeakerDataset:
    return SpeakerDataset(table, 1.0, seed=5, augment=Augment(LOUD, seed=5), **options)


def run(table, **options) -> list[list[torch.Tensor]]:
    return list(loader(items(table), batch=4, steps=6, **options))


@pytest.fixture(scope="module")
def reference(table):
    return run(table)


def same(a, b) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y)
        for one, two in zip(a, b, strict=True)
        for x, y in zip(one, two, strict=True)
    )


def test_items_are_a_clean_and_an_augmented_crop(table, reference):
    clean, changed, labels, indices = reference[0]
    assert (
        clean.shape == changed.shape == (4, RATE) and clean.dtype == changed.dtype == torch.float32
    )
    assert labels.tolist() == [int(table.speaker[i]) for i in indices]
    assert not torch.equal(clean, changed)
    plain = SpeakerDataset(table, 1.0, seed=5)[0, int(indices[0])]
    assert torch.equal(plain[0], clean[0]), "augmentation leaves the clean crop as it was"
    assert torch.equal(plain[0], plain[1])


def test_a_crop_is_a_piece_of_its_file_and_short_ones_repeat(table):
    data = SpeakerDataset(table, 1.0, seed=1)
    for index in range(len(table)):
        whole, crop = audio.read(table.path(index)), data[3, index][0].numpy()
        if len(whole) < RATE:
            assert np.array_equal(crop, np.resize(whole, RATE))
        else:
            start = np.flatnonzero(whole == crop[0])
            assert any(np.array_equal(whole[s : s + RATE], crop) for s in start)


def test_published_crops_start_on_whole_seconds(table):
    data = SpeakerDataset(table, 1.0, seed=1, whole_second=True)
    longest = int(np.argmax(data.utterances.seconds))
    whole = audio.read(table.path(longest))  # 2.7 s: crops at 0 s and 1 s
    starts = {int(np.flatnonzero(whole == data[lap, longest][0][0].item())[0]) for lap in range(20)}
    assert starts == {0, RATE}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(table, reference, workers):
    assert same(run(table, workers=workers), reference)


def test_spawned_workers_get_the_same_dataset(table):
    data = items(table)
    copy = pickle.loads(pickle.dumps(data))
    assert all(same([data[2, i][:2]], [copy[2, i][:2]]) for i in range(len(data)))


def test_two_processes_share_the_batch_of_one(table, reference):
    halves = [run(table, rank=rank, world=2) for rank in (0, 1)]
    for step, whole in enumerate(reference):
        for part in range(4):
            joined = torch.stack([half[step][part] for half in halves], dim=1).flatten(0, 1)
            assert torch.equal(joined, whole[part])


def test_a_resumed_run_goes_on_as_if_uninterrupted(table, reference):
    for step in (1, 4, 6):
        assert same(run(table, start_step=step), reference[step:])


def test_another_seed_or_lap_gives_another_order_and_other_crops(table):
    orders = [[i for _, i in next(iter(BatchOrder(15, 15, 2, seed=s)))] for s in (0, 1)]
    laps = [[index for _, index in pairs] for pairs in BatchOrder(15, 15, 2, seed=0)]
    assert sorted(laps[0]) == sorted(laps[1]) == list(range(15))
    assert orders[0] == laps[0] != laps[1] and orders[0] != orders[1]
    data = items(table)
    longest = int(np.argmax(data.utterances.seconds))
    assert not torch.equal(data[0, longest][0], data[1, longest][0])
    assert same([data[0, longest][:2]], [data[0, longest][:2]])


def test_every_lap_holds_every_utterance_once_wherever_batches_end():
    pairs = [pair for batch in BatchOrder(items=7, batch=4, steps=7, seed=3) for pair in batch]
    assert sorted(pairs) == [(lap, index) for lap in range(4) for index in range(7)]
    assert len(BatchOrder(7, 4, 7, seed=3, start_step=5)) == 2


@pytest.mark.parametrize(
    "options,reason",
    [
        ({"batch": 5, "world": 2}, "batch 5 over 2 processes; choose a multiple of 2"),
        ({"start_step": 9}, "start 9"),
        ({"items": 0}, "0 utterances"),
    ],
)
def test_impossible_runs_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        BatchOrder(**{"items": 7, "batch": 4, "steps": 3, "seed": 0} | options)


def test_speed_changes_both_crops_alike(table):
    fast = Augment(AugmentConfig(probability=0.0, speed=(1.25,)), seed=5)
    clean, changed, *_ = SpeakerDataset(table, 1.0, seed=5, augment=fast)[0, 4]
    assert clean.shape == (RATE,) and torch.equal(clean, changed)
    assert not torch.equal(clean, SpeakerDataset(table, 1.0, seed=5)[0, 4][0])


def test_another_speed_is_another_speaker(table):
    heard = Augment(AugmentConfig(probability=0.0, speed=(0.9, 1.0, 1.1)), seed=5)
    data = SpeakerDataset(table, 1.0, seed=5, augment=heard)
    assert data.counts().tolist() == 3 * table.counts().tolist()
    found = np.zeros(9, int)
    for place in itertools.product(range(12), range(len(table))):
        clean, _, label, index = data[place]
        found[label] += 1
        assert label % 3 == table.speaker[index]
        whole = torch.from_numpy(audio.read(table.path(index)))
        assert bool(torch.isin(clean[:99], whole).all()) == (3 <= label < 6), "1.0 is as recorded"
    assert (found > 10).all() and len(data) == len(table), "a lap holds each recording once"


def test_second_corpus_for_distillation_gives_way_to_the_first(table, tmp_path):
    audio.write(tmp_path / "other" / "tone.flac", np.full(2 * RATE, 0.25))
    other = folder_table(tmp_path)
    data = SpeakerDataset(table, 1.0, seed=5, kd_utterances=other, kd_laps=10)
    from_other = [[bool((data[lap, i][0] == 0.25).all()) for i in range(15)] for lap in (0, 4, 9)]
    assert np.mean(from_other[0]) > np.mean(from_other[1]) > np.mean(from_other[2]) == 0
    alone = SpeakerDataset(table, 1.0, seed=5)[0, 3]
    assert same([data[0, 3][1:2]], [alone[1:2]]), "the verification crop stays what it was"


def test_batches_by_length_keep_the_budget():
    seconds = np.random.default_rng(0).uniform(0.5, 20, 500)
    groups = batches_by_length(seconds, 60.0)
    assert sorted(np.concatenate(groups)) == list(range(500))
    assert all(len(g) * seconds[g].max() <= 60 for g in groups)
    waste = sum(len(g) * seconds[g].max() for g in groups) / seconds.sum()
    assert waste < 1.1, "similar lengths share a batch"
    assert [len(g) for g in batches_by_length(np.array([90.0, 1.0]), 60.0)] == [1, 1]
    with pytest.raises(ValueError, match="budget_s is 0"):
        batches_by_length(seconds, 0)


def test_validate_names_every_bad_file_before_training(table, tmp_path):
    dataset.validate(table, Augment(LOUD, seed=0))
    for number in range(4):
        audio.write(tmp_path / "s" / f"{number}.flac", np.ones(RATE) / 4)
    bad = folder_table(tmp_path)
    (tmp_path / "s" / "0.flac").unlink()
    (tmp_path / "s" / "1.flac").write_bytes(b"no audio")
    audio.write(tmp_path / "s" / "2.flac", np.ones(RATE // 2 - 1) / 4)
    with pytest.raises(ValueError, match="^3 files cannot be used") as caught:
        dataset.validate(bad)
    message = str(caught.value)
    assert "\n" not in message and all(f"{number}.flac" in message for number in (0, 1, 2))
    assert "3.flac" not in message


def test_a_file_that_breaks_during_training_is_named(tmp_path):
    audio.write(tmp_path / "s" / "gone.flac", np.ones(RATE) / 4)
    table = folder_table(tmp_path)
    data = SpeakerDataset(table, 1.0, seed=0)
    (tmp_path / "s" / "gone.flac").unlink()
    with pytest.raises(FileNotFoundError, match="gone.flac"):
        data[0, 0]
