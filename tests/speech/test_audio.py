import errno
import io
import json
import os
import re
import resource
import shutil
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from oskdft import config
from oskdft.lessons.widgets import uploads
from oskdft.speech import audio, cutting, dataset, quality, resampling
from oskdft.speech.corpora import check, recode, tables
from oskdft.utils import files

FIXTURES = Path(__file__).parents[1] / "fixtures"
RATE = config.SAMPLE_RATE


def tone(seconds=1.0, hz=440.0, rate=RATE):
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype("float32")


@pytest.mark.parametrize("name", ["a.flac", "a.wav", "ein Käfer 鳥.flac", "a b/c d.wav"])
def test_what_is_written_is_read_back_to_16_bits(tmp_path, name):
    wave = tone()
    audio.write(tmp_path / name, wave)
    read = audio.read(tmp_path / name)
    assert read.dtype == np.float32
    assert np.abs(read - wave).max() <= 1 / 2**15
    assert audio.info(tmp_path / name) == audio.AudioInfo(RATE, RATE, 1)


@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "FLOAT", 1e-9),
        ("a.ogg", None, 0.1),
        ("a.mp3", None, 0.1),
    ],
)
def test_other_formats_are_read(tmp_path, name, subtype, error):
    wave = tone(2.0)
    soundfile.write(tmp_path / name, wave, RATE, subtype=subtype)
    read = audio.read(tmp_path / name)
    assert len(read) == len(wave) and np.abs(read - wave).max() < error


@pytest.mark.parametrize("suffix", [".flac", ".wav", ".ogg", ".mp3"])
@pytest.mark.parametrize(("start", "samples"), [(0, 100), (7_001, 32_000), (47_000, 32_000)])
def test_a_crop_is_a_piece_of_the_whole(tmp_path, suffix, start, samples):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 48_000), RATE)
    whole = audio.read(path)
    crop = audio.read(path, start, samples)
    assert len(crop) == min(samples, 48_000 - start)
    if suffix == ".ogg" and start == 47_000:  # the last page: libsndfile is 128 samples late
        crop, start = crop[:500], start + 128
    assert np.abs(crop - whole[start : start + len(crop)]).max() < 1e-3


def test_only_the_wanted_samples_are_decoded(tmp_path, monkeypatch):
    audio.write(tmp_path / "a.flac", tone(30.0))
    decoded = []
    original = soundfile.SoundFile.read

    def spy(self, frames=-1, **options):
        decoded.append(frames)
        return original(self, frames, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", spy)
    audio.read(tmp_path / "a.flac", 16_000, 32_000)
    assert decoded == [32_000]


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_another_rate_is_resampled_with_one_warning_per_file(tmp_path, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(2.0, rate=rate), rate, subtype="FLOAT")
    with pytest.warns(UserWarning, match=f"at {rate} Hz; resampled to 16000 Hz"):
        whole = audio.read(path)
    assert len(whole) == 2 * RATE
    assert np.abs(whole - tone(2.0))[500:-500].max() < 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crop = audio.read(path, 10_001, 5_000)
    assert np.abs(crop - whole[10_001:15_001]).max() < 1e-5
    assert np.abs(audio.read(path, 30_000, 9_000) - whole[30_000:]).max() < 1e-5
    with pytest.raises(ValueError, match=r"a\.wav.* none at"):
        audio.read(path, 40_000)


@pytest.mark.parametrize("rate", [4_001, 16_001, 22_051, 96_001])
@pytest.mark.filterwarnings("ignore:.*resampled")
def test_an_odd_rate_takes_no_more_memory_than_the_recording(tmp_path, rate):
    """The filter of torchaudio would take 6 GB from 16,001 Hz to 16,000 Hz."""
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(2.0, rate=rate), rate, subtype="FLOAT")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KB
    whole = audio.read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert len(whole) == 2 * RATE and whole.dtype == np.float32
    assert np.abs(whole - tone(2.0))[500:-500].max() < 2e-3
    crop = audio.read(path, 10_001, 5_000)
    assert np.abs(crop - whole[10_001:15_001]).max() < 1e-5


