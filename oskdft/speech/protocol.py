"""What a run works on: training and development speakers, trial lists, the first teacher."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oskdft.config import Config
from oskdft.speech.augment import Augment
from oskdft.speech.corpora.catalogue import CORPORA, find_root
from oskdft.speech.corpora.layouts import speaker_info
from oskdft.speech.corpora.tables import Utterances, dev_split, load_corpus
from oskdft.speech.corpora.trials import Trials, make_trials, read_trials
from oskdft.speech.dataset import SpeakerDataset, validate
from oskdft.speech.quality import lengths
from oskdft.speech.synthetic import corpus
from oskdft.utils.console import say

DEV_SEED = 0  # the development speakers are the same in every run, whatever its seed
ADULT = 16  # [years]; trials pair speakers of the same gender and age group
TEST_LISTS = {  # by corpus, relative to its root
    "synthetic": "trials.txt",
    "speechocean762": "trials_test_samegender.txt",
    "voxceleb1": "veri_test2.txt",
}


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Speech and trials of a run; `dev` speakers are nobody in `train`, test speakers in neither."""

    train: Utterances
    dev: Utterances
    dev_trials: Trials
    test_trials: Trials | None
    test_path: Path | None  # the list that test_trials were read from
    test_root: Path
    augment: Augment | None  # what the student's crop gets
    kd: Utterances | None  # second corpus for distillation


def prepare(cfg: Config) -> Task:
    """Find all that is heard, set development speakers aside, read the lists.

    Raises:
        FileNotFoundError: corpus or list missing; says what to get and where to put it.
        ValueError: files that cannot be used, found before anything is trained.
    """
    root = corpus_root(cfg)
    # what can be missing comes before a million files are looked at
    heard = cfg.augment.probability or cfg.augment.speed
    augment = Augment(cfg.augment, cfg.seed) if heard else None
    second = kd_corpus(cfg)
    everyone = load_corpus(cfg.data.corpus, root, training_split(cfg.data.corpus))
    train, dev = dev_split(everyone, cfg.data.dev_speakers, DEV_SEED)
    dev_trials = make_trials(
        dev, DEV_SEED, per_speaker=100, same_gender=groups(cfg.data.corpus, dev)
    )
    lengths([dev.root / path for path in dev_trials.paths], cfg.eval)  # as validation embeds them
    if cfg.data.labelled_speakers:
        train = labelled(train, cfg.data.labelled_speakers)
    validate(train, augment)
    return Task(train, dev, dev_trials, *test_list(cfg, root), augment, second)


def corpus_root(cfg: Config) -> Path:
    """Folder of the training corpus; synthetic voices are made when they are not there."""
    try:
        return find_root(cfg.data.corpus, cfg.data.root, "data.root")
    except FileNotFoundError:
        if cfg.data.corpus != "synthetic":
            raise
    size = (cfg.data.speakers, cfg.data.utterances)
    out = Path(cfg.data.root or f"data/synthetic-{size[0]}x{size[1]}")
    if not (out / "corpus.json").is_file():
        say(f"making {size[0]} synthetic voices with {size[1]} utterances each in {out}")
    corpus.make_corpus(out, *size)
    return out


def training_split(corpus: str) -> str | None:
    """The split that holds training speakers; None where the corpus has no test speakers inside."""
    if corpus == "synthetic":
        return "train"
    known = CORPORA[corpus].expected if corpus in CORPORA else {}
    return next((split for split in ("train", "dev") if split in known), None)


def groups(corpus: str, dev: Utterances) -> dict[str, dict] | None:
    """Gender and age group of each speaker in one word, so that trials pair like with like.

    None when no two development speakers are alike: then everybody meets everybody.
    """
    known = speaker_info(corpus, dev.root)
    words = {}
    for speaker in dev.speakers:
        entry = known.get(speaker, {})
        age = {True: " adult", False: " child"}[entry["age"] >= ADULT] if "age" in entry else ""
        words[speaker] = {"gender": f"{entry.get('gender')}{age}"}
    kinds = [entry["gender"] for entry in words.values()]
    return words if len(set(kinds)) < len(kinds) else None


def labelled(train: Utterances, speakers: int) -> Utterances:
    """The utterances of so many training speakers, the same ones in every run."""
    if speakers > len(train.speakers):
        raise ValueError(
            f"data.labelled_speakers is {speakers}, {len(train.speakers)} train; ask for fewer"
        )
    chosen = np.random.default_rng(DEV_SEED).choice(len(train.speakers), speakers, replace=False)
    return train.select(np.isin(train.speaker, chosen))


def test_list(cfg: Config, root: Path) -> tuple[Trials | None, Path | None, Path]:
    """Test trials, their file, the folder of their recordings; None, None when the corpus has no list."""
    folder = Path(cfg.data.trials_root or root)
    name = cfg.data.trials or TEST_LISTS.get(cfg.data.corpus, "")
    path = Path(name) if Path(name).is_file() else folder / name
    if not cfg.data.trials and not (name and path.is_file()):
        return None, None, folder
    return read_trials(path, folder), path, folder


def dataset(cfg: Config, task: Task, laps: int) -> SpeakerDataset:
    """Training crops of ``task``, which was prepared for ``cfg``."""
    whole_second = cfg.switches.crop_start == "whole_second"  # surprise 7
    heard = task.augment, task.kd
    return SpeakerDataset(task.train, cfg.data.crop_s, cfg.seed, whole_second, *heard, max(laps, 1))


def kd_corpus(cfg: Config) -> Utterances | None:
    """The second corpus, if the run hears it."""
    if not hears_two_corpora(cfg):
        return None
    root = find_root(cfg.data.kd_corpus, cfg.data.kd_root, "data.kd_root")
    found = load_corpus(cfg.data.kd_corpus, root)
    validate(found)
    return found


def hears_two_corpora(cfg: Config) -> bool:
    """Whether distillation reads the second corpus.

    As released it is chosen and then ignored (surprise 10); OS-KDFT2 reads it.
    """
    heard = cfg.switches.kd_data == "as_chosen" or cfg.strategy == "os-kdft2"
    return bool(cfg.data.kd_corpus) and heard
