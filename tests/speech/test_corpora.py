"""Tables, readers of every layout, trial lists, the development split."""

import os
from pathlib import Path

import numpy as np
import pytest

from oskdft import config
from oskdft.speech import audio, protocol
from oskdft.speech.corpora import catalogue, layouts, pack, people, tables
from oskdft.speech.corpora.drawn_trials import make_trials
from oskdft.speech.corpora.tables import Utterances, dev_split, load_corpus
from oskdft.speech.corpora.trials import Trials, list_name, read_trials, write_trials

NOISE = np.random.default_rng(0).normal(0, 0.1, 12_000)  # 0.75 s


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OSKDFT_DATA", raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "corpus"


def put(root: Path, *names: str) -> None:
    """Small FLAC or WAV recordings; other suffixes are empty files, enough for a reader."""
    for name in names:
        path = root / name
        if path.suffix.lower() in (".flac", ".wav"):
            wanted = path.with_suffix(path.suffix.lower())
            audio.write(wanted, NOISE)
            wanted.rename(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def rows(utterances: Utterances) -> list[tuple[str, str, str]]:
    """(path, speaker, session) of each utterance."""
    sessions = [*utterances.sessions, ""]
    return [
        (name, utterances.speakers[who], sessions[where])
        for name, who, where in zip(
            utterances.names(), utterances.speaker, utterances.session, strict=True
        )
    ]


# --- tables


def small_table() -> Utterances:
    return Utterances.from_rows(
        "/data",
        [
            ("b/x/1.wav", "b", "x", 1.0),
            ("a/2 é.wav", "a", "", 2.0),
            ("b/y/3.wav", "b", "y", np.nan),
        ],
    )


def test_table_sorts_labels_and_keeps_rows():
    t = small_table()
    assert t.speakers == ["a", "b"] and t.speaker.tolist() == [1, 0, 1]
    assert t.sessions == ["x", "y"] and t.session.tolist() == [0, -1, 1]
    assert (t.speaker.dtype, t.session.dtype, t.seconds.dtype) == (np.int32, np.int32, np.float32)
    assert t.path(1) == Path("/data/a/2 é.wav") and t.name(-1) == "b/y/3.wav"
    assert t.counts().tolist() == [1, 2]
    assert list(t.names()) == [t.name(i) for i in range(3)]
    with pytest.raises(IndexError):
        t.name(3)


def test_select_by_mask_and_by_index_relabels():
    t = small_table()
    by_mask, by_index = t.select(np.array([True, False, True])), t.select([2, 0])
    assert by_mask.speakers == ["b"] and by_mask.speaker.tolist() == [0, 0]
    assert rows(by_index) == [("b/y/3.wav", "b", "y"), ("b/x/1.wav", "b", "x")]
    assert by_index.sessions == ["x", "y"] and np.isnan(by_index.seconds[0])
    none = t.select([])
    assert len(none) == 0 and none.speakers == [] and list(none.names()) == []


def test_a_name_that_is_not_unicode_survives():
    name = os.fsdecode(b"a/\xff.wav")
    assert Utterances.from_rows("/data", [(name, "a", "", 1.0)]).name(0) == name


def test_memory_is_a_path_and_twelve_bytes():
    t = Utterances.from_rows(
        "/data", ((f"id{i % 99:05}/v/{i:05}.wav", str(i % 99), "v", 1.0) for i in range(9_000))
    )
    columns = (t.paths, t.speaker, t.seconds, t.session)
    assert sum(column.nbytes for column in columns) == (19 + 12) * len(t)


# --- readers


def test_folder(root: Path):
    put(root, "Zoë K/day 1/a b.wav", "ann/1.flac", "ann/.hidden.wav", "loose.wav", "ann/notes.txt")
    t = load_corpus("folder", root)
    assert rows(t) == [("Zoë K/day 1/a b.wav", "Zoë K", "day 1"), ("ann/1.flac", "ann", "")]
    assert np.isnan(t.seconds).all() and t.measured().seconds.tolist() == [0.75, 0.75]
    assert tables.list_utterances("folder", root)[1] == ["loose.wav"]


def test_a_link_to_a_folder_above_ends(root: Path):
    put(root, "ann/1.wav")
    (root / "ann" / "loop").symlink_to(root)
    assert list(layouts.audio_below(root)) == ["ann/1.wav"]


def test_labels_do_not_depend_on_directory_order(root: Path, monkeypatch: pytest.MonkeyPatch):
    put(root, *(f"{who}/{i}.wav" for who in "cab" for i in range(2)))
    walk = os.walk

    def backwards(*args, **kwargs):
        for folder, folders, names in walk(*args, **kwargs):
            folders.sort(reverse=True)
            yield folder, folders, names[::-1]

    first = rows(load_corpus("folder", root))
    monkeypatch.setattr(os, "walk", backwards)
    assert rows(load_corpus("folder", root)) == first


def test_librispeech_with_and_without_subsets(root: Path):
    put(root, "train-clean-5/19/198/19-198-0001.flac", "dev-clean-2/84/121/84-121-0000.flac")
    assert rows(load_corpus("mini_librispeech", root, "dev-clean-2")) == [
        ("dev-clean-2/84/121/84-121-0000.flac", "84", "121")
    ]
    assert len(load_corpus("mini_librispeech", root)) == 2
    put(root / "flat", "103/103-1240-0000.ogg", "26/26-495-0001.flac")
    assert rows(load_corpus("librispeech", root / "flat")) == [
        ("103/103-1240-0000.ogg", "103", "1240"),
        ("26/26-495-0001.flac", "26", "495"),
    ]


def test_training_speech_of_librispeech_has_no_test_or_development_speakers(root: Path):
    subsets = {
        "19": "train-clean-100",
        "20": "train-other-500",
        "61": "test-clean",
        "84": "dev-other",
    }
    put(
        root / "all",
        *(f"LibriSpeech/{subset}/{who}/1/{who}-1-0000.flac" for who, subset in subsets.items()),
    )
    put(root / "dev-clean", "85/1/85-1-0000.flac")
    assert tables.training_split("librispeech") == "train"
    assert load_corpus("librispeech", root / "all", "train").speakers == ["19", "20"]
    # a subset that is itself the root was chosen by hand
    assert load_corpus("librispeech", root / "dev-clean", "train").speakers == ["85"]
    with pytest.raises(ValueError, match="no split 'test'"):
        load_corpus("librispeech", root / "all", "test")


@pytest.mark.parametrize("prefix", ["", "wav/"])
def test_voxceleb1(root: Path, prefix: str):
    put(root, f"{prefix}id10001/vid/00001.wav", f"{prefix}id10270/5r0/00002.wav")
    assert rows(load_corpus("voxceleb1", root, "test")) == [
        (f"{prefix}id10270/5r0/00002.wav", "id10270", "5r0")
    ]
    assert load_corpus("voxceleb1", root, "dev").speakers == ["id10001"]
    put(root, f"{prefix}id10001/stray.wav")
    assert tables.list_utterances("voxceleb1", root)[1] == [f"{prefix}id10001/stray.wav"]


def test_a_folder_of_both_voxcelebs_gives_the_speakers_of_one(root: Path):
    put(root, "voxceleb1/wav/id10001/v/00001.wav", "voxceleb2/dev/wav/id00012/v/00001.wav")
    for name, speaker in (("voxceleb1", "id10001"), ("voxceleb2", "id00012")):
        found, others = tables.list_utterances(name, root)
        assert found.speakers == [speaker] and len(others) == 1


def test_voxceleb2_m4a_and_wav_trees(root: Path):
    put(root, "dev/aac/id00012/v/00001.m4a", "test/aac/id00017/v/00001.m4a")
    assert rows(load_corpus("voxceleb2", root, "dev")) == [
        ("dev/aac/id00012/v/00001.m4a", "id00012", "v")
    ]
    put(root, "dev/wav/id00012/v/00001.wav")  # converted: counts once
    assert [name for name, *_ in rows(load_corpus("voxceleb2", root))] == [
        "dev/wav/id00012/v/00001.wav",
        "test/aac/id00017/v/00001.m4a",
    ]


def test_musan_category_is_the_folder_below_the_root(tmp_path: Path):
    root = tmp_path / "music" / "noise"  # the whole path must not decide
    put(root, "speech/us-gov/1.wav", "noise/free-sound/music/2.wav", "other/3.wav")
    t, extra = tables.list_utterances("musan", root)
    assert [who for _, who, _ in rows(t)] == ["noise", "speech"]
    assert t.sessions == ["free-sound/music", "us-gov"] and extra == ["other/3.wav"]


def test_rirs_noises(root: Path):
    put(root, "simulated_rirs/smallroom/Room001/1.wav")
    assert rows(load_corpus("rirs_noises", root)) == [
        ("simulated_rirs/smallroom/Room001/1.wav", "simulated_rirs", "smallroom/Room001")
    ]


def speechocean(root: Path, suffix: str) -> None:
    """Two utterances in train, one in test; the tables say .WAV."""
    put(root, *(f"WAVE/SPEAKER{u[:4]}/{u}{suffix}" for u in ("00010001", "00010002", "00030001")))
    for split, names in (("train", ("00010001", "00010002")), ("test", ("00030001",))):
        text(root / split / "wav.scp", *(f"{u}\tWAVE/SPEAKER{u[:4]}/{u}.WAV" for u in names))
        text(root / split / "utt2spk", *(f"{u} {u[:4]}" for u in names))
        text(root / split / "spk2gender", f"{names[0][:4]} f")
        text(root / split / "spk2age", f"{names[0][:4]} 6")


@pytest.mark.parametrize("suffix", [".WAV", ".wav", ".flac", ".ogg"])
def test_speechocean762_finds_any_suffix(root: Path, suffix: str):
    speechocean(root, suffix)
    t = load_corpus("speechocean762", root)
    assert [name for name, *_ in rows(t)][2] == f"WAVE/SPEAKER0003/00030001{suffix}"
    assert t.counts().tolist() == [2, 1] and t.session.tolist() == [-1, -1, -1]
    assert load_corpus("speechocean762", root, "test").speakers == ["0003"]
    assert people.speaker_info("speechocean762", root)["0001"] == {"gender": "f", "age": 6}


def test_files_of_a_table_that_are_absent_are_counted_in_one_error(root: Path):
    speechocean(root, ".wav")
    (root / "WAVE/SPEAKER0001/00010002.wav").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of 3 files .*00010002\.WAV; see oskdft data check"
    ):
        load_corpus("speechocean762", root)