def test_tones_are_kept_within_the_stated_error():
    for rate, hz in ((16_001, 400.0), (22_051, 6_000.0), (44_101, 6_400.0), (8_001, 3_200.0)):
        found = resampling.resample(tone(2.0, hz, rate) * 2, rate, RATE)
        assert np.abs(found - 2 * tone(2.0, hz))[500:-500].max() < 5e-3, (rate, hz)


@pytest.mark.parametrize("rate", [100, 3_999, 192_001, 1_000_003])
def test_rates_of_no_recorder_are_refused_everywhere(tmp_path, rate, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "corpus" / "ann" / "a.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.zeros(2 * rate) + 0.1, rate)
    said = f"a.wav is at {rate} Hz; resample it to 4000 to 192000 Hz"
    utterances = tables.load_corpus("folder", path.parents[1])
    steps = [
        lambda: audio.read(path),
        lambda: quality.require_file(path),
        lambda: uploads.read_upload("a.wav", path.read_bytes()),
        lambda: dataset.validate(utterances),
    ]
    for step in steps:
        with pytest.raises(ValueError, match=said):
            step()
    report = check.check("folder", path.parents[1])
    assert report.wrong_rate == [f"ann/a.wav: {rate} Hz"] and not report.ok
    assert recode.encode(tmp_path, "corpus/ann/a.wav", "flac").kind == "unreadable"


@pytest.mark.parametrize("name", ["a.wav", "a.m4a"])
def test_a_pipe_or_a_device_is_refused_at_once(tmp_path, name):
    """A reader of a pipe waits until somebody writes; /dev/zero never ends."""
    os.mkfifo(tmp_path / name)
    (tmp_path / "z.wav").symlink_to("/dev/zero")
    for path in (tmp_path / name, tmp_path / "z.wav"):
        for reader in (audio.info, audio.read, audio.decode):
            with pytest.raises(ValueError, match="is a pipe or a device"):
                reader(path)
        assert "is a pipe" in recode.encode(path.parent, path.name, "flac").reason


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bad_file(folder, kind):
    path = folder / f"{kind}.wav"
    if kind in ("flac", "ogg", "mp3", "wav"):
        path = folder / f"cut.{kind}"
        soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 48_000), RATE)
        cut_in_half(path)
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("not audio at all\n" * 9)
    elif kind == "m4a":
        path = folder / "a.m4a"
        path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(99))
    elif kind == "no samples":
        soundfile.write(path, np.zeros(0), RATE)
    elif kind in ("nan", "inf"):
        soundfile.write(path, np.array([0.1, float(kind), 0.2] * 999), RATE, subtype="FLOAT")
    elif kind == "stereo":
        soundfile.write(path, np.stack([tone(), tone()], 1), RATE)
    elif kind == "folder":
        path.mkdir()
    return path


BAD = {
    "flac": "cut off",
    "wav": "cut off",
    "ogg": "cut off",
    "mp3": "cut off",
    "empty": "is empty",
    "text": "not audio or damaged",
    "m4a": "ffmpeg -i",
    "no samples": "no samples",
    "nan": "NaN or infinite",
    "inf": "NaN or infinite",
    "stereo": "2 channels; make it mono, or choose one: --channel 1",
    "folder": "directory|denied",
    "missing": "does not exist",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path, kind):
    path = bad_file(tmp_path, kind)
    readers = [audio.read] if kind == "stereo" else [audio.read, audio.decode]
    for reader in readers:
        with pytest.raises((ValueError, OSError), match=BAD[kind]) as caught:
            reader(path)
        assert path.name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_a_cut_that_the_header_shows_refuses_crops_too(tmp_path, suffix):
    path = bad_file(tmp_path, suffix)
    for refused in (lambda: audio.info(path), lambda: audio.read(path, 0, 100)):
        with pytest.raises(ValueError, match="cut off"):
            refused()


