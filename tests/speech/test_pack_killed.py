"""A process of `data pack` that is killed: the likely cause and the way on, in one line."""

import multiprocessing
import os

import numpy as np
import pytest

from oskdft.speech import audio
from oskdft.speech.corpora import pack, pack_shards


def killed(*_, **__):
    assert multiprocessing.parent_process(), "it encodes in the process of the test"
    os.kill(os.getpid(), 9)


def test_a_process_that_is_killed_is_one_line_and_the_next_call_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in "ab":
        wave = np.random.default_rng(0).normal(0, 0.1, 16_000)
        audio.write(tmp_path / "root" / name / "1.wav", wave)
    with monkeypatch.context() as patch:
        patch.setattr(pack_shards, "encode", killed)
        with pytest.raises(
            ValueError, match=r"was killed \(out of memory\?\); run the same"
        ) as end:
            pack.pack("folder", tmp_path / "root", tmp_path / "out", processes=2)
    assert "\n" not in str(end.value)
    made = pack.pack("folder", tmp_path / "root", tmp_path / "out", processes=1)
    assert made["utterances"] == 2