def test_a_table_without_a_speaker_is_named(root: Path):
    speechocean(root, ".wav")
    text(root / "train" / "utt2spk", "00010001 0001")
    with pytest.raises(ValueError, match="utt2spk lacks 00010002"):
        load_corpus("speechocean762", root)
    text(root / "train" / "utt2spk", "00010001")
    with pytest.raises(ValueError, match=r"utt2spk, line 1: '00010001' has no value"):
        load_corpus("speechocean762", root)


def test_genders_of_librispeech_and_voxceleb(root: Path):
    text(
        root / "SPEAKERS.TXT",
        "; some | words",
        ";ID  |SEX| SUBSET           |MINUTES| NAME",
        "14   | F | train-clean-360  | 25.03 | Kristin LeMoine",
    )
    text(root / "vox1_meta.csv", "VoxCeleb1 ID\tVGGFace1 ID\tGender\tSet", "id10001\tA_B\tm\tdev")
    text(root / "vox2_meta.csv", "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set ", "id00012 ,n1 ,f ,dev ")
    (root / "dev" / "wav").mkdir(parents=True)
    assert people.speaker_info("librispeech", root) == {"14": {"gender": "f"}}
    assert people.speaker_info("voxceleb1", root / "dev") == {"id10001": {"gender": "m"}}
    assert people.speaker_info("voxceleb2", root / "dev" / "wav") == {"id00012": {"gender": "f"}}
    assert people.speaker_info("folder", root) == {}