def test_a_name_that_is_no_utf8_is_refused_and_printed(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    try:
        Path(path).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(ValueError, match=r"caf\\xe9.wav.*not UTF-8; rename it") as caught:
        audio.info(path)
    str(caught.value).encode()


@pytest.mark.parametrize(("start", "samples"), [(-1, 5), (0, 0), (0, -3)])
def test_an_impossible_crop_is_refused(tmp_path, start, samples):
    audio.write(tmp_path / "a.wav", tone())
    with pytest.raises(ValueError, match="start from 0, read at least 1 sample"):
        audio.read(tmp_path / "a.wav", start, samples)
    with pytest.raises(ValueError, match=r"a\.wav has 16000 samples, none at 16000"):
        audio.read(tmp_path / "a.wav", 16_000)


def test_segments_equal_the_published_loader():
    fixture = np.load(FIXTURES / "F6d_segments.npz")
    assert json.loads((FIXTURES / "F6d_segments.json").read_text())["tolerance"] == "exact"
    rows = zip(*(fixture[key] for key in fixture.files), strict=True)
    keys = fixture.files
    assert len(fixture["length"]) == 10
    for row in map(lambda values: dict(zip(keys, values, strict=True)), rows):
        found = cutting.segments(np.arange(row["length"]), 48_000, 5)
        assert found.shape == (5, 48_000)
        assert found[:, 0].tolist() == row["starts"].tolist()
        assert found[0, -1] == row["last_sample_index_of_seg0"]


def test_wrap_equals_numpy_pad():
    wave = np.random.default_rng(0).normal(size=7)
    for samples in (7, 8, 14, 50):
        assert np.array_equal(cutting.wrap(wave, samples), np.pad(wave, (0, samples - 7), "wrap"))
    assert cutting.wrap(wave, 3) is wave
    with pytest.raises(ValueError, match="wave is empty"):
        cutting.wrap(wave[:0], 3)


def test_crops_reach_both_ends_or_published_only_whole_seconds():
    rng = np.random.default_rng(0)
    starts = {cutting.crop_start(12, 8, rng) for _ in range(200)}
    assert starts == {0, 1, 2, 3, 4}
    # 4.9 s, crops of 2 s: starts 0, 1, 2 s; what follows 4 s is never seen
    starts = {cutting.crop_start(78_400, 32_000, rng, whole_second=True) for _ in range(200)}
    assert starts == {0, 16_000, 32_000}
    assert cutting.crop_start(5, 8, rng) == cutting.crop_start(5, 8, rng, whole_second=True) == 0


def test_write_refuses_what_it_cannot_keep(tmp_path):
    for wave in (np.zeros((2, 9)), np.zeros(0), np.array([0.0, np.inf])):
        with pytest.raises(ValueError, match=r"a\.wav: wave is .* give finite samples"):
            audio.write(tmp_path / "a.wav", wave)
    assert list(tmp_path.iterdir()) == []


def test_louder_than_full_scale_is_clipped_not_wrapped(tmp_path):
    audio.write(tmp_path / "a.flac", np.array([1.5, -1.5]))
    assert audio.read(tmp_path / "a.flac").tolist() == pytest.approx([1, -1], abs=1e-4)


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.flac"
    audio.write(path, tone())
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device; free some space .*a\.flac"):
        audio.write(path, tone(2.0))
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_names_the_file(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match=r"taken.*b\.flac"):
        audio.write(tmp_path / "taken" / "b.flac", tone())


def test_real_recordings_are_read(data_root, tmp_path):
    suffixes = (".wav", ".flac", ".ogg")
    corpus = data_root / "speechocean762"
    paths = [path for path in sorted(corpus.rglob("*")) if path.suffix.lower() in suffixes][::999]
    if not paths:
        pytest.skip(f"no recordings below {corpus}")
    for path in paths:
        assert quality.require_file(path) >= quality.SHORTEST_S
        shutil.copy(path, tmp_path)
        assert len(audio.read(tmp_path / path.name)) == audio.info(path).samples


# Containers as recorders and pipes write them


def encoded(samples: int, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    wave = np.random.default_rng(0).normal(0, 0.1, samples)
    file = io.BytesIO()
    soundfile.write(file, wave, 16_000, format=kind, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize("samples", [40_000, 40_001])
@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "ULAW", "ALAW"]
)
def test_whole_wav_files_are_read_whole(subtype, samples, tmp_path):
    """Half of the files of an odd number of bytes have no padding byte; nothing is missing."""
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(samples, subtype))
    assert audio.info(path).samples == len(audio.read(path)) == samples


