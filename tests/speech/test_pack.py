"""Packing a corpus into tar shards: codecs, tables, what is left out, resuming after any end."""

import io
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from oskdft.speech import audio
from oskdft.speech.corpora.check import check
from oskdft.speech.corpora.pack import lines, pack, summary
from oskdft.speech.corpora.recode import encode

av = pytest.importorskip("av")

RATE = 16_000
AAC_FRAME = 1_024  # samples
SHARD_MB = 0.12  # several shards of a small corpus


def hum(seconds: float, pitch: float = 150.0, rate: int = RATE) -> np.ndarray:
    time_s = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(round(pitch)).standard_normal(len(time_s))
    return (0.2 * np.sin(2 * np.pi * pitch * time_s) + 0.02 * noise).astype(np.float32)


def write_m4a(path: Path, wave: np.ndarray, rate: int = RATE, **options: str) -> None:
    """Encode [N] or [channels, N] as AAC in an MP4 container."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.atleast_2d(wave)
    layout = "stereo" if len(wave) == 2 else "mono"
    with av.open(str(path), "w", format="ipod", options=options) as container:
        stream = container.add_stream("aac", rate=rate)
        stream.bit_rate, stream.layout = 64_000, layout
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def vox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree like VoxCeleb2's, with damaged files and a trial list."""
    root = tmp_path_factory.mktemp("vox2")
    for speaker in range(6):
        for video in ("aaa", "bbb"):
            for number in range(3):
                name = f"dev/aac/id{10 + speaker:05}/{video}/{number:05}.m4a"
                write_m4a(root / name, hum(1.0 + 0.1 * number, 100 + 10 * speaker + number))
    bad = root / "dev/aac/id00099/bad"
    bad.mkdir(parents=True)
    (bad / "00000.m4a").write_bytes(b"")
    (bad / "00001.m4a").write_text("these are words, no sound " * 99)
    write_m4a(bad / "00002.m4a", np.stack([hum(1.0), hum(1.0, 200)]))
    write_m4a(bad / "00003.m4a", hum(2.0))
    cut_off(bad / "00003.m4a")
    write_m4a(bad / "00004.m4a", hum(4.0), movflags="+faststart")  # index first: opens, then ends
    cut_off(bad / "00004.m4a")
    write_m4a(root / "dev/aac/stray.m4a", hum(0.6))
    first, second = "dev/aac/id00010/aaa/00000", "dev/aac/id00011/aaa/00000"
    text = f"1 {first}.wav dev/aac/id00010/bbb/00001.wav\n0 {first}.wav {second}.wav\n"
    (root / "mine.txt").write_text(text)
    (root / "vox2_meta.csv").write_text("VoxCeleb2 ID,Gender\nid00010,m\n")
    return root