def test_empty_folder_unknown_corpus_and_unknown_split(root: Path):
    root.mkdir()
    with pytest.raises(FileNotFoundError, match="no audio in the layout of voxceleb1; expected"):
        load_corpus("voxceleb1", root)
    with pytest.raises(ValueError, match="did you mean voxceleb1"):
        load_corpus("voxcelb1", root)
    with pytest.raises(ValueError, match="has no split 'eval'; it has dev, test"):
        load_corpus("voxceleb1", root, "eval")


def test_measured_names_what_cannot_be_read(root: Path):
    put(root, "ann/1.wav")
    text(root / "ann" / "2.wav", "no audio")
    with pytest.raises(ValueError, match=r"1 of 2 files .*ann/2\.wav; check the corpus"):
        load_corpus("folder", root).measured()


def test_scanned_seconds_are_used_until_the_file_changes(root: Path):
    put(root, "ann/1.wav")
    load_corpus("folder", root).measured()
    assert load_corpus("folder", root).seconds.tolist() == [0.75]
    audio.write(root / "ann/1.wav", np.tile(NOISE, 2))
    assert np.isnan(load_corpus("folder", root).seconds).all()
    assert load_corpus("folder", root).measured().seconds.tolist() == [1.5]


# --- where corpora are


def test_find_root_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="CC BY 4.0; 11 GB.*oskdft data get musan"):
        catalogue.find_root("musan")
    with pytest.raises(FileNotFoundError, match="register at https"):
        catalogue.find_root("voxceleb1")
    (tmp_path / "data" / "musan").mkdir(parents=True)
    assert catalogue.find_root("musan") == Path("data/musan")
    (tmp_path / "disk" / "RIRS_NOISES").mkdir(parents=True)
    monkeypatch.setenv("OSKDFT_DATA", str(tmp_path / "disk"))
    assert catalogue.find_root("rirs_noises") == tmp_path / "disk" / "RIRS_NOISES"
    assert catalogue.find_root("musan", tmp_path) == tmp_path
    here = {row["name"]: row["here"] for row in catalogue.list_corpora()}
    assert here["speechbox"] and here["musan"] and here["rirs_noises"] and not here["voxceleb2"]
    with pytest.raises(FileNotFoundError, match="--root"):
        catalogue.find_root("folder")


