"""Is a corpus complete and sound? Everything that is wrong is listed, not only the first thing."""

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from oskdft import config
from oskdft.speech import quality
from oskdft.speech.corpora.catalogue import Corpus, known
from oskdft.speech.corpora.headers import THREADS, Headers, scan
from oskdft.speech.corpora.tables import Utterances, read_table
from oskdft.speech.corpora.trials import read_trials
from oskdft.utils.console import progress, some

SHORTEST_S = 0.5  # a shorter recording tells nothing about its speaker
FAULTS = {  # attribute of a report -> what it means and what to do
    "missing": "named in the tables but not there; complete the corpus",
    "unreadable": "cannot be read",
    "other_rate": f"not at {config.SAMPLE_RATE} Hz; they would be resampled at every reading",
    "stereo": "have more than one channel; make them mono",
    "too_short": f"shorter than {SHORTEST_S} s; take them out",
    "damaged": "cut off, silent or not finite; copy or download them again",
    "counts": "more than was published; is another corpus in the folder?",
    "trials": "trial lists do not fit the corpus",
}


@dataclass(slots=True)
class Report:
    """What `check` found; each list holds one text per file, `extra` and `notes` are no faults."""

    corpus: str
    root: str
    speakers: int
    utterances: int
    hours: float = 0.0
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    other_rate: list[str] = field(default_factory=list)
    stereo: list[str] = field(default_factory=list)
    too_short: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    counts: list[str] = field(default_factory=list)
    trials: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong.

        >>> Report("folder", "/data", 1, 1).ok
        True
        """
        return self.utterances > 0 and not any(getattr(self, fault) for fault in FAULTS)

    def lines(self) -> list[str]:
        """The report as text, a few examples of each fault.

        >>> Report("folder", "/data", 2, 4, 0.5, stereo=["a/1.wav: 2 channels"]).lines()[1]
        'stereo: 1 have more than one channel; make them mono (a/1.wav: 2 channels)'
        """
        out = [
            f"{self.corpus} at {self.root}: {self.speakers:,} {_who(known(self.corpus))}, "
            f"{self.utterances:,} utterances, {self.hours:.2f} h"
        ]
        if self.utterances == 0:
            out.append(f"empty: no audio in the expected layout: {known(self.corpus).layout}")
        for fault, meaning in FAULTS.items():
            if found := getattr(self, fault):
                listed = some(found, len(found))
                out.append(f"{fault.replace('_', ' ')}: {len(found):,} {meaning} ({listed})")
        if self.extra:
            listed = some(self.extra, len(self.extra))
            out.append(f"note: {len(self.extra):,} other audio files are not used ({listed})")
        out += [f"note: {note}" for note in self.notes]
        return [*out, "ok" if self.ok else "not ok"]


def check(name: str, root: str | Path = "", full: bool = False) -> Report:
    """Compare a corpus with its tables, the published counts and its trial lists.

    Args:
        name: corpus. root: its folder; empty: see `find_root`.
        full: decode everything (cut off, silent, not finite), not only the headers.
    Raises:
        FileNotFoundError: no such folder. ValueError: unknown corpus, damaged table.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> audio.write(folder / "ann" / "1.wav", np.full(16_000, 0.1))
    >>> check("folder", folder).ok
    True
    """
    utterances, extra = read_table(name, root)
    report = Report(
        name, str(utterances.root), len(utterances.speakers), len(utterances), extra=extra
    )
    headers = scan(utterances.root, utterances.names, len(utterances))
    report.hours = float(np.nansum(headers.seconds(), dtype=np.float64)) / 3600
    _header_faults(report, known(name), utterances, headers)
    if full:
        _decode(report, utterances, headers)
    _counts(report, known(name), utterances)
    _suffixes(report, known(name), utterances)
    _trials(report, utterances.root)
    return report


def _header_faults(report: Report, corpus: Corpus, rows: Utterances, headers: Headers) -> None:
    def listed(mask: np.ndarray, text: str = "", column: str = "rate") -> list[str]:
        found = np.flatnonzero(mask).tolist()
        return [rows.name(row) + text.format(headers[column][row]) for row in found]

    read = headers["samples"] >= 0
    report.missing = listed(headers["size"] < 0)
    report.unreadable = [headers.errors[row] for row in sorted(headers.errors)]
    report.other_rate = listed(read & (headers["rate"] != config.SAMPLE_RATE), ": {} Hz")
    many = listed(read & (headers["channels"] != 1), ": {} channels", "channels")
    if corpus.kind == "rooms" and many:
        report.notes.append(f"{len(many)} files have several channels ({some(many, len(many))})")
    else:
        report.stereo = many
    if corpus.kind == "speech":
        report.too_short = listed(read & (headers.seconds() < SHORTEST_S))


def _decode(report: Report, utterances: Utterances, headers: Headers) -> None:
    rows = np.flatnonzero(headers["samples"] >= 0).tolist()
    names = (utterances.name(row) for row in rows)
    pool = ThreadPoolExecutor(THREADS)
    try:
        groups = iter(lambda: list(itertools.islice(names, 64 * THREADS)), [])
        damage = functools.partial(_damage, utterances.root)
        found = (lines for group in groups for lines in pool.map(damage, group))
        for lines in progress(found, "decoding", len(rows)):
            report.damaged += lines
    finally:
        pool.shutdown(cancel_futures=True)


def _damage(root: Path, name: str) -> list[str]:
    headers_tell = ("channels", "Hz", "too short")
    found = quality.problems(root / name)
    return [f"{name}: {text}" for text in found if not any(word in text for word in headers_tell)]


def _who(corpus: Corpus) -> str:
    return "speakers" if corpus.kind == "speech" else "categories"


def _counts(report: Report, corpus: Corpus, whole: Utterances) -> None:
    lacking, absent = [], []
    for split, published in corpus.expected.items():
        rows = read_table(corpus.name, whole.root, split)[0] if split else whole
        here = {_who(corpus): len(rows.speakers), "utterances": len(rows)}
        pairs = [(what, n, p) for (what, n), p in zip(here.items(), published, strict=True) if p]
        label = split or corpus.name
        report.counts += [f"{label}: {n:,} {what} of {p:,}" for what, n, p in pairs if n > p]
        if len(rows) == 0:
            absent.append(label)
        elif less := [f"{n:,} of {p:,} {what}" for what, n, p in pairs if n < p]:
            lacking.append(f"{label} has {' and '.join(less)}")
    if corpus.expected and len(absent) == len(corpus.expected):
        lacking.append("its published parts are not here under their names")
    elif absent:
        lacking.append(f"no {', no '.join(absent)}")
    if lacking and len(whole):
        report.notes.append(f"part of the corpus: {'; '.join(lacking)}")


def _suffixes(report: Report, corpus: Corpus, utterances: Utterances) -> None:
    found = {name[name.rfind(".") :].lower() for name in utterances.names()}
    others = sorted(found - {corpus.suffix.lower()})
    if corpus.suffix and others:
        report.notes.append(
            f"stored as {', '.join(others)}, published as {corpus.suffix}; say so beside results"
        )


def _trials(report: Report, root: Path) -> None:
    """Every list at the root: what it is, and whether its recordings are there."""
    for path in sorted(root.glob("*.txt")):
        if not _looks_like_trials(path):
            continue
        try:
            trials = read_trials(path, root)
        except (ValueError, FileNotFoundError) as error:
            report.trials.append(str(error))
            continue
        report.notes.append(
            f"{path.name}: {trials.name}, {len(trials):,} trials, all recordings here"
        )


def _looks_like_trials(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        line = file.readline(10_000)
    fields = line.split("\t") if "\t" in line else line.split()
    return len(fields) >= 3 and (fields[0] in "01" or fields[-1].strip() in ("target", "nontarget"))
