"""Names of recordings in tables, whoever reads them: dots that are no suffix, and absolute paths."""

from pathlib import Path

import numpy as np
import pytest

from oskdft.speech import audio
from oskdft.speech.corpora.pack import pack
from oskdft.speech.corpora.people import groups_of
from oskdft.speech.corpora.tables import load_corpus
from oskdft.speech.corpora.trials import read_trials


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Recordings whose names hold dates; ada/2024.05 is another one than ada/2024.05.01."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number, name in enumerate(("ada/2024.05", "ada/2024.05.01", "eve/2024.05", "eve/1.2")):
        wave = np.random.default_rng(number).normal(0, 0.1, 16_000)
        audio.write(tmp_path / "root" / f"{name}.wav", wave)
    return tmp_path / "root"


def test_a_packed_list_names_the_recordings_that_it_named(root, tmp_path):
    """Without suffixes: the member of ada/2024.05.01 is not that of ada/2024.05."""
    lines = "1 ada/2024.05.01 ada/2024.05\n0 ada/2024.05.01 eve/2024.05\n0 ada/2024.05 eve/1.2\n"
    (root / "list.txt").write_text(lines)
    pack("folder", root, tmp_path / "out", processes=1)
    before, after = (read_trials(r / "list.txt", r) for r in (root, tmp_path / "out"))
    assert [Path(path).with_suffix(".wav") for path in after.paths] == list(map(Path, before.paths))
    for one, other in zip(before.paths, after.paths, strict=True):
        heard = audio.read(tmp_path / "out" / other)
        assert np.array_equal(audio.read(root / one), heard), (one, other)


@pytest.mark.parametrize("absolute", [False, True])
def test_kaldi_tables_lead_to_the_members_and_to_their_speakers(root, tmp_path, absolute):
    """Absolute paths below the corpus would lead from the shards back to it."""
    names = ["ada/2024.05", "ada/2024.05.01", "eve/2024.05", "eve/1.2"]
    (root / "train").mkdir()
    place = f"{root}/./" if absolute else ""
    (root / "train/wav.scp").write_text(
        "".join(f"u{i} {place}{n}.wav\n" for i, n in enumerate(names))
    )
    # utterances of one folder are of two speakers: only the table tells
    (root / "train/utt2spk").write_text("u0 f1\nu1 m1\nu2 f2\nu3 m2\n")
    (root / "train/spk2gender").write_text("f1 f\nf2 f\nm1 m\nm2 m\n")
    paths = [f"{name}.wav" for name in names]
    assert groups_of(paths, root, "gender") == ["f", "m", "f", "m"]
    pack("kaldi", root, tmp_path / "out", processes=1)
    table = load_corpus("kaldi", tmp_path / "out", "train")
    assert sorted(table.names()) == sorted(f"{name}.flac" for name in names)
    assert str(root) not in (tmp_path / "out/train/wav.scp").read_text()
    for row, name in enumerate(table.names()):
        wave = audio.read(root / Path(name).with_suffix(".wav"))
        assert np.array_equal(audio.read(table.path(row)), wave)
