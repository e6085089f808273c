"""A corpus of synthetic voices, made on the spot: any number of speakers, cached as FLAC.

A teaching corpus, hard enough to be worth verifying and small enough for a laptop; nothing measured
on it says anything about speech. Every utterance depends on (seed, speaker, utterance) alone: an
interrupted corpus is continued, and the number of workers changes no byte.
"""

import csv
import functools
import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from oskdft import __version__, config
from oskdft.speech import audio
from oskdft.speech.corpora.catalogue import UTTERANCES_CSV
from oskdft.speech.synthetic import espeak, voices
from oskdft.speech.synthetic.sentences import LANGUAGES, count
from oskdft.utils import console, files

RECIPE = 1  # raise it when the same seed would give other samples
MOST_TRIALS = 4_000
UTTERANCE_BYTES = 3 * 2 * config.SAMPLE_RATE  # of about 3 s; FLAC takes less
COLUMNS = ("path", "speaker", "session", "gender", "language", "split", "seconds", "text")
DONE, BEGUN = "corpus.json", ".corpus.begun.json"  # the last and the first file to be written
_TRIALS = 3  # random stream, after those of voices.py
_ALONE = 100  # so few utterances are made sooner than workers start


def make_corpus(
    out: str | Path,
    speakers: int = 60,
    utterances: int = 20,
    seed: int = 0,
    workers: int | None = None,
) -> dict[str, Any]:
    """Make the corpus below ``out``, or what is missing of it.

    Written are ``<speaker>/<session>/<utterance>.flac``, ``utterances.csv`` (`COLUMNS`),
    ``trials.txt`` (lines ``label path path``, test speakers only, targets across sessions) and
    at last ``corpus.json``, which is also what is returned, with ``made``: the number of
    utterances made by this call. A complete corpus of the same recipe is left as it is.

    Args:
        out: the folder; new, empty, or holding the same corpus.
        speakers: at least 4; the last third, at least 2, are the test speakers.
        utterances: per speaker, 2 to 1,009, about 3 s each, in 4 sessions in turn.
        seed: everything is drawn from it.
        workers: processes; None takes one per core, 1 none beside this one. More than 1 needs
            ``if __name__ == "__main__":`` around the call in a script.

    Raises:
        ValueError: impossible sizes, or ``out`` holds something else.
        OSError: eSpeak NG is missing, the folder is read-only or the disk is full.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> make_corpus(folder, speakers=4, utterances=2)["trials"]
    4
    >>> sorted(path.name for path in folder.iterdir())[:2]
    ['corpus.json', 'spk0000']
    """
    out = Path(out)
    recipe = {"recipe": RECIPE, "seed": seed, "speakers": speakers, "utterances": utterances}
    _check(recipe, workers)
    _claim(out, recipe)
    everything = list(itertools.product(range(speakers), range(utterances)))
    missing = [item for item in everything if not _is_there(out / relative_path(*item))]
    tables = (out / name for name in (DONE, UTTERANCES_CSV, "trials.txt"))
    if not missing and all(path.is_file() for path in tables):
        return files.read_json(out / DONE) | {"made": 0}
    if missing:
        fix = "free some space, or choose another folder"
        files.check_room(out, len(missing) * UTTERANCE_BYTES, "the voices need", fix)
        _make(out, seed, missing, workers)
    seconds = _write_table(out, seed, speakers, everything)
    pairs = trials(speakers, utterances, seed)
    with files.atomic(out / "trials.txt") as file:
        file.writelines(f"{label} {a} {b}\n" for label, a, b in pairs)
    summary = recipe | {
        "version": __version__,
        "sessions": min(voices.SESSIONS, utterances),
        "languages": list(LANGUAGES),
        "test_speakers": _test_count(speakers),
        "seconds": round(seconds, 1),
        "trials": len(pairs),
        "targets": sum(label for label, _, _ in pairs),
    }
    files.write_json(out / DONE, summary)
    (out / BEGUN).unlink(missing_ok=True)
    return summary | {"made": len(missing)}


def relative_path(speaker: int, utterance: int) -> str:
    """Where an utterance lies below the corpus's folder.

    >>> relative_path(3, 5)
    'spk0003/ses1/0005.flac'
    """
    session = utterance % voices.SESSIONS
    return f"{voices.speaker_name(speaker)}/ses{session}/{utterance:04d}.flac"