@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_streamed_sizes_mean_to_the_end(size, outer, tmp_path):
    whole, said = encoded(40_000), size.to_bytes(4, "little")
    at = whole.index(b"data") + 4
    wav = whole[:at] + said + whole[at + 4 :]
    path = tmp_path / "a.wav"
    path.write_bytes(wav[:4] + said + wav[8:] if outer else wav)
    assert len(audio.read(path)) == 40_000


def test_an_outer_size_that_is_too_large_hides_nothing(tmp_path):
    whole = encoded(40_000)
    (tmp_path / "a.wav").write_bytes(
        whole[:4] + (len(whole) + 1_000).to_bytes(4, "little") + whole[8:]
    )
    assert len(audio.read(tmp_path / "a.wav")) == 40_000


@pytest.mark.parametrize("missing", [1, 2, 1_000, 40_000])
def test_cut_wav_files_are_still_refused(missing, tmp_path):
    (tmp_path / "a.wav").write_bytes(encoded(40_000)[:-missing])
    with pytest.raises(ValueError, match="is cut off"):
        audio.read(tmp_path / "a.wav")


def pages(ogg: bytes) -> list[bytes]:
    starts = [match.start() for match in re.finditer(b"OggS", ogg)]
    return [ogg[a:b] for a, b in zip(starts, [*starts[1:], len(ogg)], strict=True)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_stream_without_its_last_page_ends_where_it_ends(subtype, packed, tmp_path):
    """A recorded stream lacks the flag of its last page; a file that was cut ends inside a page."""
    whole = encoded(160_000, subtype, "OGG")
    parts = pages(whole)
    assert len(parts) > 3
    for content, refused in ((b"".join(parts[:-1]), False), (whole[: len(whole) // 2], True)):
        path = tmp_path / f"{refused}" / "s" / "a.ogg"
        if packed:
            path.parents[1].mkdir()
            with tarfile.open(path.parents[1] / "a.tar", "w") as archive:
                member = tarfile.TarInfo("s/a.ogg")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        else:
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        if refused:
            with pytest.raises(ValueError, match="is cut off"):
                audio.read(path)
        else:
            assert 0 < len(audio.read(path)) < 160_000


@pytest.mark.filterwarnings("ignore:.*resampled")
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_channel_is_that_of_a_mono_file(tmp_path, rate):
    """The whole and a crop, also resampled."""
    both = np.random.default_rng(0).normal(0, 0.1, (3 * rate, 2))
    soundfile.write(tmp_path / "both.wav", both, rate)
    for channel in (1, 2):
        soundfile.write(tmp_path / "one.wav", both[:, channel - 1], rate)
        for piece in ((0, None), (9_000, 16_000)):
            found = audio.read(tmp_path / "both.wav", *piece, channel)
            assert np.array_equal(found, audio.read(tmp_path / "one.wav", *piece))
    mono = audio.read(tmp_path / "one.wav", channel=1)
    assert np.array_equal(mono, audio.read(tmp_path / "both.wav", channel=2))
    with pytest.raises(
        ValueError, match="both.wav has 2 channels and no channel 3; choose another"
    ):
        audio.read(tmp_path / "both.wav", channel=3)
