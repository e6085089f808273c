"""Corpora in tar shards: read like folders, refused in one line when anything is wrong with them."""

import io
import multiprocessing
import os
import signal
import tarfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from oskdft.speech import audio, noise
from oskdft.speech.corpora import layouts, shards, tar_archive
from oskdft.speech.corpora.check import check
from oskdft.speech.corpora.tables import Utterances, load_corpus
from oskdft.speech.corpora.trials import read_trials
from oskdft.speech.dataset import SpeakerDataset, loader


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OSKDFT_DATA", raising=False)
    monkeypatch.setattr(shards, "_indexed", {})  # a new process
    return tmp_path / "cache" / "oskdft"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus"


def recording(number: int, suffix: str = ".wav", seconds: float = 1.0) -> bytes:
    """An encoded recording; each number sounds different."""
    wave = np.random.default_rng(number).normal(0, 0.1, round(16_000 * seconds))
    kind = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".opus": ("OGG", "OPUS")}
    container, subtype = kind[suffix]
    encoded = io.BytesIO()
    soundfile.write(encoded, wave, 16_000, format=container, subtype=subtype)
    return encoded.getvalue()


def pack(path: Path, *members: str | tuple[str, bytes] | tarfile.TarInfo, **options) -> Path:
    """A tar of recordings (by name), other contents, or bare headers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for number, member in enumerate(members):
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member, io.BytesIO(bytes(member.size)))
                continue
            if isinstance(member, str):
                member = member, recording(number, Path(member).suffix)
            header = tarfile.TarInfo(member[0])
            header.size = len(member[1])
            archive.addfile(header, io.BytesIO(member[1]))
    return path


def unpack(root: Path, folder: Path) -> Path:
    """The same corpus as plain files."""
    for path in root.iterdir():
        if path.suffix == ".tar":
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
        else:
            folder.mkdir(exist_ok=True)
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def rows(utterances: Utterances) -> list[tuple]:
    columns = (utterances.speaker, utterances.session, utterances.measured().seconds)
    return list(zip(utterances.names(), *(column.tolist() for column in columns), strict=True))


# --- the same as a folder


@pytest.mark.parametrize(
    ("corpus", "names"),
    [
        ("folder", ("zoë/day 1/a b.wav", "ann/1.flac", "ann/b/2.wav", "ann/3.WAV", "loose.wav")),
        ("voxceleb1", ("wav/id10001/v/00001.wav", "wav/id10270/w/00002.wav", "wav/stray.wav")),
        ("voxceleb2", ("dev/aac/id00012/v/1.m4a", "dev/wav/id00012/v/1.wav")),
        ("librispeech", ("dev-clean/84/121/84-121-0000.flac", "19/198/19-198-0001.flac")),
        ("musan", ("speech/us-gov/1.wav", "noise/free-sound/2.wav", "other/3.wav")),
        ("rirs_noises", ("simulated_rirs/smallroom/Room001/1.wav", "real_rirs/2.flac")),
    ],
)
def test_a_corpus_in_shards_is_read_as_one_in_folders(root, tmp_path, corpus, names):
    half = len(names) // 2
    members = [
        (name, recording(number, ".wav" if name.endswith(("a", "WAV")) else Path(name).suffix))
        for number, name in enumerate(names)
    ]
    pack(root / "part-0.tar", *members[:half], ("ann/notes.txt", b"text"))
    pack(root / "part-1.tar", *members[half:])
    plain = unpack(root, tmp_path / "plain")
    assert list(layouts.audio_below(root)) == list(layouts.audio_below(plain))
    packed, unpacked = load_corpus(corpus, root), load_corpus(corpus, plain)
    assert rows(packed) == rows(unpacked) and packed.speakers == unpacked.speakers
    for index in range(len(packed)):
        one, other = audio.read(packed.path(index)), audio.read(unpacked.path(index))
        np.testing.assert_array_equal(one, other)
    assert check(corpus, root).lines()[1:] == check(corpus, plain).lines()[1:]


def test_tables_and_trial_lists_lie_beside_the_shards(root):
    names = ("00010001", "00010002", "00030001")
    pack(root / "a.tar", *(f"WAVE/SPEAKER{name[:4]}/{name}.opus" for name in names))
    for part, chosen in (("train", names[:2]), ("test", names[2:])):
        (root / part).mkdir()
        scp = "".join(f"{n}\tWAVE/SPEAKER{n[:4]}/{n}.WAV\n" for n in chosen)
        (root / part / "wav.scp").write_text(scp)
        (root / part / "utt2spk").write_text("".join(f"{n} {n[:4]}\n" for n in chosen))
    corpus = load_corpus("speechocean762", root)
    assert corpus.name(2) == "WAVE/SPEAKER0003/00030001.opus"
    lines = [f"1 WAVE/SPEAKER0001/{n}.WAV WAVE/SPEAKER0001/{n}.WAV\n" for n in names[:2]]
    (root / "trials.txt").write_text("".join(lines))
    assert read_trials(root / "trials.txt", root).paths == [corpus.name(0), corpus.name(1)]
    with open(root / "trials.txt", "a") as file:
        file.write("0 WAVE/SPEAKER0001/00010001.WAV WAVE/SPEAKER0009/1.WAV\n")
    with pytest.raises(FileNotFoundError, match="1 of 3 recordings are not below"):
        read_trials(root / "trials.txt", root)


def test_shards_beside_folders(root):
    pack(root / "a.tar", "ann/2.wav", "bob/x/1.wav")
    for name in ("ann/1.wav", "ann/3.wav", "bob/2.wav"):
        audio.write(root / name, np.full(16_000, 0.1))
    names = ["ann/1.wav", "ann/2.wav", "ann/3.wav", "bob/2.wav", "bob/x/1.wav"]
    assert list(layouts.audio_below(root)) == names
    assert load_corpus("folder", root).measured().seconds.tolist() == [1.0] * 5


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus"])
@pytest.mark.parametrize("seconds", [2.0, 20.0])
def test_crops_equal_those_of_plain_files(root, tmp_path, suffix, seconds):
    content = recording(0, suffix, seconds)
    pack(root / "a.tar", ("a/0.txt", b"x" * 777), (f"a/1{suffix}", content), "a/2.wav")
    load_corpus("folder", root)
    plain = tmp_path / f"plain{suffix}"
    plain.write_bytes(content)
    packed = root / "a" / f"1{suffix}"
    assert audio.info(packed) == audio.info(plain)
    np.testing.assert_array_equal(audio.decode(packed), audio.decode(plain))
    for start, samples in ((0, 100), (7_777, 16_000), (31_000, None)):
        crop = audio.read(packed, start, samples)
        np.testing.assert_array_equal(crop, audio.read(plain, start, samples))


def test_noise_and_rooms_in_shards(root):
    pack(root / "a.tar", "noise/free-sound/1.wav", "music/fma/2.wav")
    assert noise.noise_files(str(root)) == {
        "noise": ["noise/free-sound/1.wav"],
        "music": ["music/fma/2.wav"],
    }
    clips = noise.Clips(str(root), ["noise/free-sound/1.wav"])
    assert len(clips.whole(0)) == 16_000


def training(root: Path, workers: int) -> list[np.ndarray]:
    data = SpeakerDataset(load_corpus("folder", root), 0.5, seed=0)
    batches = loader(data, batch=2, steps=4, workers=workers)
    return [batch[0].numpy() for batch in batches]


def test_training_batches_are_those_of_plain_files(root, tmp_path):
    pack(root / "a.tar", *(f"{who}/{i}.flac" for who in "ab" for i in range(3)))
    packed = training(root, workers=0)
    np.testing.assert_array_equal(packed, training(unpack(root, tmp_path / "plain"), workers=0))
    np.testing.assert_array_equal(packed, training(root, workers=2))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_at_the_same_time(root, method):
    pack(root / "a.tar", *(f"a/{i}.wav" for i in range(20)))
    paths = [load_corpus("folder", root).path(i) for i in range(20)] * 2
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        waves = list(pool.map(audio.read, paths))
    for path, wave in zip(paths, waves, strict=True):
        np.testing.assert_array_equal(wave, audio.read(path))


def test_a_signal_ends_a_read_and_never_shortens_it(tmp_path):
    """libsndfile calls Python back for each piece and loses an exception raised there."""
    length = 100 * 16_000
    noise_bits = np.random.default_rng(0).integers(-(2**15), 2**15, length, np.int16)
    with io.BytesIO() as file:
        soundfile.write(file, noise_bits, 16_000, format="FLAC")
        pack(tmp_path / "a.tar", ("s/a.flac", file.getvalue()))
    audio.info(tmp_path / "s" / "a.flac")  # the index is made

    class Alarm(Exception):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    interrupted = 0
    try:
        for delay in np.linspace(0.0005, 0.02, 40):
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                assert len(audio.read(tmp_path / "s" / "a.flac")) == length
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Alarm:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 10


def test_a_member_is_found_by_its_path_alone(root, monkeypatch):
    pack(root / "a.tar", "ann/1.wav")
    assert len(audio.read(root / "ann" / "1.wav")) == 16_000
    monkeypatch.chdir(root)
    assert audio.info("ann/1.wav").samples == 16_000
    with pytest.raises(FileNotFoundError, match="ann/2.wav does not exist"):
        audio.read(root / "ann" / "2.wav")


def test_archives_beside_a_mistyped_path_are_not_indexed(root):
    (root / "thesis.tar").write_bytes(b"no tar")
    with pytest.raises(FileNotFoundError, match=r"mine\.wav does not exist"):
        audio.read(root / "mine.wav")


# --- the index


def test_the_index_is_remembered_until_a_shard_changes(root, own_cache, monkeypatch):
    shard = pack(root / "a.tar", "ann/1.wav")
    assert list(shards.shards_of(root).names()) == ["ann/1.wav"]
    monkeypatch.setattr(shards, "_indexed", {})
    content, status = shard.read_bytes(), shard.stat()
    shard.write_bytes(bytes(len(content)))  # an index made anew would be empty
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert list(shards.shards_of(root).names()) == ["ann/1.wav"]
    shard.write_bytes(content)
    pack(root / "b.tar", "ann/2.wav")
    assert list(shards.shards_of(root).names()) == ["ann/1.wav", "ann/2.wav"]
    (root / "a.tar").unlink()
    assert list(shards.shards_of(root).names()) == ["ann/2.wav"]
    monkeypatch.setattr(shards, "_indexed", {})
    [file] = (own_cache / "shards").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert list(shards.shards_of(root).names()) == ["ann/2.wav"]


def test_a_changed_shard_is_noticed_when_read(root):
    pack(root / "a.tar", "ann/1.wav")
    path = load_corpus("folder", root).path(0)
    audio.read(path)
    with open(root / "a.tar", "r+b") as file:
        file.write(b"x")
    os.utime(root / "a.tar", ns=(0, 0))
    with pytest.raises(ValueError, match=r"a\.tar changed since it was indexed; run the command"):
        audio.read(path)
    (root / "a.tar").unlink()
    shards._opened.cache_clear()
    with pytest.raises(ValueError, match=r"a\.tar: No such file or directory; restore the shard"):
        audio.read(path)


def test_headers_are_read_again_when_a_shard_changes(root):
    pack(root / "a.tar", ("ann/1.wav", recording(0, seconds=1)))
    assert load_corpus("folder", root).measured().seconds.tolist() == [1.0]
    assert load_corpus("folder", root).seconds.tolist() == [1.0]
    pack(root / "a.tar", ("ann/1.wav", recording(0, seconds=2)))
    assert load_corpus("folder", root).measured().seconds.tolist() == [2.0]


def test_packed_columns_take_less_than_100_bytes(root):
    names = [f"dev/aac/id{i % 99:05}/{i // 7:011}/{i % 7:05}.m4a" for i in range(7_000)]
    names = sorted(set(names))
    pack(root / "a.tar", *((name, b"") for name in names))
    index = shards.shards_of(root)
    columns = (index.keys, index.shard, index.offset, index.size)
    assert list(index.names()) == names
    assert sum(column.nbytes for column in columns) / len(index) < 100
    assert [index.find(name) for name in names[::500]] == list(range(0, len(names), 500))
    assert index.find("dev/aac") == index.find("zzz.wav") == index.find("") == -1
    assert index.has_folder("dev/aac") and not index.has_folder("dev/aa")


# --- what is refused


def header(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        (header("../a.wav"), r"the member '\.\./a\.wav' leads out of the folder"),
        (header("a/../../b.wav"), "leads out of the folder"),
        (header("/etc/a.wav"), "leads out of the folder"),
        (header("a/b.wav", tarfile.SYMTYPE, "/etc/passwd"), "is a link, a device or sparse"),
        (header("a/b.wav", tarfile.LNKTYPE, "a/1.wav"), "is a link, a device or sparse"),
        (header("a/b.wav", tarfile.FIFOTYPE), "is a link, a device or sparse"),
        (header("a/b.wav", tarfile.CHRTYPE), "is a link, a device or sparse"),
        (header("a//b.wav"), "has an impossible name"),
        (header("a/" + 5_000 * "b" + ".wav"), "has an impossible name"),
        (header("a/" + 50_000 * "b" + ".wav"), "a header is too long"),
    ],
    ids=lambda value: value.name[:12] if isinstance(value, tarfile.TarInfo) else "",
)
def test_members_that_are_refused(root, member, fault):
    pack(root / "shard-0.tar", "a/1.wav", member, "a/2.wav")
    with pytest.raises(ValueError, match=rf"shard-0\.tar cannot be used: .*{fault}.*; make the sh"):
        load_corpus("folder", root)


def test_header_bombs_are_refused(root):
    chain = tarfile.TarInfo("a/1.wav")
    chain.pax_headers = {f"key{i}": "v" * 500 for i in range(100)}
    pack(root / "a.tar", chain, format=tarfile.PAX_FORMAT)
    with pytest.raises(ValueError, match="a header is too long"):
        shards.shards_of(root)
    extended = tarfile.TarInfo("x")
    extended.type, extended.size = tarfile.XHDTYPE, 0
    (root / "a.tar").write_bytes(extended.tobuf(tarfile.USTAR_FORMAT) * 5_000)
    with pytest.raises(ValueError, match="cannot be used"):
        shards.shards_of(root)
    extended.size = -512
    (root / "a.tar").write_bytes(extended.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    with pytest.raises(ValueError, match="cannot be used"):
        shards.shards_of(root)


def test_a_name_twice(root):
    pack(root / "a.tar", "ann/1.wav")
    pack(root / "b.tar", "ann/2.wav", "./ann/1.wav")
    with pytest.raises(ValueError, match=r"ann/1\.wav is in a\.tar and again in b\.tar; take one"):
        load_corpus("folder", root)
    pack(root / "b.tar", "ann/2.wav", "ann/2.wav")
    with pytest.raises(ValueError, match=r"ann/2\.wav is in b\.tar and again in b\.tar"):
        load_corpus("folder", root)
    pack(root / "b.tar", "ann/2.wav")
    audio.write(root / "ann" / "2.wav", np.ones(9_000))
    with pytest.raises(ValueError, match=r"ann/2\.wav is a file and also in b\.tar; take one out"):
        load_corpus("folder", root)


def compressed(path: Path) -> None:
    content = path.read_bytes()
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("a/1.wav")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


def cut(share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        os.truncate(path, int(path.stat().st_size * share))

    return damage


def rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (compressed, r"is compressed, .*; decompress it: gzip -d"),
        (cut(0.5), "'a/1.wav' is cut off"),
        (rewrite(lambda content: content.rstrip(b"\0") + b"\0"), "is cut off|unexpected end"),
        (cut(0.0), "empty file"),
        (rewrite(lambda content: content + content), "a second archive begins at byte"),
        (rewrite(lambda content: b"no tar" * 999), "cannot be used: .*invalid header"),
        (
            rewrite(lambda content: content[:32_768] + b"x" + content[32_769:]),
            "a damaged header or a second archive begins at byte 32768",
        ),
    ],
)
def test_archives_that_are_refused(root, damage, fault):
    path = pack(root / "shard-0.tar", "a/0.wav", "a/1.wav")
    damage(path)
    with pytest.raises(ValueError, match=rf"shard-0\.tar .*({fault})"):
        load_corpus("folder", root)


def test_a_member_that_is_not_audio_is_named_with_its_shard(root):
    pack(root / "s.tar", "ann/1.wav", ("ann/2.wav", b"no audio"), ("ann/3.wav", b""))
    report = check("folder", root)
    assert report.unreadable[0].startswith(f"{root}/ann/2.wav (in s.tar) cannot be read")
    assert report.unreadable[1] == (f"{root}/ann/3.wav (in s.tar) is empty; pack the shard again")


def test_any_byte_may_be_wrong(root):
    """A damaged archive is refused or read; nothing else is raised."""
    good = pack(root / "a.tar", "a/1.wav", format=tarfile.PAX_FORMAT).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(good)
        for place in rng.integers(0, 512, rng.integers(1, 4)):
            content[place] = rng.integers(256)
        (root / "a.tar").write_bytes(content)
        try:
            tar_archive.members(str(root / "a.tar"))
        except ValueError as error:
            assert "a.tar" in str(error) and "\n" not in str(error)
