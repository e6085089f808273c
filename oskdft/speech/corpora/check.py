"""Compare a corpus with its tables, the published counts and its trial lists; list every fault."""

import os
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from oskdft.config import SAMPLE_RATE
from oskdft.speech import audio, quality, resampling
from oskdft.speech.corpora.catalogue import Corpus, known
from oskdft.speech.corpora.headers import Headers, scan
from oskdft.speech.corpora.tables import Utterances, list_utterances
from oskdft.speech.corpora.trials import is_trial, read_trials
from oskdft.speech.noise import rooms_among
from oskdft.utils import lines
from oskdft.utils.ahead import in_threads
from oskdft.utils.console import progress, some


def fault(meaning: str) -> list[str]:
    """A field of `Report`: one text per file that training and embedding refuse; meaning and fix."""
    return field(default_factory=list, metadata={"fault": meaning})


def doubt(meaning: str) -> list[str]:
    """A field of `Report`: one text per file that is used all the same, see `quality`."""
    return field(default_factory=list, metadata={"doubt": meaning})


@dataclass(slots=True)
class Report:
    """Findings of `check`; `notes` are no faults."""

    corpus: str
    root: str
    speakers: int
    utterances: int
    hours: float = 0.0
    decoded: bool = False  # every file, or headers only
    missing: list[str] = fault("named in the tables, absent on disk; complete the corpus")
    unreadable: list[str] = fault("cannot be read; copy or download them again")
    stereo: list[str] = fault("have more than one channel; make them mono")
    wrong_rate: list[str] = fault(
        f"not at {resampling.LOWEST_RATE} to {resampling.HIGHEST_RATE} Hz; resample them"
    )
    too_short: list[str] = fault(f"shorter than {quality.SHORTEST_S} s; take them out")
    longest: list[str] = fault(
        f"longer than {quality.LONGEST_S:.0f} s, which nothing but training reads; cut them"
    )
    damaged: list[str] = fault("cut off or not finite; copy or download them again")
    counts: list[str] = fault("more than was published; is another corpus in the folder?")
    trials: list[str] = fault("trial lists do not fit the corpus")
    other_rate: list[str] = doubt(f"not at {SAMPLE_RATE} Hz; resampled at every reading")
    too_long: list[str] = doubt(f"longer than {quality.LONGEST_WHOLE_S:.0f} s; embedded in windows")
    silent: list[str] = doubt("silent (peak below -60 dB of full scale)")
    unused_stereo: list[str] = doubt(
        "have more than one channel and are no rooms of the augmentation"
    )
    extra: list[str] = doubt("other audio files are not used")
    notes: list[str] = field(default_factory=list)

    def findings(self, kind: str) -> dict[str, tuple[list[str], str]]:
        """Texts and meaning of each attribute of a kind ("fault" or "doubt") that has texts."""
        of_kind = [f for f in fields(self) if kind in f.metadata and getattr(self, f.name)]
        return {f.name: (getattr(self, f.name), f.metadata[kind]) for f in of_kind}

    @property
    def ok(self) -> bool:
        """Whether the corpus holds utterances and no fault.

        >>> Report("folder", "/data", 1, 1).ok
        True
        """
        return self.utterances > 0 and not self.findings("fault")

    def lines(self) -> list[str]:
        """The report as text, with a few examples of each finding.

        >>> Report("folder", "/data", 2, 4, 0.5, stereo=["a/1.wav: 2 channels"]).lines()[1]
        'stereo: 1 have more than one channel; make them mono (a/1.wav: 2 channels)'
        """
        out = [
            f"{self.corpus} at {self.root}: {self.speakers:,} {_who(known(self.corpus))}, "
            f"{self.utterances:,} utterances, {self.hours:.2f} h"
        ]
        if self.utterances == 0:
            out.append(f"empty: no audio in the expected layout: {known(self.corpus).layout}")
        for name, (texts, meaning) in self.findings("fault").items():
            examples = some(texts, len(texts))
            out.append(f"{name.replace('_', ' ')}: {len(texts):,} {meaning} ({examples})")
        for texts, meaning in self.findings("doubt").values():
            out.append(f"note: {len(texts):,} {meaning} ({some(texts, len(texts))})")
        out += [f"note: {note}" for note in self.notes]
        if not self.decoded:
            out.append("note: headers only; --full decodes every file")
        return [*out, "ok" if self.ok else "not ok"]


