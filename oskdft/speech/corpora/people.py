"""What the table of speakers of a corpus says: gender, age, and whatever else it has a column for.

Read are, by what lies at the root: Kaldi tables (train/, dev/ or test/ with wav.scp, utt2spk and
spk2COLUMN), vox1_meta.csv or vox2_meta.csv of VoxCeleb, SPEAKERS.TXT of LibriSpeech.
"""

import os
import re
from pathlib import Path, PurePosixPath

from oskdft.speech.corpora.layouts import KALDI, PARTS, kaldi_table
from oskdft.speech.corpora.recording_names import without_suffix
from oskdft.utils.lines import numbered_lines

ADULT = 16  # [years] from this age on a speaker counts as an adult
AGE = "age"  # in years; its groups are child and adult
NO_GROUPS = {"utt"}  # spk2utt lists the recordings of a speaker
GENDER = {"gender", "sex"}  # titles that show the header
TABLES = {  # file -> separator of its cells
    "vox1_meta.csv": r"[\t,]",
    "vox2_meta.csv": r"[\t,]",
    "SPEAKERS.TXT": r"\|",
}


def speaker_info(name: str, root: str | Path) -> dict[str, dict]:
    """Gender and age of a corpus' speakers: {speaker: {"gender": "m" or "f", "age": years}}.

    Either key is absent where the corpus does not tell; a corpus without such a table gives {}.

    Raises:
        ValueError: an age that is no number.

    >>> speaker_info("folder", "/data")
    {}
    """
    root = Path(root)
    if name in KALDI:
        info = {}
        for speaker, person in _kaldi(root)[0].items():
            info[speaker] = {key: person[key] for key in ("gender", AGE) if key in person}
            if AGE in person:
                if not person[AGE].isdecimal():
                    shown = person[AGE][:40]
                    raise ValueError(
                        f"{root}: spk2age: {shown!r} of {speaker} is no age in years; correct it"
                    )
                info[speaker][AGE] = int(person[AGE])
        return info
    if name in ("librispeech", "mini_librispeech"):
        table, column = "SPEAKERS.TXT", "sex"
    elif name in ("voxceleb1", "voxceleb2"):
        table, column = f"vox{name[-1]}_meta.csv", "gender"
    else:
        return {}
    people = _meta(root, table).items()
    return {speaker: {"gender": row[column].lower()} for speaker, row in people if column in row}


def age_group(person: dict) -> str:
    """The group of a speaker of `speaker_info`: "child", "adult", or "" where the age is unknown.

    >>> age_group({"gender": "f", "age": 9}), age_group({})
    ('child', '')
    """
    if AGE not in person:
        return ""
    return "adult" if person[AGE] >= ADULT else "child"


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
    for table in TABLES if not people else ():
        people |= _meta(root, table)
    columns = sorted({name for person in people.values() for name in person})
    if column not in columns:
        known = f"it has {', '.join(columns)}" if columns else "there is none"
        raise ValueError(f"{root}: no column {column!r} in a table of speakers; {known}")
    groups = []
    for path in paths:
        inside = (part for part in PurePosixPath(path).parts if part in people)
        speaker = speakers.get(without_suffix(path)) or next(inside, "")
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
    inside = os.path.join(os.path.abspath(root), "")
    for part in PARTS:
        of_utterance = kaldi_table(root / part / "utt2spk")
        for utterance, path in kaldi_table(root / part / "wav.scp").items():
            path = os.path.normpath(path).removeprefix(inside)
            speakers[without_suffix(path)] = of_utterance.get(utterance, "")
        for table in sorted((root / part).glob("spk2*")):
            column = table.name.removeprefix("spk2").lower()
            if column not in NO_GROUPS:
                for speaker, value in kaldi_table(table).items():
                    people.setdefault(speaker, {})[column] = value
    return people, speakers


def _meta(root: Path, table: str) -> dict[str, dict[str, str]]:
    """Speaker -> column -> value of one of `TABLES`, whose header line names the columns.

    It lies at the root or up to two folders above it (the root may be a part of the corpus).
    """
    places = (folder / table for folder in (root, *root.resolve().parents[:2]))
    path = next((place for place in places if place.exists()), None)
    people: dict[str, dict[str, str]] = {}
    titles: list[str] = []
    for _, line in numbered_lines(path, "table of speakers") if path else ():
        cells = [cell.strip(" ;") for cell in re.split(TABLES[table], line)]
        names = [cell.lower() for cell in cells]
        if not titles and GENDER.intersection(names):
            titles = names
        elif titles and not line.startswith(";"):
            people[cells[0]] = dict(zip(titles[1:], cells[1:], strict=False))
    return people