# --- development speakers


def many(speakers: int = 12, each: int = 6, sessions: int = 3) -> Utterances:
    names = (
        (f"s{k:02}/{i % sessions}/{i}.wav", k, i) for k in range(speakers) for i in range(each)
    )
    return Utterances.from_rows(
        "/data", [(n, f"s{k:02}", str(i % sessions), 1.0) for n, k, i in names]
    )


def test_dev_split_is_disjoint_seeded_and_complete():
    t = many()
    train, dev = dev_split(t, speakers=3, seed=1)
    assert (len(train.speakers), len(dev.speakers)) == (9, 3)
    assert sorted([*train.speakers, *dev.speakers]) == t.speakers
    assert len(train) + len(dev) == len(t)
    assert dev_split(t, speakers=3, seed=1)[1].speakers == dev.speakers
    assert len({tuple(dev_split(t, 3, seed)[1].speakers) for seed in range(9)}) > 1
    assert dev.speaker.max() == 2  # labels start at 0 again


@pytest.mark.parametrize("speakers", [0, 1, 12, 13, -1])
def test_dev_split_refuses_too_few_on_a_side(speakers: int):
    with pytest.raises(ValueError, match="development speakers of 12"):
        dev_split(many(), speakers)


def pairs(trials: Trials, label: int) -> list[tuple[str, str]]:
    chosen = trials.label == label
    return [
        (trials.paths[a], trials.paths[b])
        for a, b in zip(trials.enrol[chosen], trials.test[chosen], strict=True)
    ]


def test_made_trials_are_right_unique_and_across_sessions():
    trials = make_trials(many(), seed=3, per_speaker=5)
    assert (trials.label.sum(), len(trials)) == (60, 120)
    for a, b in pairs(trials, 1):
        assert a.split("/")[0] == b.split("/")[0] and a.split("/")[1] != b.split("/")[1]
    for a, b in pairs(trials, 0):
        assert a.split("/")[0] != b.split("/")[0]
    both = pairs(trials, 0) + pairs(trials, 1)
    assert len({frozenset(pair) for pair in both}) == len(trials)
    again = make_trials(many(), seed=3, per_speaker=5)
    assert pairs(again, 0) == pairs(trials, 0) and pairs(again, 1) == pairs(trials, 1)
    assert pairs(make_trials(many(), seed=4, per_speaker=5), 0) != pairs(trials, 0)


def test_made_trials_of_one_gender():
    info = {f"s{k:02}": {"gender": "mf"[k % 2]} for k in range(12)}
    for a, b in pairs(make_trials(many(), same_gender=info), 0):
        assert int(a[1:3]) % 2 == int(b[1:3]) % 2


def test_trials_that_cannot_be_made():
    with pytest.raises(ValueError, match="give 0 target"):
        make_trials(many(each=1))
    with pytest.raises(ValueError, match="0 non-target"):
        make_trials(many(speakers=1))
    with pytest.raises(ValueError, match="two sessions"):
        make_trials(many(sessions=1))
    unknown = Utterances.from_rows(
        "/data", [(f"{w}/{i}.wav", w, "", 1.0) for w in "ab" for i in range(3)]
    )
    assert make_trials(unknown).label.sum() == 6  # sessions unknown: every pair may serve


# --- trial lists


def test_both_formats_say_the_same(tmp_path: Path):
    a = read_trials(text(tmp_path / "vox.txt", "1 a/1.wav a/2.wav", "", "0 a/1.wav b/1.wav"))
    b = read_trials(
        text(tmp_path / "kaldi.txt", "a/1.wav a/2.wav target", "a/1.wav b/1.wav nontarget")
    )
    for t in (a, b):
        assert t.label.tolist() == [1, 0] and t.paths == ["a/1.wav", "a/2.wav", "b/1.wav"]
        assert t.enrol.tolist() == [0, 0] and t.test.tolist() == [1, 2]
        assert (t.label.dtype, t.enrol.dtype) == (np.uint8, np.int32)
        assert t.name == "unknown list of 2 trials" and len(t) == 2


