"""What a run trains, develops and tests on: speakers, trial lists, augmentation.

`prepare` takes the decisions in order; the functions it calls follow in the same order.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oskdft.config import Config
from oskdft.speech.augment import Augment
from oskdft.speech.corpora.catalogue import CORPORA, find_root
from oskdft.speech.corpora.drawn_trials import make_trials
from oskdft.speech.corpora.people import age_group, speaker_info
from oskdft.speech.corpora.tables import (
    Utterances,
    dev_split,
    few,
    load_corpus,
    training_split,
)
from oskdft.speech.corpora.trials import Trials, read_trials
from oskdft.speech.dataset import SpeakerDataset, validate
from oskdft.speech.quality import lengths
from oskdft.utils.console import some

DEV_SEED = 0  # chooses the development speakers; the same in every run, whatever the run's seed
DEV_TRIALS = 100  # target trials per development speaker, and as many non-target trials
TEST_LISTS = {  # corpus -> trial list, relative to the corpus root
    "speechbox": "trials_test_samegender.txt",
    "speechocean762": "trials_test_samegender.txt",
    "voxceleb1": "veri_test2.txt",
}


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Speech and trials of a run; no speaker is in two of training, development and test."""

    train: Utterances
    dev: Utterances
    dev_trials: Trials
    test_trials: Trials | None  # None: the corpus has no test list
    test_root: Path  # folder of the recordings of test_trials
    augment: Augment | None  # augmentation of the student's crop
    kd: Utterances | None  # second corpus for distillation


def prepare(cfg: Config) -> Task:
    """Find the corpora, set development speakers aside, read the trial lists, check the files.

    Absent corpora are found first, faults in single files last: a corpus may hold a million files.

    Raises:
        FileNotFoundError: a corpus or a list is absent; the message tells how to get it.
        ValueError: files that are not fit for use, see `quality`.
    """
    root = find_root(cfg.data.corpus, cfg.data.root, "data.root")
    is_augmented = cfg.augment.probability or cfg.augment.speed
    augment = Augment(cfg.augment, cfg.seed) if is_augmented else None
    kd = kd_corpus(cfg)

    train, dev = training_and_development(cfg, root)
    dev_trials = development_trials(cfg, dev)
    if cfg.data.labelled_speakers:
        train = labelled(train, cfg.data.labelled_speakers)

    lengths([dev.root / path for path in dev_trials.paths], cfg.eval, cfg.data.channel)
    validate(train, augment, cfg.data.channel)
    test_trials, test_root = read_test_list(cfg, root)
    for heard in filter(None, (train, dev, kd)):
        require_unheard(heard, test_trials, test_root)
    if test_trials and cfg.data.corpus == "kaldi":
        require_other_speakers(root, {*train.speakers, *dev.speakers}, test_trials, test_root)
    return Task(train, dev, dev_trials, test_trials, test_root, augment, kd)


def training_and_development(cfg: Config, root: Path) -> tuple[Utterances, Utterances]:
    """The utterances of training and of development speakers.

    The development speakers of a corpus with Kaldi tables in dev/ are given. Others are drawn from the
    training speakers (data.dev_speakers), the same in every run.
    """
    name = cfg.data.corpus
    train = a_slice(cfg, load_corpus(name, root, training_split(name)))
    if name == "kaldi" and (root / "dev" / "wav.scp").is_file():
        dev = load_corpus(name, root, "dev")
        both = sorted(set(train.speakers) & set(dev.speakers))
        if both:
            raise ValueError(f"{root}: speaker {both[0]} is in train/ and dev/; keep one of them")
        return train, dev
    return dev_split(train, cfg.data.dev_speakers, DEV_SEED)


def development_trials(cfg: Config, dev: Utterances) -> Trials:
    """The trials between development speakers, the same in every run."""
    return make_trials(dev, DEV_SEED, DEV_TRIALS, groups(cfg.data.corpus, dev))


def kd_corpus(cfg: Config) -> Utterances | None:
    """The training speakers of the second corpus, its files checked; None where the run does not use one.

    Where the second corpus is the first, these are the speakers that `training_and_development` gives,
    labelled or not.
    """
    if not uses_kd_corpus(cfg):
        return None
    name = cfg.data.kd_corpus
    root = find_root(name, cfg.data.kd_root, "data.kd_root")
    if name == cfg.data.corpus and root.samefile(find_root(name, cfg.data.root, "data.root")):
        utterances, _ = training_and_development(cfg, root)
    else:
        utterances = load_corpus(name, root, training_split(name))
    validate(utterances, channel=cfg.data.channel)
    return utterances


def uses_kd_corpus(cfg: Config) -> bool:
    """Whether distillation reads the second corpus.

    The released code chooses the second corpus and then ignores it (surprise 10); OS-KDFT2 and
    `switches.kd_data=as_chosen` read it.
    """
    reads = cfg.switches.kd_data == "as_chosen" or cfg.strategy == "os-kdft2"
    return bool(cfg.data.kd_corpus) and reads


def groups(name: str, dev: Utterances) -> dict[str, dict] | None:
    """Gender and age group of each speaker in one word, for `make_trials`.

    None where no two development speakers are of one group: then any two speakers make a trial.
    """
    people = speaker_info(name, dev.root)
    words = {}
    for speaker in dev.speakers:
        person = people.get(speaker, {})
        words[speaker] = {"gender": f"{person.get('gender')} {age_group(person)}"}
    kinds = {entry["gender"] for entry in words.values()}
    return words if len(kinds) < len(words) else None