def trials(speakers: int, utterances: int, seed: int = 0) -> list[tuple[int, str, str]]:
    """Draw the trial list: as many non-targets as targets, at most 4,000, none twice.

    Targets pair two sessions of a test speaker. Non-targets pair test speakers of one gender and
    language; where these give too few, of one gender; and where these do, any two.

    Returns:
        (label, path, path) each, label 1 for the same speaker.

    >>> sorted(trials(4, 2))[-1]
    (1, 'spk0003/ses0/0000.flac', 'spk0003/ses1/0001.flac')
    """
    rng = np.random.default_rng([seed, _TRIALS])
    test = range(speakers - _test_count(speakers), speakers)
    crossing = [
        pair
        for pair in itertools.combinations(range(utterances), 2)
        if pair[0] % voices.SESSIONS != pair[1] % voices.SESSIONS
    ]
    wanted = min(MOST_TRIALS // 2, len(test) * len(crossing))
    drawn = rng.choice(len(test) * len(crossing), wanted, replace=False)
    pairs = []
    for place in drawn.tolist():
        speaker, pair = divmod(place, len(crossing))
        a, b = (relative_path(test[speaker], utterance) for utterance in crossing[pair])
        pairs.append((1, a, b))
    pairs += _nontargets(test, utterances, wanted, rng)
    return [pairs[place] for place in rng.permutation(len(pairs)).tolist()]


def _nontargets(
    test: range, utterances: int, wanted: int, rng: np.random.Generator
) -> list[tuple[int, str, str]]:
    tiers: list[list[tuple[int, int]]] = [[], [], []]
    for a, b in itertools.combinations(test, 2):
        same_gender = voices.gender(a) == voices.gender(b)
        same_language = voices.language(a) == voices.language(b)
        tiers[0 if same_gender and same_language else 1 if same_gender else 2].append((a, b))
    found: list[tuple[int, str, str]] = []
    for tier in tiers:
        total = len(tier) * utterances**2
        for place in rng.choice(total, min(wanted - len(found), total), replace=False).tolist():
            pair, rest = divmod(place, utterances**2)
            a, b = zip(tier[pair], divmod(rest, utterances), strict=True)
            found.append((0, relative_path(*a), relative_path(*b)))
    return found


def _test_count(speakers: int) -> int:
    """The last third, rounded down to as many male as female speakers, at least one of each."""
    return max(speakers // 3 // 2 * 2, 2)


def _check(recipe: dict[str, int], workers: int | None) -> None:
    seed, speakers, utterances = recipe["seed"], recipe["speakers"], recipe["utterances"]
    # a male and a female speaker per language and ten speakers: as many as sentences allow
    most = min(map(count, LANGUAGES)) // voices.MOST_UTTERANCES // 2 * 2 * len(LANGUAGES)
    if not 4 <= speakers <= most:
        raise ValueError(f"speakers is {speakers}; give 4 (2 to train, 2 to test) to {most}")
    if not 2 <= utterances <= voices.MOST_UTTERANCES:
        raise ValueError(f"utterances is {utterances}; give 2 to {voices.MOST_UTTERANCES}")
    if seed < 0 or (workers is not None and workers < 1):
        raise ValueError(f"seed is {seed}, workers {workers}; give a seed from 0, workers from 1")


def _claim(out: Path, recipe: dict[str, int]) -> None:
    """Make sure that the folder is new, empty, or belongs to this recipe."""
    for name in (DONE, BEGUN):
        if (out / name).is_file():
            found = files.read_json(out / name)
            other = ", ".join(
                f"{key} {found.get(key)} instead of {value}"
                for key, value in recipe.items()
                if found.get(key) != value
            )
            if other:
                raise ValueError(f"{out} holds another corpus ({other}); choose another folder")
            return
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no synthetic corpus; choose another folder")
    files.write_json(out / BEGUN, recipe)


def _is_there(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _make(out: Path, seed: int, missing: list[tuple[int, int]], workers: int | None) -> None:
    """Make the missing utterances, a speaker at a time, in this process or in several."""
    jobs = [
        (speaker, [utterance for _, utterance in group])
        for speaker, group in itertools.groupby(missing, key=lambda item: item[0])
    ]
    if workers is None:
        workers = _cores() if len(missing) > _ALONE else 1
    with espeak.home(
        {voices.speaker_name(speaker): voices.voice_file(seed, speaker) for speaker, _ in jobs},
        LANGUAGES,
    ) as data:
        work = functools.partial(_make_speaker, data, out, seed)
        done = map(work, jobs) if workers == 1 else _in_processes(work, jobs, workers)
        for _ in console.progress(done, "synthetic speakers", len(jobs)):
            pass


def _cores() -> int:
    usable = getattr(os, "sched_getaffinity", None)  # Linux: what this process may use
    return len(usable(0)) if usable else os.cpu_count() or 1


def _make_speaker(data: Path, out: Path, seed: int, job: tuple[int, list[int]]) -> None:
    speaker, utterances = job
    for utterance in utterances:
        wave = voices.speak(data, seed, speaker, utterance)
        audio.write(out / relative_path(speaker, utterance), wave)


def _in_processes(work: Callable, jobs: list, workers: int) -> Iterator[None]:
    """Yield as jobs finish; the first error ends all of them."""
    # spawn: a forked copy of a process with running threads may hang
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context)
    try:
        for future in as_completed([pool.submit(work, job) for job in jobs]):
            yield future.result()
    except BrokenProcessPool:
        raise OSError(
            'a worker process ended early; a script needs `if __name__ == "__main__":` around '
            "the call, or pass workers=1; what was made is kept"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _write_table(out: Path, seed: int, speakers: int, everything: list[tuple[int, int]]) -> float:
    """Write utterances.csv; returns the corpus's length in seconds."""
    first_test, total = speakers - _test_count(speakers), 0.0
    with files.atomic(out / UTTERANCES_CSV) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for speaker, utterance in everything:
            path = relative_path(speaker, utterance)
            seconds = audio.info(out / path).samples / config.SAMPLE_RATE
            total += seconds
            table.writerow(
                (
                    path,
                    voices.speaker_name(speaker),
                    path.split("/")[1],
                    voices.gender(speaker),
                    voices.language(speaker),
                    "test" if speaker >= first_test else "train",
                    f"{seconds:.5f}",
                    voices.text_of(seed, speaker, utterance),
                )
            )
    return total
