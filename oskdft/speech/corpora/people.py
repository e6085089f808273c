"""What the speaker table of a corpus says about the speaker of each recording of a list.

Read are, by what lies at the root: Kaldi tables (train/, dev/ or test/ with wav.scp, utt2spk and
spk2COLUMN), vox1_meta.csv or vox2_meta.csv of VoxCeleb, SPEAKERS.TXT of LibriSpeech.
"""

import os
import re
from pathlib import Path, PurePosixPath

from oskdft.speech.corpora.layouts import PARTS, age_group, beside, kaldi_table
from oskdft.utils.lines import numbered_lines

AGE = "age"  # in years; its groups are child and adult
NO_GROUPS = {"utt"}  # spk2utt lists the recordings of a speaker
TABLES = {  # file -> separator of its cells
    "vox1_meta.csv": r"[\t,]",
    "vox2_meta.csv": r"[\t,]",
    "SPEAKERS.TXT": r"\|",
}


def groups_of(paths: list[str], root: str | Path, column: str) -> list[str]:
    """The group of the speaker of each recording, by a column of the speaker table.

    Args:
        paths: recordings, relative to ``root``. column: such as "gender", "age" (child or adult) or
            "nationality"; case does not matter.
    Raises:
        ValueError: no speaker table, no such column, or a recording whose speaker it does not list.

    >>> from oskdft.speech.corpora.catalogue import find_root
    >>> root = find_root("speechbox", "", "data.root")
    >>> groups_of(["WAVE/SPEAKER0003/000030024.opus"], root, "age")
    ['child']
    """
    root, column = Path(root), column.lower()
    people, speakers = _kaldi(root)
    if not people:
        people = _meta(root)
    columns = sorted({name for person in people.values() for name in person})
    if column not in columns:
        known = f"it has {', '.join(columns)}" if columns else "there is none"
        raise ValueError(f"{root}: no column {column!r} in a table of speakers; {known}")
    groups = []
    for path in paths:
        inside = (part for part in PurePosixPath(path).parts if part in people)
        speaker = speakers.get(os.path.splitext(path)[0]) or next(inside, "")
        value = people.get(speaker, {}).get(column, "")
        if column == AGE and value.isdecimal():
            value = age_group({AGE: int(value)})
        if not value:
            raise ValueError(f"{root}: the table of speakers lacks the {column} of {path}; add it")
        groups.append(value)
    return groups


def _kaldi(root: Path) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Speaker -> column -> value, and path without suffix -> speaker, of Kaldi tables."""
    people: dict[str, dict[str, str]] = {}
    speakers: dict[str, str] = {}
    for part in PARTS:
        of_utterance = kaldi_table(root / part / "utt2spk")
        for utterance, path in kaldi_table(root / part / "wav.scp").items():
            speakers[os.path.splitext(path)[0]] = of_utterance.get(utterance, "")
        for table in sorted((root / part).glob("spk2*")):
            column = table.name.removeprefix("spk2").lower()
            if column not in NO_GROUPS:
                for speaker, value in kaldi_table(table).items():
                    people.setdefault(speaker, {})[column] = value
    return people, speakers


def _meta(root: Path) -> dict[str, dict[str, str]]:
    """Speaker -> column -> value of a table whose header line names the columns."""
    people: dict[str, dict[str, str]] = {}
    for name, separator in TABLES.items():
        path = beside(root, name)
        titles: list[str] = []
        for _, line in numbered_lines(path, "table of speakers") if path else ():
            cells = [cell.strip(" ;") for cell in re.split(separator, line)]
            if len(cells) > 2 and (not titles or line.startswith(";")):
                titles = [cell.lower() for cell in cells]
            elif titles and not line.startswith(";"):
                people[cells[0]] = dict(zip(titles[1:], cells[1:], strict=False))
    return people