def labelled(train: Utterances, speakers: int) -> Utterances:
    """The utterances of ``speakers`` training speakers, the same speakers in every run."""
    if speakers > len(train.speakers):
        raise ValueError(
            f"data.labelled_speakers is {speakers}; ask for at most the {len(train.speakers)} that "
            "train"
        )
    chosen = np.random.default_rng(DEV_SEED).choice(len(train.speakers), speakers, replace=False)
    return train.select(np.isin(train.speaker, chosen))


def read_test_list(cfg: Config, root: Path) -> tuple[Trials | None, Path]:
    """Test trials, None where no list is set and the corpus has none; the folder of their recordings.

    VoxCeleb2 is tested on VoxCeleb1, as in the paper, where that lies beside it.
    """
    path, folder = test_list(cfg, root)
    if path is None:
        return None, folder
    trials = read_trials(path, folder)
    if cfg.data.slice_speakers or cfg.data.slice_utterances:
        used = set(a_slice(cfg, load_corpus(cfg.data.corpus, root, "test")).names())
        inside = np.array([name in used for name in trials.paths])
        trials = trials.select(inside[trials.enrol] & inside[trials.test])
    return trials, folder


def require_unheard(heard: Utterances, trials: Trials | None, folder: Path) -> None:
    """Refuse a test list with recordings that the run trains on or chooses its checkpoint by.

    Raises:
        ValueError: names one of the recordings.
    """
    common = _tested(heard, trials, folder) if trials else []
    if common:
        names = [heard.name(i) for i in common]
        raise ValueError(
            f"{len(names)} recordings of the test list are heard in training or development: "
            f"{some(names, len(names))}; set data.trials to a list of other speakers"
        )


def require_other_speakers(root: Path, heard: set[str], trials: Trials, folder: Path) -> None:
    """Refuse a test list with speakers whom the run hears, as far as the tables in test/ name them.

    Every other corpus has speakers of its own in each part, or trains on all recordings of a speaker.

    Raises:
        ValueError: names one of the speakers.
    """
    if not (root / "test" / "wav.scp").is_file():
        return
    test = load_corpus("kaldi", root, "test")
    speakers = {test.speakers[test.speaker[i]] for i in _tested(test, trials, folder)}
    common = sorted(speakers & heard)
    if common:
        raise ValueError(
            "the test list has speakers who are heard in training or development: "
            f"{some(common, len(common))}; set data.trials to a list of other speakers"
        )


def _tested(utterances: Utterances, trials: Trials, folder: Path) -> list[int]:
    """The utterances whose recordings the trials name, in whatever words their folder is given."""
    tested = {os.path.abspath(folder / name) for name in trials.recordings()}
    root = os.path.abspath(utterances.root)
    return [i for i, name in enumerate(utterances.names()) if os.path.join(root, name) in tested]


def require_test_list(cfg: Config, root: Path) -> None:
    """Refuse a run that needs a test list where there is none.

    Raises:
        FileNotFoundError: names the list and the setting.
    """
    path, folder = test_list(cfg, root)
    if path is None or not path.is_file():
        name = cfg.data.trials or TEST_LISTS.get(cfg.data.corpus, TEST_LISTS["voxceleb1"])
        raise FileNotFoundError(
            f"switches.checkpoint=oracle needs test trials, and {folder} has no {name}; set data.trials, or "
            "choose switches.checkpoint=dev"
        )


def test_list(cfg: Config, root: Path) -> tuple[Path | None, Path]:
    """The file of the test trials, None where there is none, and the folder of their recordings."""
    name = cfg.data.trials or TEST_LISTS.get(cfg.data.corpus, "")
    if cfg.data.corpus == "voxceleb2" and not cfg.data.trials and not cfg.data.trials_root:
        name = TEST_LISTS["voxceleb1"]
        root = _beside(root)
    folder = Path(cfg.data.trials_root or root)
    path = Path(name) if Path(name).is_file() else folder / name
    if not cfg.data.trials and not (name and path.is_file()):
        return None, folder
    return path, folder


def _beside(voxceleb2: Path) -> Path:
    """VoxCeleb1: beside VoxCeleb2, else where corpora are searched; VoxCeleb2 where there is none."""
    for folder in ("voxceleb1", *CORPORA["voxceleb1"].folders):
        if (voxceleb2.parent / folder).is_dir():
            return voxceleb2.parent / folder
    try:
        return find_root("voxceleb1")
    except FileNotFoundError:
        return voxceleb2


def a_slice(cfg: Config, utterances: Utterances) -> Utterances:
    """The first data.slice_speakers speakers, of each the first data.slice_utterances; 0: all."""
    speakers, each = cfg.data.slice_speakers, cfg.data.slice_utterances
    if not (speakers or each):
        return utterances
    return few(utterances, speakers or len(utterances.speakers), each or len(utterances))


def dataset(cfg: Config, task: Task, laps: int) -> SpeakerDataset:
    """Training crops of ``task``, which `prepare` made of the same settings; ``laps`` of the run."""
    return SpeakerDataset(
        task.train,
        cfg.data.crop_s,
        cfg.seed,
        whole_second=cfg.switches.crop_start == "whole_second",  # surprise 7
        augment=task.augment,
        kd_utterances=task.kd,
        kd_laps=max(laps, 1),
        channel=cfg.data.channel,
    )
