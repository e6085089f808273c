"""The integrity check: everything wrong is listed, the result is remembered outside the corpus."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from oskdft.speech import audio, quality
from oskdft.speech.corpora import catalogue
from oskdft.speech.corpora.check import check
from oskdft.speech.corpora.tables import load_corpus

SPEECH = np.random.default_rng(0).normal(0, 0.1, 16_000)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "oskdft"


@pytest.fixture
def vox(tmp_path: Path) -> Path:
    """The shape of VoxCeleb1: three development speakers, two test speakers, a list."""
    root = tmp_path / "wav"
    for who in ("id10001", "id10002", "id10003", "id10270", "id10271"):
        for video in ("vidA", "vidB"):
            audio.write(root / who / video / "00001.wav", SPEECH)
    lines = ("1 id10270/vidA/00001.wav id10270/vidB/00001.wav",)
    lines += ("0 id10270/vidA/00001.wav id10271/vidA/00001.wav",)
    (root / "veri_test2.txt").write_text("\n".join(lines) + "\n")
    return root


def test_a_voxceleb_shaped_tree_passes(vox: Path):
    report = check("voxceleb1", vox, full=True)
    assert report.ok, report.lines()
    assert (report.speakers, report.utterances) == (5, 10)
    assert report.hours == pytest.approx(10 / 3600)
    first, *notes, last = report.lines()
    assert first == f"voxceleb1 at {vox}: 5 speakers, 10 utterances, 0.00 h" and last == "ok"
    assert notes == [
        "note: part of the corpus: dev has 3 of 1,211 speakers and 6 of 148,642 utterances; "
        "test has 2 of 40 speakers and 4 of 4,874 utterances",
        "note: veri_test2.txt: unknown list of 2 trials (the file is named like Vox1-O "
        "cleaned, which has 37611), 2 trials, all recordings here",
    ]


@pytest.mark.slow
def test_real_corpus_passes_and_says_that_it_is_a_part(data_root: Path):
    if not (data_root / "speechocean762").is_dir():
        pytest.skip("speechocean762 is not here")
    report = check("speechocean762", data_root / "speechocean762")
    assert report.ok, report.lines()
    if report.utterances == 5_000:
        return  # the published archive
    assert report.utterances == 3_140 and report.extra == []
    assert report.notes[:2] == [
        "part of the corpus: test has 80 of 125 speakers and 640 of 2,500 utterances",
        "stored as .ogg, published as .WAV; say so beside results",
    ]


def test_every_fault_is_listed(vox: Path):
    (vox / "id10001/vidA/00001.wav").write_bytes(b"")
    (vox / "id10001/vidB/00001.wav").write_text("no audio")
    soundfile.write(vox / "id10002/vidA/00001.wav", SPEECH, 8_000)
    soundfile.write(vox / "id10002/vidB/00001.wav", np.stack([SPEECH, SPEECH], 1), 16_000)
    audio.write(vox / "id10003/vidA/00001.wav", SPEECH[:7_999])
    audio.write(vox / "stray.wav", SPEECH)
    (vox / "id10270/vidB/00001.wav").unlink()
    report = check("voxceleb1", vox)
    assert not report.ok
    assert [text.split(" ")[0] for text in report.unreadable] == [
        str(vox / "id10001/vidA/00001.wav"),
        str(vox / "id10001/vidB/00001.wav"),
    ]
    assert report.other_rate == ["id10002/vidA/00001.wav: 8000 Hz"]
    assert report.stereo == ["id10002/vidB/00001.wav: 2 channels"]
    assert report.too_short == ["id10003/vidA/00001.wav"]
    assert report.extra == ["stray.wav"]
    assert len(report.trials) == 1 and "1 of 3 recordings are not below" in report.trials[0]
    starts = [line.split(":")[0] for line in report.lines()[1:]]
    for fault in ("unreadable", "stereo", "too short", "trials"):
        assert fault in starts
    assert (
        "note: 1 not at 16000 Hz; resampled at every reading (id10002/vidA/00001.wav"
        in " ".join(report.lines())
    )
    assert report.lines()[-1] == "not ok"


def test_24_bit_and_float_are_fine(tmp_path: Path):
    (tmp_path / "c" / "ann").mkdir(parents=True)
    for kind in ("PCM_24", "FLOAT"):
        soundfile.write(tmp_path / "c" / "ann" / f"{kind}.wav", SPEECH, 16_000, subtype=kind)
    assert check("folder", tmp_path / "c", full=True).ok


def test_what_every_command_accepts_is_a_note(tmp_path: Path):
    root = tmp_path / "c"
    audio.write(root / "ann" / "silent.wav", np.zeros(16_000))
    soundfile.write(root / "ann" / "telephone.wav", SPEECH, 8_000)
    audio.write(root / "ann" / "long.wav", np.tile(SPEECH, 151))
    report = check("folder", root, full=True)
    assert report.ok and report.silent == ["ann/silent.wav"]
    assert report.other_rate == ["ann/telephone.wav: 8000 Hz"]
    assert report.too_long == ["ann/long.wav"]
    assert sum(line.startswith("note: 1 ") for line in report.lines()) == 3


def test_decoding_finds_nan_and_cut_files(tmp_path: Path):
    root = tmp_path / "c"
    audio.write(root / "ann" / "good.flac", SPEECH)
    broken = SPEECH.copy()
    broken[5] = np.nan
    soundfile.write(root / "ann" / "nan.wav", broken, 16_000, subtype="FLOAT")
    audio.write(root / "ann" / "cut.flac", SPEECH)
    whole = (root / "ann" / "cut.flac").read_bytes()
    (root / "ann" / "cut.flac").write_bytes(whole[:-200])  # inside the last frame
    unheard = check("folder", root)  # headers alone do not tell, and the report says so
    assert unheard.ok
    assert unheard.lines()[-2:] == ["note: headers only; --full decodes every file", "ok"]
    report = check("folder", root, full=True)
    assert not any("headers only" in line for line in report.lines())
    assert [text.split(" ")[0] for text in report.damaged] == [
        str(root / "ann" / name) for name in ("cut.flac", "nan.wav")
    ]


def test_missing_and_extra_against_kaldi_tables(tmp_path: Path):
    root = tmp_path / "speechocean762"
    for utterance in ("00010001", "00010099"):
        audio.write(root / f"WAVE/SPEAKER0001/{utterance}.wav", SPEECH)
    (root / "train").mkdir()
    names = ("00010001", "00010002")
    (root / "train" / "utt2spk").write_text("".join(f"{u} 0001\n" for u in names))
    (root / "train" / "wav.scp").write_text(
        "".join(f"{u} WAVE/SPEAKER0001/{u}.WAV\n" for u in names)
    )
    report = check("speechocean762", root)
    assert report.missing == ["WAVE/SPEAKER0001/00010002.WAV"]
    assert report.extra == ["WAVE/SPEAKER0001/00010099.wav"]
    assert not report.ok and "no test" in report.notes[0]


def test_more_than_was_published_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "musan"
    for category in ("noise", "speech", "music"):
        audio.write(root / category / "1.wav", SPEECH[:800])  # noise may be short
    assert check("musan", root).ok
    monkeypatch.setitem(catalogue.CORPORA["musan"].expected, "", (3, 2))
    report = check("musan", root)
    assert report.counts == ["musan: 3 utterances of 2"] and not report.ok


def test_rooms_may_be_short_and_only_the_rooms_in_use_must_be_mono(tmp_path: Path):
    root = tmp_path / "r"
    eight = np.stack([SPEECH[:800]] * 8, 1)
    (root / "real_isotropic").mkdir(parents=True)
    soundfile.write(root / "real_isotropic" / "1.wav", eight, 16_000)
    audio.write(root / "simulated_rirs" / "1.wav", SPEECH[:800])
    report = check("rirs_noises", root)
    assert report.ok and report.unused_stereo == ["real_isotropic/1.wav: 8 channels"]
    soundfile.write(root / "simulated_rirs" / "2.wav", eight, 16_000)
    report = check("rirs_noises", root)
    assert not report.ok and report.stereo == ["simulated_rirs/2.wav: 8 channels"]


def test_m4a_says_how_to_convert(tmp_path: Path):
    path = tmp_path / "v" / "dev/aac/id00012/vid/00001.m4a"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\0\0\0\x20ftypM4A ")
    report = check("voxceleb2", tmp_path / "v")
    assert "ffmpeg" in report.unreadable[0] and not report.ok


def test_an_empty_folder_is_not_ok(tmp_path: Path):
    report = check("voxceleb1", tmp_path)
    assert not report.ok and report.lines()[1].startswith("empty: no audio in the expected layout")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which headers are read from now on."""
    read, info = [], audio.info

    def note(path: Path) -> audio.AudioInfo:
        read.append(path)
        return info(path)

    monkeypatch.setattr(audio, "info", note)
    return read


