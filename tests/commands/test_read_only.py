"""A target that cannot be written is refused at the start, in one line, and not behind the work."""

import os
import re
import shutil
import stat
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from oskdft.commands import cli
from oskdft.lessons.kept import EVIDENCE
from oskdft.speech import audio
from oskdft.utils import files
from tests.commands.test_sacred import GRID, WRITES

NOBODY = 65_534


def test_a_folder_of_another_user_and_a_place_below_a_file():
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        (place / "theirs").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
        (place / "file").write_text("a file")
        place.chmod(0o777)
        if os.geteuid() == 0:
            os.seteuid(NOBODY)  # the system lets root write everywhere
        try:
            files.require_writable(place / "new" / "deep")
            for path in (place / "theirs", place / "theirs" / "new" / "deep"):
                with pytest.raises(
                    ValueError, match=r"cannot be written: .*theirs is read-only, or"
                ):
                    files.require_writable(path)
            with pytest.raises(ValueError, match=r"file is no folder; choose another --scores"):
                files.require_new(place / "file" / "x.txt", "--scores")
        finally:
            os.seteuid(os.getuid())
    finally:
        (place / "theirs").chmod(0o700)
        shutil.rmtree(place)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Speech, a list and a grid; and a folder that the system says is read-only."""
    rng = np.random.default_rng(0)
    for name in ("ann/a", "ann/b", "bob/c", "bob/d"):
        audio.write(tmp_path / f"speech/{name}.wav", 0.1 * rng.standard_normal(16_000))
    (tmp_path / "trials.txt").write_text("1 ann/a.wav ann/b.wav\n0 ann/a.wav bob/c.wav\n")
    (tmp_path / "grid.yaml").write_text(GRID)
    (tmp_path / "locked").mkdir()
    may = os.access

    def access(path, mode, **words):
        return "locked" not in str(path) and may(path, mode, **words)

    monkeypatch.setattr(files.os, "access", access)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("key", [key for key in WRITES if key[0] != "bench"], ids="-".join)
def test_no_command_works_before_it_looks_at_its_target(key, here, monkeypatch, capfd):
    """No model computes and no recording is decoded before the refusal."""

    def work(*_, **__):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(torch.nn.Module, "__call__", work)
    monkeypatch.setattr(audio, "decode", work)
    monkeypatch.setattr("urllib.request.urlopen", work)
    target = here / "locked" / "new"
    words = WRITES[key].format(
        target=target, root=here / "speech", trials=here / "trials.txt", grid=here / "grid.yaml",
        sweep=EVIDENCE / "strategies", stem=target, new=here / "new",
    )  # fmt: skip
    words = words.replace(
        "embed " + str(here / "speech") + "/a.wav", f"embed {here}/speech/ann/a.wav"
    )
    monkeypatch.setattr(sys, "argv", ["oskdft", *words.split()])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    line = capfd.readouterr().err
    assert stopped.value.code == 1 and re.fullmatch(r"oskdft: .*locked.*\n", line), line
    assert re.search("cannot be written: .*locked is read-only", line), line
    assert list((here / "locked").iterdir()) == [] and not (here / "new").exists()