def check(name: str, root: str | Path = "", full: bool = False) -> Report:
    """Compare a corpus with its tables, the published counts and its trial lists.

    Args:
        name: corpus. root: its folder; empty: see `find_root`.
        full: decode every file (cut off, not finite, silent) instead of the headers alone.
    Returns:
        Every fault and doubt, not the first alone.
    Raises:
        FileNotFoundError: no such folder. ValueError: unknown corpus, damaged table.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> audio.write(folder / "ann" / "1.wav", np.full(16_000, 0.1))
    >>> check("folder", folder).ok
    True
    """
    utterances, extra = list_utterances(name, root)
    report = Report(
        name,
        str(utterances.root),
        len(utterances.speakers),
        len(utterances),
        decoded=full,
        extra=extra,
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
    def names(mask: np.ndarray) -> list[str]:
        return [rows.name(row) for row in np.flatnonzero(mask)]

    def with_value(mask: np.ndarray, column: str, unit: str) -> list[str]:
        return [f"{rows.name(row)}: {headers[column][row]} {unit}" for row in np.flatnonzero(mask)]

    read = headers["samples"] >= 0
    report.missing = names(headers["size"] < 0)
    report.unreadable = [headers.errors[row] for row in sorted(headers.errors)]
    wrong = read & (headers["rate"] < resampling.LOWEST_RATE) | (
        headers["rate"] > resampling.HIGHEST_RATE
    )
    report.wrong_rate = with_value(wrong, "rate", "Hz")
    report.other_rate = with_value(read & ~wrong & (headers["rate"] != SAMPLE_RATE), "rate", "Hz")
    stereo = read & (headers["channels"] != 1)
    if corpus.kind == "rooms" and stereo.any():  # the augmentation does not read every folder
        every_name = list(rows.names())
        used = np.isin(every_name, rooms_among(every_name))
        report.unused_stereo = with_value(stereo & ~used, "channels", "channels")
        stereo &= used
    report.stereo = with_value(stereo, "channels", "channels")
    if corpus.kind == "speech":
        samples, rate = headers["samples"], headers["rate"]
        report.too_short = names(read & quality.is_short(samples, rate))
        refused = quality.is_too_long(samples, rate)
        report.longest = names(read & refused)
        report.too_long = names(read & quality.is_long(samples, rate) & ~refused)


def _decode(report: Report, utterances: Utterances, headers: Headers) -> None:
    """Decode the readable files in threads."""
    rows = np.flatnonzero(headers["samples"] >= 0).tolist()
    decoded = in_threads(_damage_or_silence, map(utterances.path, rows))
    for row, (damage, is_silent) in zip(
        rows, progress(decoded, "decoding", len(rows)), strict=True
    ):
        report.damaged += damage
        report.silent += [utterances.name(row)] if is_silent else []


def _damage_or_silence(path: Path) -> tuple[list[str], bool]:
    try:
        wave = audio.decode(path)
    except (ValueError, OSError) as error:
        return [str(error)], False
    return [], quality.is_silent(wave)


def _who(corpus: Corpus) -> str:
    return "speakers" if corpus.kind == "speech" else "categories"


def _counts(report: Report, corpus: Corpus, whole: Utterances) -> None:
    """More speakers or utterances than published: a fault; fewer: a note, part of the corpus."""
    lacking: list[str] = []
    absent: list[str] = []
    for split, published in corpus.expected.items():
        rows = list_utterances(corpus.name, whole.root, split)[0] if split else whole
        label = split or corpus.name
        speakers, utterances = published
        fewer = []
        for unit, count, expected in (
            (_who(corpus), len(rows.speakers), speakers),
            ("utterances", len(rows), utterances),
        ):
            if expected and count > expected:
                report.counts.append(f"{label}: {count:,} {unit} of {expected:,}")
            elif expected and count < expected:
                fewer.append(f"{count:,} of {expected:,} {unit}")
        if len(rows) == 0:
            absent.append(label)
        elif fewer:
            lacking.append(f"{label} has {' and '.join(fewer)}")
    if corpus.expected and len(absent) == len(corpus.expected):
        lacking.append("its published parts are not here under their names")
    elif absent:
        lacking.append(f"no {', no '.join(absent)}")
    if lacking and len(whole):
        report.notes.append(f"part of the corpus: {'; '.join(lacking)}")


def _suffixes(report: Report, corpus: Corpus, utterances: Utterances) -> None:
    """Note the suffixes that differ from the published files."""
    suffixes = {os.path.splitext(name)[1].lower() for name in utterances.names()}
    others = sorted(suffixes - {corpus.suffix.lower()})
    if corpus.suffix and others:
        report.notes.append(
            f"stored as {', '.join(others)}, published as {corpus.suffix}; say so beside results"
        )


def _trials(report: Report, root: Path) -> None:
    """Name every trial list at the root; a list whose recordings are absent is a fault."""
    for path in sorted(root.glob("*.txt")):
        with open(path, encoding="utf-8", errors="replace") as file:
            if not is_trial(lines.fields(file.readline(10_000))):
                continue
        try:
            trials = read_trials(path, root)
        except (ValueError, FileNotFoundError) as error:
            report.trials.append(str(error))
            continue
        report.notes.append(
            f"{path.name}: {trials.name}, {len(trials):,} trials, all recordings here"
        )