def test_the_scan_is_remembered_outside_the_corpus(
    vox: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    before = sorted(vox.rglob("*"))
    check("voxceleb1", vox)
    assert sorted(vox.rglob("*")) == before  # nothing is written into the corpus
    assert len(list((cache / "scans").iterdir())) == 1
    read = counted(monkeypatch)
    assert check("voxceleb1", vox).ok and read == []
    assert load_corpus("voxceleb1", vox).seconds.tolist() == [1.0] * 10
    audio.write(vox / "id10001/vidA/00001.wav", SPEECH[:12_000])  # one file changes
    assert check("voxceleb1", vox).ok and read == [vox / "id10001/vidA/00001.wav"]
    load_corpus("voxceleb1", vox, "test").measured()
    assert not np.isnan(load_corpus("voxceleb1", vox, "dev").seconds).any()  # parts add up


def test_an_interrupted_scan_goes_on(vox: Path, monkeypatch: pytest.MonkeyPatch):
    info, calls = audio.info, []

    def interrupted(path: Path) -> audio.AudioInfo:
        calls.append(path)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return info(path)

    with monkeypatch.context() as patch:
        patch.setattr(audio, "info", interrupted)
        with pytest.raises(KeyboardInterrupt):
            check("voxceleb1", vox)
    read = counted(monkeypatch)
    assert check("voxceleb1", vox).ok and 5 <= len(read) < 10  # the others were remembered


def test_a_cache_that_cannot_be_written_does_not_stop_the_check(
    vox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    assert check("voxceleb1", vox).ok
    assert "not remembered" in capsys.readouterr().err


def test_a_damaged_cache_is_made_again(
    vox: Path, cache: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    check("voxceleb1", vox)
    [file] = (cache / "scans").iterdir()
    for content in (b"", b"rubbish", file.read_bytes()[:200]):
        file.write_bytes(content)
        assert check("voxceleb1", vox).ok
        assert "is damaged" in capsys.readouterr().err
    read = counted(monkeypatch)
    assert check("voxceleb1", vox).ok and read == []


def test_what_evaluation_refuses_for_its_length_is_no_ok(tmp_path: Path):
    """An hour and a second, which only training reads; an hour is embedded in windows, a note."""
    for name, seconds in (("a", 3_601), ("b", 3_600)):
        path = tmp_path / "corpus" / name / "1.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.zeros(4_000 * seconds, np.float32), 4_000, subtype="PCM_U8")
    report = check("folder", tmp_path / "corpus")
    assert (report.ok, report.longest, report.too_long) == (False, ["a/1.wav"], ["b/1.wav"])
    with pytest.raises(ValueError, match="is 3601 s long; at most 3600 s are embedded whole"):
        quality.require_file(tmp_path / "corpus/a/1.wav")
    assert quality.require_file(tmp_path / "corpus/b/1.wav") == 3_600