def test_unicode_windows_line_ends_and_a_byte_order_mark(tmp_path: Path):
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeff1 Zoë/é.wav 王/一.wav\r\n0 Zoë/é.wav b.wav\r\n".encode())
    assert read_trials(path).paths == ["Zoë/é.wav", "王/一.wav", "b.wav"]


def test_names_with_blanks_need_tabs(tmp_path: Path):
    with pytest.raises(ValueError, match=r"line 2: .* has 5 fields.* tabs between the fields"):
        read_trials(text(tmp_path / "bad.txt", "1 a.wav b.wav", "0 my voice.wav my noise.wav"))
    path = tmp_path / "good.txt"
    one = np.array([1], np.uint8)
    write_trials(path, Trials(one, one * 0, one, ["my voice.wav", "b\u3000c.wav"], ""))
    assert path.read_text(encoding="utf-8") == "1\tmy voice.wav\tb\u3000c.wav\n"
    assert read_trials(path).paths == ["my voice.wav", "b\u3000c.wav"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "holds no trials"),
        (("  ",), "holds no trials"),
        (("1 a.wav",), r"line 1: '1 a.wav' is no trial; expected 0\|1 path path"),
        (("2 a.wav b.wav",), "line 1: .* is no trial"),
        (("a b target", "a c maybe"), r"line 2: .*target\|nontarget"),
        (
            ("1 a.wav b.wav", "0 b.wav a.wav"),
            "a.wav and b.wav are listed as the same speaker and as",
        ),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, lines: tuple[str, ...], message: str):
    with pytest.raises(ValueError, match=message):
        read_trials(text(tmp_path / "list.txt", *lines))