def cut_off(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


BAD = {
    "dev/aac/id00099/bad/00000.m4a": ("unreadable", "is empty"),
    "dev/aac/id00099/bad/00001.m4a": ("unreadable", "cannot be decoded"),
    "dev/aac/id00099/bad/00002.m4a": ("stereo", "has 2 channels"),
    "dev/aac/id00099/bad/00003.m4a": ("unreadable", "cannot be decoded"),
    "dev/aac/id00099/bad/00004.m4a": ("unreadable", "cut off"),
    "dev/aac/stray.m4a": ("layout", "outside the layout"),
}


def command(root: Path, out: Path, *more: str) -> list[str]:
    words = ["data", "pack", "voxceleb2", "--root", str(root), "--out", str(out)]
    return [sys.executable, "-m", "oskdft", *words, "--shard-mb", str(SHARD_MB), *more]


@pytest.fixture(scope="module")
def packed(vox: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of an uninterrupted run."""
    out = tmp_path_factory.mktemp("packed") / "out"
    pack("voxceleb2", vox, out, shard_mb=SHARD_MB, processes=2)
    return out


def contents(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def members(out: Path) -> dict[str, bytes]:
    found = {}
    for shard in sorted(out.glob("*.tar")):
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                assert member.name not in found
                found[member.name] = tar.extractfile(member).read()
    return found


def test_a_tree_of_m4a_files_becomes_shards_with_tables_and_a_manifest(vox: Path, packed: Path):
    manifest = json.loads((packed / "manifest.json").read_text())
    files = members(packed)
    assert (manifest["utterances"], manifest["speakers"]) == (36, 6)
    frames = [math.ceil(seconds * RATE / AAC_FRAME) for seconds in (1.0, 1.1, 1.2)]
    assert manifest["seconds"] == 12 * sum(frames) * AAC_FRAME / RATE  # as ffmpeg converts
    assert list(files) == sorted(files) and len(files) == 36
    assert len(manifest["shards"]) == len(list(packed.glob("voxceleb2-*.tar"))) > 3
    for name, data in files.items():
        wave, rate = soundfile.read(io.BytesIO(data), dtype="int16")
        assert name.endswith(".flac") and rate == RATE and wave.ndim == 1
        with av.open(str(vox / name.replace(".flac", ".m4a"))) as container:
            to_16_bit = av.AudioResampler("s16", "mono", RATE)
            frames = [f for frame in container.decode(audio=0) for f in to_16_bit.resample(frame)]
        assert np.array_equal(wave, np.concatenate([f.to_ndarray()[0] for f in frames]))
    assert (packed / "vox2_meta.csv").read_bytes() == (vox / "vox2_meta.csv").read_bytes()
    trials = (vox / "mine.txt").read_text()
    assert (packed / "mine.txt").read_text() == trials.replace(".wav", ".flac")
    assert sorted(table["name"] for table in manifest["tables"]) == ["mine.txt", "vox2_meta.csv"]
    assert not list(packed.glob(".*"))


def test_headers_of_the_shards_are_fixed(packed: Path):
    for shard in packed.glob("*.tar"):
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
                assert (member.uname, member.gname, member.isreg()) == ("", "", True)


def test_files_that_cannot_be_packed_are_left_out_by_name(packed: Path):
    rows = [line.split("\t") for line in (packed / "left_out.tsv").read_text().splitlines()]
    assert {name: kind for name, kind, _ in rows} == {name: kind for name, (kind, _) in BAD.items()}
    for name, _, reason in rows:
        assert BAD[name][1] in reason and str(packed.parent.parent) not in reason
    manifest = json.loads((packed / "manifest.json").read_text())
    assert manifest["left_out"] == {"unreadable": 4, "stereo": 1, "layout": 1}


@pytest.mark.slow
def test_killed_three_times_it_ends_with_the_files_of_an_uninterrupted_run(
    vox: Path, packed: Path, tmp_path: Path
):
    out = tmp_path / "out"
    for sign in (".pack/plan.json", "voxceleb2-000001.tar", "voxceleb2-000004.tar"):
        process = subprocess.Popen(command(vox, out), stderr=subprocess.DEVNULL)
        try:
            limit = time.monotonic() + 60
            while not (out / sign).exists() and time.monotonic() < limit:
                assert process.poll() is None, "ended before it could be killed"
                time.sleep(0.001)
        finally:
            process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL and not (out / "manifest.json").exists()
    ended = subprocess.run(command(vox, out, "--json"), capture_output=True, text=True, check=True)
    assert contents(out) == contents(packed)
    report = json.loads(ended.stdout)
    assert report["utterances"] == 36 and report["shards"] == len(list(out.glob("*.tar")))
    assert report["left_out_names"]["stereo"] == ["dev/aac/id00099/bad/00002.m4a"]


@pytest.mark.parametrize("moment", ["before a rename", "after a rename", "lost record"])
def test_it_resumes_from_every_state_that_a_kill_leaves(
    vox: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    class Killed(BaseException):
        pass

    out, replace, calls = tmp_path / "out", os.replace, []

    def killed_at_the_third_shard(source: str, target: str) -> None:
        calls.append(target)
        third = str(target).endswith("000002.tar")
        if third and moment == "before a rename":
            shutil.copy(source, out / ".voxceleb2-000002.tar.abc.part")  # what a kill leaves
            raise Killed
        replace(source, target)
        if third:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", killed_at_the_third_shard)
        pack("voxceleb2", vox, out, shard_mb=SHARD_MB, processes=1)
    if moment == "lost record":
        (out / ".pack/voxceleb2-000001.tar.json").unlink()
    pack("voxceleb2", vox, out, shard_mb=SHARD_MB, processes=1)
    assert contents(out) == contents(packed)


def test_the_number_of_processes_changes_nothing(vox: Path, packed: Path, tmp_path: Path):
    pack("voxceleb2", vox, tmp_path / "out", shard_mb=SHARD_MB, processes=1)
    assert contents(tmp_path / "out") == contents(packed)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    vox: Path, packed: Path, tmp_path: Path
):
    out = tmp_path / "out"
    full = subprocess.run(
        command(vox, out),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert full.returncode == 1 and not list(out.glob("*.tar")) and not list(out.glob(".*.part"))
    assert full.stderr == (
        f"oskdft: the disk of {out} is full; free some space and run the same command again to "
        "resume\n"
    )
    pack("voxceleb2", vox, out, shard_mb=SHARD_MB)
    assert contents(out) == contents(packed)


def test_a_second_process_is_refused(vox: Path, tmp_path: Path):
    out = tmp_path / "out"
    first = subprocess.Popen(command(vox, out), stderr=subprocess.DEVNULL)
    try:
        while not (out / ".pack/plan.json").exists():
            assert first.poll() is None
            time.sleep(0.001)
        first.send_signal(signal.SIGSTOP)
        with pytest.raises(ValueError, match="is being written by process"):
            pack("voxceleb2", vox, out, shard_mb=SHARD_MB)
    finally:
        first.kill()
        first.wait()


def copy_of(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "copy"))


def test_a_finished_pack_is_compared_with_its_manifest(vox: Path, packed: Path, tmp_path: Path):
    out = copy_of(packed, tmp_path)
    assert pack("voxceleb2", vox, out, shard_mb=SHARD_MB)["utterances"] == 36
    with pytest.raises(ValueError, match="another pack: codec flac, now opus"):
        pack("voxceleb2", vox, out, "opus", shard_mb=SHARD_MB)
    shard = out / "voxceleb2-000001.tar"
    data = bytearray(shard.read_bytes())
    data[2_000] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match="voxceleb2-000001.tar does not fit .*manifest.json"):
        pack("voxceleb2", vox, out, shard_mb=SHARD_MB)


def test_changed_settings_recordings_and_shards_are_noticed_when_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    root, out = tmp_path / "root", tmp_path / "out"
    for number in range(12):
        audio.write(root / "ann" / f"{number}.wav", hum(1.0, 100 + number))
    replace = os.replace

    def interrupted_before_the_manifest(source: str, target: str) -> None:
        if Path(target).name == "manifest.json":
            raise InterruptedError
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(os, "replace", interrupted_before_the_manifest)
        pack("folder", root, out, shard_mb=0.1)
    with pytest.raises(ValueError, match="other settings: codec flac, now copy"):
        pack("folder", root, out, "copy", shard_mb=0.1)
    before = (root / "ann/3.wav").stat()
    os.utime(root / "ann/3.wav", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(ValueError, match="changed since .* was begun"):
        pack("folder", root, out, shard_mb=0.1)
    os.utime(root / "ann/3.wav", ns=(before.st_atime_ns, before.st_mtime_ns))
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="other versions"):
        patch.setattr(soundfile, "__version__", "0.0.1")
        pack("folder", root, out, shard_mb=0.1)
    shard = out / "folder-000000.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + b"x")
    (out / "folder-000001.tar").write_bytes(b"short")
    assert pack("folder", root, out, shard_mb=0.1)["utterances"] == 12
    assert shard.read_bytes() == data
    again = capfd.readouterr().err
    for number in (0, 1):
        assert (
            f"folder-00000{number}.tar was changed since it was written; it is made again" in again
        )


def test_foreign_folders_and_wrong_options_are_refused(vox: Path, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not empty; choose another --out"):
        pack("voxceleb2", vox, tmp_path)
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(ValueError, match="was not made by this command"):
        pack("voxceleb2", vox, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "mine.txt"]
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="inside the corpus"):
        pack("voxceleb2", vox, vox / "dev/out")
    with pytest.raises(ValueError, match="choose flac, opus, copy"):
        pack("voxceleb2", vox, out, "mp3")
    with pytest.raises(ValueError, match="--kbit is for --codec opus"):
        pack("voxceleb2", vox, out, "flac", kbit=18)
    with pytest.raises(ValueError, match="--kbit is 999"):
        pack("voxceleb2", vox, out, "opus", kbit=999)
    with pytest.raises(ValueError, match="--shard-mb is 0"):
        pack("voxceleb2", vox, out, shard_mb=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no audio in the layout of folder"):
        pack("folder", tmp_path / "empty", out)
    assert not out.exists()


def test_without_pyav_the_message_names_the_extra(
    vox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"m4a files .* pip install 'oskdft\[media\]'"):
        pack("voxceleb2", vox, tmp_path / "out")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SPEAKER/FILE in several formats and rates."""
    root = tmp_path_factory.mktemp("mixed")
    audio.write(root / "a/1.wav", hum(0.7))
    audio.write(root / "a/2.flac", hum(0.8))
    soundfile.write(root / "a/3.ogg", hum(0.9), RATE)
    soundfile.write(root / "a/4.mp3", hum(1.0), RATE)
    write_m4a(root / "b/5.m4a", hum(1.1, rate=44_100), 44_100)
    soundfile.write(root / "b/6.wav", hum(0.6, rate=8_000), 8_000, subtype="FLOAT")
    soundfile.write(root / "b/7.wav", np.stack([hum(0.6)] * 2, 1), RATE)
    audio.write(root / "b/1.wav", hum(0.7))
    audio.write(root / "b/1.flac", hum(0.9))
    audio.write(
        root / "b/ü ä/long-name-of-a-session-that-does-not-fit" / f"{'x' * 99}.wav", hum(0.5)
    )
    return root


@pytest.mark.slow
def test_flac_is_the_recording_as_the_package_reads_it(mixed: Path, tmp_path: Path):
    report = pack("folder", mixed, tmp_path / "out", processes=1)
    files = members(tmp_path / "out")
    assert report["left_out"] == {"stereo": 1, "doubled": 1} and report["resampled"] == 2
    assert report["left_out_names"] == {"stereo": ["b/7.wav"], "doubled": ["b/1.wav"]}
    sources = ["a/1.wav", "a/2.flac", "a/3.ogg", "a/4.mp3", "b/1.flac"]
    for name in sources:
        wave = soundfile.read(io.BytesIO(files[os.path.splitext(name)[0] + ".flac"]))[0]
        tolerance = 0 if name.endswith(("wav", "flac")) else 0.51 / 32_768
        assert np.abs(wave - audio.read(mixed / name)).max() <= tolerance
    with pytest.warns(UserWarning, match="8000 Hz"):
        expected = audio.read(mixed / "b/6.wav")
    wave = soundfile.read(io.BytesIO(files["b/6.flac"]))[0]
    assert np.abs(wave - expected).max() <= 0.51 / 32_768
    wave = soundfile.read(io.BytesIO(files["b/5.flac"]))[0]
    aac_samples = math.ceil(1.1 * 44_100 / AAC_FRAME) * AAC_FRAME
    assert len(wave) == math.ceil(aac_samples * RATE / 44_100) and np.abs(wave).max() > 0.1
    assert any("ü ä/long-name" in name for name in files)
    text = "\n".join(lines("out", report))
    assert "left out, stereo: 1 more than one channel" in text and "(b/7.wav)" in text
    assert summary(report)["shards"] == 1


def test_copy_keeps_the_bytes(mixed: Path, tmp_path: Path):
    (tmp_path / "root").mkdir()
    root = Path(shutil.copytree(mixed, tmp_path / "root/copy"))
    (root / "b/8.flac").write_bytes((root / "a/2.flac").read_bytes()[:9_000])
    report = pack("folder", root, tmp_path / "out", "copy", processes=1)
    assert report["left_out_names"] == {"unreadable": ["b/8.flac"]} and report["resampled"] == 0
    for name, data in members(tmp_path / "out").items():
        assert data == (root / name).read_bytes()
    assert report["utterances"] == 10


@pytest.mark.parametrize("samples", [1, 100, 8_000, 16_001, 123_456])
def test_opus_keeps_every_sample_and_is_the_same_each_time(tmp_path: Path, samples: int):
    wave = hum(8.0)[:samples]
    audio.write(tmp_path / "1.wav", wave)
    data = encode(tmp_path, "1.wav", "opus", 18).data
    assert data == encode(tmp_path, "1.wav", "opus", 18).data
    decoded, rate = soundfile.read(io.BytesIO(data))
    assert (len(decoded), rate) == (samples, RATE)
    if samples > RATE:
        assert np.corrcoef(decoded, wave)[0, 1] > 0.9
        kbit = 8 * len(data) / (samples / RATE) / 1000
        assert 9 < kbit < 27 and len(encode(tmp_path, "1.wav", "opus", 48).data) > 1.5 * len(data)


def test_kaldi_tables_and_trial_lists_name_the_members(tmp_path: Path):
    root, out = tmp_path / "root", tmp_path / "out"
    (root / "train").mkdir(parents=True)
    (root / "test").mkdir()
    scp, utt2spk = [], []
    for number in range(4):
        audio.write(root / f"WAVE/SPEAKER000{number}/{number}.wav", hum(0.6))
        scp.append(f"{number}\tWAVE/SPEAKER000{number}/{number}.WAV\n")  # the suffix differs
        utt2spk.append(f"{number}\t000{number}\n")
    (root / "WAVE/SPEAKER0001/1.wav").write_bytes(b"")
    scp.append("9\tWAVE/SPEAKER0001/9.WAV\n")
    utt2spk.append("9\t0001\n")
    (root / "train/wav.scp").write_text("".join(scp))
    (root / "train/utt2spk").write_text("".join(utt2spk))
    (root / "train/spk2utt").write_text("0000 0\n0001 1 9\n0002 2\n")
    (root / "train/text").write_text("0 HELLO\n1 YOU THERE\n2\n")
    (root / "train/spk2age").write_text("0000 7\n0001 8\n")
    trials = "0 WAVE/SPEAKER0000/0.wav WAVE/SPEAKER0001/1.wav\n"
    (root / "trials.txt").write_text(trials)
    (root / "NOTES.txt").write_text("These are notes.\nOf two lines.\n")
    (root / "WAVE/LICENSE").write_text("free")
    report = pack("speechocean762", root, out, "opus", processes=1)
    assert report["left_out_names"] == {
        "missing": ["WAVE/SPEAKER0001/9.WAV"],
        "unreadable": ["WAVE/SPEAKER0001/1.wav"],
    }
    kept = "".join(f"{n}\tWAVE/SPEAKER000{n}/{n}.opus\n" for n in (0, 2, 3))
    assert (out / "train/wav.scp").read_text() == kept
    assert (out / "train/utt2spk").read_text() == "0\t0000\n2\t0002\n3\t0003\n"
    assert (out / "train/spk2utt").read_text() == "0000 0\n0002 2\n"
    assert (out / "train/text").read_text() == "0 HELLO\n2\n"
    for name in ("train/spk2age", "NOTES.txt", "WAVE/LICENSE"):
        assert (out / name).read_bytes() == (root / name).read_bytes()
    assert (out / "trials.txt").read_text() == trials.replace("0.wav", "0.opus")
    assert any(
        "trials.txt names left-out recordings 1 times" in line for line in lines(out, report)
    )


def test_nothing_to_pack_is_an_error_that_names_a_file(tmp_path: Path):
    (tmp_path / "root/a").mkdir(parents=True)
    (tmp_path / "root/a/1.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="nothing could be packed: a/1.wav is empty"):
        pack("folder", tmp_path / "root", tmp_path / "out", processes=1)


@pytest.mark.slow
def test_the_result_is_a_corpus_and_can_be_packed_again(packed: Path, mixed: Path, tmp_path: Path):
    report = check("voxceleb2", packed, full=True)
    assert report.ok and (report.speakers, report.utterances) == (6, 36)
    pack("voxceleb2", packed, tmp_path / "again", shard_mb=SHARD_MB, processes=1)
    assert members(tmp_path / "again") == members(packed)
    pack("folder", mixed, tmp_path / "copy", "copy", processes=1)
    pack("folder", tmp_path / "copy", tmp_path / "from-copy", processes=1)  # m4a in a shard
    pack("folder", mixed, tmp_path / "from-files", processes=1)
    assert members(tmp_path / "from-copy") == members(tmp_path / "from-files")