def test_no_list_and_a_list_that_is_not_text(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no such trial list"):
        read_trials(tmp_path / "absent.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_trials(tmp_path / "list.txt")


def test_duplicates_are_counted_in_either_order(tmp_path: Path, capsys: pytest.CaptureFixture):
    path = text(tmp_path / "list.txt", "1 a b", "1 a b", "1 b a", "0 a c")
    trials = read_trials(path)
    assert trials.duplicates == 2 and len(trials) == 4
    assert "2 of 4 trials repeat" in capsys.readouterr().err


def test_absent_recordings_are_one_error(root: Path, tmp_path: Path):
    put(root, "a/1.wav", "a/2.flac")
    path = text(tmp_path / "list.txt", *(f"0 a/1.wav x/{i}.wav" for i in range(5)))
    with pytest.raises(FileNotFoundError, match=r"5 of 6 .*x/0.wav, x/1.wav, x/2.wav and 2 more"):
        read_trials(path, root)
    with pytest.raises(FileNotFoundError, match="probably of another corpus, or the root"):
        read_trials(path, root / "a")
    path = text(tmp_path / "list.txt", "1 a/1.wav a/2.WAV")  # another suffix will do
    assert read_trials(path, root).paths == ["a/1.wav", "a/2.flac"]


@pytest.mark.parametrize(
    ("count", "title"),
    [
        (37_720, "Vox1-O original"),
        (37_611, "Vox1-O cleaned"),
        (579_818, "Vox1-E cleaned"),
        (550_894, "Vox1-H cleaned"),
    ],
)
def test_known_lists_need_length_and_paths(count: int, title: str):
    assert list_name("anything.txt", "wav/id10270/v/00001.wav", count) == title
    assert list_name("anything.txt", "a/1.wav", count) == f"unknown list of {count} trials"


def test_a_shortened_known_list_is_not_trusted(tmp_path: Path):
    path = text(tmp_path / "veri_test2.txt", "1 id10270/v/00001.wav id10270/w/00001.wav")
    assert read_trials(path).name.startswith(
        "unknown list of 1 trials (the file is named like Vox1"
    )


def test_written_trials_read_back(tmp_path: Path):
    trials = make_trials(many())
    write_trials(tmp_path / "dev.txt", trials)
    again = read_trials(tmp_path / "dev.txt")
    assert again.label.tolist() == trials.label.tolist()
    assert pairs(again, 0) == pairs(trials, 0) and pairs(again, 1) == pairs(trials, 1)
    one = np.ones(1, np.uint8)
    with pytest.raises(ValueError, match="tab or a line break"):
        write_trials(tmp_path / "x.txt", Trials(one, one * 0, one, ["a\tb", "c"], ""))
    with pytest.raises(OSError):
        write_trials(tmp_path / "dev.txt" / "below-a-file.txt", trials)


@pytest.mark.parametrize(
    "lines",
    [
        "1 a.wav b.wav|0 a.wav c.wav",
        "a.wav b.wav target|a.wav c.wav nontarget",
        "a.wav b.wav 1|a.wav c.wav 0",  # CN-Celeb
        "target a.wav b.wav|nontarget a.wav c.wav",
        "1,a.wav,b.wav|0,a.wav,c.wav",
        "1.0 a.wav b.wav|0.0 a.wav c.wav",
        "# made by hand|1 a.wav b.wav|# more|0 a.wav c.wav",
        "enroll test label|a.wav b.wav 1|a.wav c.wav 0",
        "label,enroll,test|1,a.wav,b.wav|0,a.wav,c.wav",
        "1\ta.wav\tb.wav\t|0\ta.wav\tc.wav\t",
    ],
)
def test_lists_as_people_have_them(lines: str, tmp_path: Path):
    trials = read_trials(text(tmp_path / "list.txt", lines.replace("|", "\n") + "\n"))
    assert trials.label.tolist() == [1, 0]
    assert pairs(trials, 1) == [("a.wav", "b.wav")] and pairs(trials, 0) == [("a.wav", "c.wav")]


@pytest.mark.parametrize(
    "lines",
    ["a.wav b.wav|a.wav c.wav", "enroll test|a.wav b.wav|a.wav c.wav", "a.wav,b.wav|a.wav,c.wav"],
)
def test_lists_without_labels(lines: str, tmp_path: Path):
    path = text(tmp_path / "list.txt", lines.replace("|", "\n"))
    trials = read_trials(path, unlabelled=True)
    assert trials.label is None and len(trials) == 2 and trials.paths == ["a.wav", "b.wav", "c.wav"]
    assert list(zip(trials.enrol.tolist(), trials.test.tolist(), strict=True)) == [(0, 1), (0, 2)]
    with pytest.raises(ValueError, match="gives scores alone: oskdft evaluate --scores FILE"):
        read_trials(path)
    labelled = text(tmp_path / "labelled.txt", "1 a.wav b.wav")
    assert read_trials(labelled, unlabelled=True).label.tolist() == [1]
    for bad in ("a.wav b.wav\n1 a.wav c.wav", "1 a.wav", "a.wav 0", "a.wav b.wav\na.wav"):
        with pytest.raises(ValueError, match=r"bad\.txt, line \d: .* is no trial"):
            read_trials(text(tmp_path / "bad.txt", bad), unlabelled=True)


def test_models_are_enrolled_with_several_recordings(root: Path, tmp_path: Path):
    """On one line or on several; the suffixes are those on disk."""
    for name in ("e/1.flac", "e/2.flac", "e/3.flac", "t/1.wav"):
        text(tmp_path / name, "speech")
    path = text(tmp_path / "list.txt", "1 ada t/1.wav", "0 eve t/1.wav")
    enrol = text(
        tmp_path / "enrol.txt", "# model", "ada e/1.wav e/2.wav", "eve\te/3.wav", "eve e/1.wav"
    )
    trials = read_trials(path, tmp_path, enrol)
    assert trials.paths == ["ada", "t/1.wav", "eve"] and trials.label.tolist() == [1, 0]
    assert trials.models == {"ada": ["e/1.flac", "e/2.flac"], "eve": ["e/3.flac", "e/1.flac"]}
    assert trials.recordings() == ["e/1.flac", "e/2.flac", "t/1.wav", "e/3.flac"]
    for lines, said in (
        (["ada e/1.wav"], r"1 of 2 models are not in .*enrol\.txt: eve; enrol them"),
        (["ada e/1.wav", "eve"], "line 2: 'eve' enrols nothing"),
        (["ada e/1.wav", "eve e/2.wav", "ada e/1.wav"], r"line 3: .* has e/1\.wav twice"),
        (["ada e/1.wav", "eve e/2.wav", "t/1.wav e/1.wav"], r"t/1\.wav is a test and a model"),
        (["# none"], "enrols no models"),
    ):
        with pytest.raises(ValueError, match=said):
            read_trials(path, tmp_path, text(enrol, *lines))
    with pytest.raises(FileNotFoundError, match=r"1 of 3 recordings are not below .*e/9\.wav"):
        read_trials(path, tmp_path, text(enrol, "ada e/9.wav", "eve e/1.wav"))


def test_a_label_that_may_be_first_or_last_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="line 1: '1 a 0' may have its label first or last"):
        read_trials(text(tmp_path / "list.txt", "1 a 0\n0 a 1\n"))


def test_dots_in_names_without_suffix_are_kept(tmp_path: Path):
    """ada/2024.05.01 is not ada/2024.05.wav: another file would be scored in silence."""
    for name in ("ada/2024.05.wav", "ada/2024.05.01.wav", "ada/2024.05.02.FLAC"):
        text(tmp_path / name, "speech")
    lines = "1 ada/2024.05.01 ada/2024.05.02\n0 ada/2024.05.01 ada/2024.05.wav\n"
    trials = read_trials(text(tmp_path / "list.txt", lines), tmp_path)
    assert trials.paths == ["ada/2024.05.01.wav", "ada/2024.05.02.FLAC", "ada/2024.05.wav"]
    with pytest.raises(FileNotFoundError, match=r"1 of 2 .*ada/2024\.05\.03"):
        read_trials(text(tmp_path / "b.txt", "1 ada/2024.05.01 ada/2024.05.03"), tmp_path)


def test_two_names_of_one_file_are_refused(tmp_path: Path):
    for name in ("ada/1.wav", "ada/2.wav"):
        text(tmp_path / name, "speech")
    for other in ("ada/1", "./ada/1.wav", "ada/1.flac"):
        lists = text(tmp_path / "list.txt", "1 ada/1.wav ada/2.wav", f"0 {other} ada/2.wav")
        with pytest.raises(ValueError, match=rf"ada/1\.wav and {other} are one file, ada/1\.wav;"):
            read_trials(lists, tmp_path)


def test_another_unicode_form_is_matched_and_said(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Names composed (NFC) in the list, decomposed (NFD) on a disk that a Mac has filled."""
    composed, decomposed = f"Zo{chr(0xEB)}", f"Zoe{chr(0x308)}"
    put(tmp_path, f"{decomposed}/1.flac", f"{decomposed}/2.flac", "b/1.flac")
    lines = [f"1 {composed}/1.wav {composed}/2.wav", f"0 {composed}/1.wav b/1.wav"]
    trials = read_trials(text(tmp_path / "list.txt", *lines), tmp_path)
    assert trials.paths == [f"{decomposed}/1.flac", f"{decomposed}/2.flac", "b/1.flac"]
    assert "list.txt: 2 names match files whose names are in another" in capsys.readouterr().err
    text(tmp_path / "train/wav.scp", f"u1 {composed}/1.wav", "u2 b/1.wav")
    text(tmp_path / "train/utt2spk", "u1 zoe", "u2 b")
    assert list(load_corpus("kaldi", tmp_path, "train").names())[0] == f"{decomposed}/1.flac"
    assert "1 names of wav.scp match files" in capsys.readouterr().err
    put(tmp_path, f"{composed}/1.flac")
    with pytest.raises(ValueError, match="is there in two unicode forms, as two speakers; merge"):
        load_corpus("folder", tmp_path)
    exact = read_trials(tmp_path / "list.txt", tmp_path)
    assert exact.paths[0] == f"{composed}/1.flac"


def test_a_folder_is_no_recording(tmp_path: Path):
    (tmp_path / "ada" / "a.wav").mkdir(parents=True)
    text(tmp_path / "ada" / "b.wav", "speech")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 .*ada/a\.wav"):
        read_trials(text(tmp_path / "list.txt", "1 ada/a.wav ada/b.wav"), tmp_path)


def test_real_trial_list(data_root: Path):
    root = data_root / "speechocean762"
    if not root.is_dir():
        pytest.skip(f"{root} is not here")
    trials = read_trials(root / "trials_test_samegender.txt", root)
    assert trials.name == "speechocean762 same gender" and trials.label.sum() == 2_240
    train = load_corpus("speechocean762", root, "train")
    assert (len(train), len(train.speakers)) == (2_500, 125) and (train.counts() == 20).all()
    assert {len(load_corpus("speechocean762", root, "test")), len(trials.paths)} == {640}


def kaldi_corpus(root: Path, **parts: dict[str, int]) -> Path:
    """Recordings in Kaldi tables: part -> speaker -> number of recordings."""
    for part, speakers in parts.items():
        names = [f"{who}-{n}" for who, count in speakers.items() for n in range(count)]
        put(root, *(f"{name}.wav" for name in names))
        text(root / part / "wav.scp", *(f"{name} {name}.wav" for name in names))
        text(root / part / "utt2spk", *(f"{name} {name.split('-')[0]}" for name in names))
    return root


def test_kaldi_tables_give_the_development_speakers(tmp_path):
    root = kaldi_corpus(tmp_path, train={"a": 2, "b": 2, "c": 2}, dev={"x": 3, "y": 3})
    cfg = config.load("smoke").override(
        {"data.corpus": "kaldi", "data.root": str(root), "data.slice_speakers": 0}
    )
    task = protocol.prepare(cfg)
    assert (task.train.speakers, task.dev.speakers) == (["a", "b", "c"], ["x", "y"])
    (root / "dev" / "wav.scp").unlink()  # without dev/, speakers of train/ are set aside
    task = protocol.prepare(cfg)
    assert len(task.train.speakers) == 1 and len(task.dev.speakers) == 2


@pytest.mark.parametrize("part", ["train", "dev"])
def test_a_test_list_of_speakers_whom_the_run_hears_is_refused(part, tmp_path):
    """Their recordings in test/ are others, so that no recording is in two parts."""
    parts = {"train": {"a": 2, "b": 2}, "dev": {"x": 2, "y": 2}, "test": {"p": 2, "q": 2}}
    root = kaldi_corpus(tmp_path, **parts)
    who = next(iter(parts[part]))
    put(root, f"{who}-later.wav")
    with (
        open(root / "test" / "wav.scp", "a") as scp,
        open(root / "test" / "utt2spk", "a") as people,
    ):
        scp.write(f"{who}-later {who}-later.wav\n")
        people.write(f"{who}-later {who}\n")
    cfg = config.load("smoke").override(
        {
            "data.corpus": "kaldi", "data.root": str(root), "data.trials": "trials.txt",
            "data.slice_speakers": 0, "data.slice_utterances": 0,
        }
    )  # fmt: skip
    text(root / "trials.txt", "1 p-0.wav p-1.wav", "0 p-0.wav q-0.wav")
    assert len(protocol.prepare(cfg).test_trials.recordings()) == 3  # the list does not name them
    text(root / "trials.txt", "1 p-0.wav p-1.wav", f"0 p-0.wav {who}-later.wav")
    with pytest.raises(
        ValueError, match=f"the test list has speakers who are heard in .*: {who}; set"
    ):
        protocol.prepare(cfg)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_kaldi_tables_with_absolute_paths(tmp_path, elsewhere):
    """Recordings below the corpus are its own, whichever way they are named; others are found, too."""
    root = kaldi_corpus(tmp_path / "corpus", train={"a": 2, "b": 2}, test={"c": 2})
    relative = load_corpus("kaldi", root)
    speech = root
    if elsewhere:
        speech = tmp_path / "speech"
        speech.mkdir()
        for path in root.glob("*.wav"):
            path.rename(speech / path.name)
    for part in ("train", "test"):
        names = [line.split()[0] for line in (root / part / "wav.scp").read_text().splitlines()]
        text(root / part / "wav.scp", *(f"{name} {speech}/./{name}.wav" for name in names))
    table, extra = tables.list_utterances("kaldi", root)
    assert extra == [] and load_corpus("kaldi", root).speakers == relative.speakers
    assert [table.path(row) for row in range(6)] == [speech / name for name in relative.names()]
    if not elsewhere:
        assert list(table.names()) == list(relative.names())
        return
    with pytest.raises(ValueError, match=r"6 recordings are not below .*corpus: .*speech/a-0\.wav"):
        pack.pack("kaldi", root, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_segments_are_refused_by_name(tmp_path):
    root = kaldi_corpus(tmp_path, train={"a": 2, "b": 2})
    text(root / "train" / "segments", "a-0-1 a-0 0.0 1.5")
    with pytest.raises(ValueError, match=r"train/segments cuts recordings into utterances"):
        load_corpus("kaldi", root, "train")


def test_kaldi_tables_that_cannot_be_used_are_refused(tmp_path):
    root = kaldi_corpus(tmp_path, train={"a": 2, "b": 2}, dev={"b": 2, "y": 2})
    cfg = config.load("smoke").override({"data.corpus": "kaldi", "data.root": str(root)})
    with pytest.raises(ValueError, match=r"speaker b is in train/ and dev/; keep one"):
        protocol.prepare(cfg)
    text(root / "train" / "wav.scp", "a-9 sox a.wav -t wav - |")
    with pytest.raises(ValueError, match="a-9 is a command; list recordings only"):
        load_corpus("kaldi", root, "train")
