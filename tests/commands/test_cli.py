"""The command: what is on stdout, what on stderr, and the exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from oskdft import __version__, config
from oskdft.commands import cli
from oskdft.method import strategies
from oskdft.speech import audio
from oskdft.utils import provenance

FIXTURE = Path(__file__).parents[1] / "fixtures" / "F9_sizes_and_times.json"
FORMS = (
    "1 0.9\n0 0.1\n1 0.4\n0 0.5\n",
    "target\ta\tb\t0.9\nnontarget\ta\tc\t0.1\n1\td\te\t0.4\n0\td\tf\t0.5\n",
)
BASES = {
    "HuBERT-base": "hubert-base",
    "WavLM-base+": "wavlm-base-plus",
    "W2V2-base": "wav2vec2-base",
}
KEYS = {"eer", "min_dcf_0.01", "min_dcf_0.05", "cllr", "eer_ci", "trials", "targets", "recipe"}


@pytest.fixture
def oskdft(monkeypatch, capsys):
    """Run a command: (exit code, stdout, stderr)."""

    def run(*words) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["oskdft", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        printed = capsys.readouterr()
        return stopped.value.code, printed.out, printed.err

    return run


def parsed(result: tuple[int, str, str]) -> dict:
    """The one JSON object on stdout of a command that was done."""
    code, out, err = result
    assert code == 0, err
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_help_lists_the_commands(oskdft):
    code, out, _ = oskdft("--help")
    assert code == 0
    names = ("doctor", "data", "pretrain", "train", "evaluate", "score", "embed", "verify", "sizes")
    assert all(f" {name} " in out for name in names)
    assert oskdft("-h") == (code, out, "")


def test_brackets_of_help_texts_appear(oskdft):
    for flag in ("-h", "--help"):
        code, out, _ = oskdft("embed", flag)
        assert code == 0 and "embeddings [n, E] and paths [n]; else" in " ".join(out.split())
    for command in (["train"], ["data", "check"], ["reproduce"]):
        assert oskdft(*command, "-h") == oskdft(*command, "--help")


def test_version(oskdft):
    assert oskdft("--version") == (0, f"oskdft {__version__}\n", "")


@pytest.mark.parametrize("words", [("data", "check", "folder", "--full", "--root"), ("library",)])
def test_names_are_read_in_the_locale_of_a_batch_system(tmp_path, words):
    """LC_ALL=C, and Python's two ways around it turned off: names of files would be ASCII."""
    root = tmp_path / "Zoë"
    names = [f"鳥/{number}.wav" for number in "äb"]
    for name in names:
        audio.write(root / name, np.random.default_rng(0).normal(0, 0.1, 16_000))
    (root / "list.txt").write_text(f"1 {names[0]} {names[1]}\n", encoding="utf-8")
    code = (
        "import os\nfrom oskdft.speech import audio\nfor at, _, names in os.walk(os.sys.argv[1]):\n"
    )
    code += (
        "    for name in names:\n        name[-3:] == 'wav' and print(audio.info(at + '/' + name))"
    )
    start = ["-c", code] if words == ("library",) else ["-m", "oskdft", *words]
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, *start, str(root)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=300)
    said = done.stdout.decode()
    assert done.returncode == 0, said + done.stderr.decode()
    if words == ("library",):
        assert said.count("samples=16000") == 2
    else:
        assert "1 speakers, 2 utterances" in said and "Zoë" in said and "1 trials, all" in said


def test_config_prints_every_setting(oskdft):
    rows = parsed(oskdft("config", "vox1", "--json"))["settings"]
    assert [row["name"] for row in rows] == list(config.SETTINGS)
    crop = next(row for row in rows if row["name"] == "data.crop_s")
    assert (crop["value"], crop["unit"], crop["changed"]) == (3.0, "s", True)
    code, out, _ = oskdft("config", "vox1")
    lines = [line for line in out.splitlines() if line]
    assert code == 0 and len(lines) == len(rows) + 2  # head and rule
    [line] = [line for line in lines if "data.crop_s" in line]
    assert line.split()[0] == "*" and line.split()[4:7] == ["3.0", "|", "s"]
    assert oskdft("config", "vox3")[2].startswith("oskdft: no profile 'vox3'; choose smoke")


@pytest.mark.parametrize(
    "words",
    [
        ["nope"],
        ["train"],
        ["score"],
        ["sizes", "--jsn"],
        ["evaluate", "--model", "m"],
    ],
)
def test_wrong_usage_is_exit_code_2(oskdft, words):
    code, out, err = oskdft(*words)
    assert code == 2 and out == "" and "Usage: " in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train --profile clasroom --out OUT", "no profile 'clasroom'; choose smoke, classroom"),
        (
            "train --profile smoke --out OUT trian.lr=1",
            "unknown setting trian.lr; did you mean train",
        ),
        ("train --profile smoke --out OUT train.epoch=1", "did you mean epochs"),
        ("train --profile smoke --out OUT train.lr", "'train.lr' is no setting; write KEY=VALUE"),
        ("train --profile smoke --out OUT loss.kd_layers=[1", "value cannot be read; put text in"),
        ("train --profile smoke --out OUT train.lr=", "train.lr is ''; write a number such as 0.1"),
        (
            "train --profile smoke --out OUT --strategy os-kdf",
            "no strategy 'os-kdf'; choose os-kdft",
        ),
        (
            "train --profile smoke --out OUT model.teacher=facebook/hubert-nowhere",
            "or pytorch_model.bin into $OSKDFT_DATA/weights/hubert-nowhere/",
        ),
        (
            "train --profile smoke --out OUT data.corpus=voxceleb1 data.root=OUT",
            "voxceleb1: OUT is not a folder; correct the root",
        ),
        ("pretrain --config hubert --out OUT", "no recipe 'hubert'; choose classroom-hubert"),
        ("evaluate --model OUT --trials OUT/t --root OUT", "OUT/t: no such trial list; correct"),
        ("verify a.wav b.wav --model OUT", "OUT is no model: neither a run folder with best/"),
        ("embed a.wav --out OUT --model OUT", "OUT is no model"),
        ("data check libri", "'libri' is not a known corpus; did you mean librispeech?"),
        ("data get libri", "'libri' is not a known corpus"),
        ("data check librispeech --root OUT", "librispeech: OUT is not a folder; correct the root"),
        ("score OUT", "OUT: no such score file; correct the path"),
    ],
)
def test_a_refusal_is_one_line_and_exit_code_1(oskdft, tmp_path, words, says):
    out = str(tmp_path / "out")
    code, printed, err = oskdft(*words.replace("OUT", out).split())
    assert code == 1 and printed == ""
    assert err.startswith("oskdft: ") and err.count("\n") == 1
    assert says.replace("OUT", out) in err
    assert not Path(out).exists()


@pytest.mark.parametrize("words", [[""], ["=3"], ["seed=[1"], ["a=b: c: d"]])
def test_settings_that_do_not_parse(words):
    with pytest.raises(ValueError, match="is no setting|cannot be read"):
        cli.settings(words)


def test_settings_are_yaml_values():
    assert cli.settings(["a.b=true", "c=", "d=x=y", "e=[1, 2.5]"]) == {
        "a.b": True, "c": "", "d": "x=y", "e": [1, 2.5],
    }  # fmt: skip


@pytest.mark.parametrize("text", FORMS)
def test_score_reads_both_forms(oskdft, tmp_path, text):
    (tmp_path / "s.txt").write_text(text)
    found = parsed(oskdft("score", tmp_path / "s.txt", "--json"))
    assert found["eer"] == pytest.approx(0.5) and (found["trials"], found["targets"]) == (4, 2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 0.9\n0\n", "line 2: '0' has 1 fields"),
        ("1 0.9\n1 0.8\n", "labels has no non-target trial"),
        ("1 0.9\n0 nan\n", "score 'nan'"),
        ("", "holds no scores; give lines of label and score"),
    ],
)
def test_bad_score_files_are_refused(oskdft, tmp_path, text, says):
    (tmp_path / "s.txt").write_text(text)
    code, out, err = oskdft("score", tmp_path / "s.txt")
    assert (code, out, err.count("\n")) == (1, "", 1) and says in err


def test_sizes_are_the_counted_ones(oskdft):
    """The integers that were counted on the released classes, as JSON and as text."""
    counted = json.loads(FIXTURE.read_text())["parameters"]
    found = {p["name"]: p["parameters"] for p in parsed(oskdft("sizes", "--json"))["parts"]}
    assert all(type(count) is int for count in found.values())
    assert found["XLSR-53 teacher"] == counted["xlsr53_teacher"]
    assert found["XLSR-53 student, 4 layers"] == counted["student_4"]["without_adapters"]
    assert found["XLSR-53 adapters"] == counted["student_4"]["adapters"]
    assert found["XLSR-53 student with adapters"] == counted["student_4"]["total"]
    assert found["ECAPA-TDNN C=512"] == counted["ecapa_C512"]
    assert found["ECAPA-TDNN C=1024"] == counted["ecapa_C1024"]
    assert found["AAM classifier 5994 x 192"] == counted["aam_5994x192"]
    for label, name in BASES.items():
        base = counted["base"][name]
        assert found[f"{label} teacher"] == base["teacher"]
        assert found[f"{label} student, 2 layers"] == base["student2"]
        assert found[f"{label} adapters"] == base["adapters_2x64_2024"]
        assert found[f"{label} student with adapters"] == base["student2_plus_adapters"]
        assert found["Linear back-end"] == base["linear_backend_192"]
    assert "315,438,720" in oskdft("sizes")[1]


def test_evaluate_and_verify_print_one_object(oskdft, model_folder, recordings, tmp_path):
    where = ["--trials", recordings / "trials.txt", "--root", recordings, "--model", model_folder]
    scores = tmp_path / "scores.txt"
    found = parsed(oskdft("evaluate", *where, "--scores", scores, "--json"))
    assert found.keys() >= KEYS and len(found["eer_ci"]) == 2 and found["trials"] == 66
    assert parsed(oskdft("score", scores, "--json"))["eer"] == found["eer"]
    code, text, _ = oskdft("evaluate", *where, "--no-tta", "--device", "cpu")
    assert code == 0 and "policy               full utterance" in text
    pair = [recordings / "s0/0.wav", recordings / "s0/1.wav", "--model", model_folder]
    found = parsed(oskdft("verify", *pair, "--json"))
    assert found.keys() == {"score", "threshold", "same", "probability", "warnings"}
    assert type(found["same"]) is bool and found["probability"] is None  # clips of 0.7 s
    text = oskdft("verify", *pair)[1]
    assert text.startswith("same speaker" if found["same"] else "different")
    assert "no probability: outside what this model knows" in text


def test_embed_writes_an_archive_or_names_the_target(oskdft, model_folder, recordings, tmp_path):
    words = ["embed", recordings / "s0/0.wav", recordings / "s1/0.wav", "--model", model_folder]
    assert oskdft(*words, "--out", tmp_path / "e.npz") == (0, "", "")
    with np.load(tmp_path / "e.npz") as made:
        assert made["embeddings"].shape == (2, 32)
    below = tmp_path / "e.npz" / "other.npz"  # a file is no folder
    code, out, err = oskdft(*words, "--out", below)
    assert (code, out) == (
        1,
        "",
    ) and f"{below} cannot be written: {below.parent} is no folder" in err


def test_data_list_and_check_print_one_object(oskdft, recordings, tmp_path, monkeypatch):
    monkeypatch.delenv("OSKDFT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    rows = parsed(oskdft("data", "list", "--json"))["corpora"]
    assert {"name", "licence", "size", "here", "how_to"} <= rows[0].keys()
    assert [row["name"] for row in rows if row["here"]] == ["speechbox"]
    assert "oskdft data get speechocean762" in oskdft("data", "list")[1]
    checked = parsed(oskdft("data", "check", "folder", "--root", recordings, "--json"))
    assert checked["ok"] is True and checked["versions"] == provenance.versions()


def test_train_prints_its_report(oskdft, tmp_path):
    words = ["train", "--profile", "smoke", "--strategy", "student-ft", "--out", tmp_path / "run"]
    words += ["device=cpu", "train.epochs=1", "--json"]
    report = parsed(oskdft(*words))
    assert report == json.loads((tmp_path / "run/report.json").read_text())
    assert report["config"]["strategy"] == "student-ft" and len(report["validations"]) == 1
    code, out, err = oskdft(*words)
    assert (code, out) == (1, "") and "holds a run; add --resume" in err


def test_doctor_prints_one_object(oskdft, monkeypatch, tmp_path):
    """The libraries are stand-ins, found first by the process that tries them; torch is broken."""
    for name in ("torchaudio", "transformers", "soundfile"):
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "torch.py").write_text("raise ImportError('no torch')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code, out, _ = oskdft("doctor", "--json")
    report = json.loads(out)
    assert (code, report["ok"]) == (1, False)
    [torch] = [finding for finding in report["findings"] if finding["name"] == "torch"]
    detail = "ImportError: no torch"
    assert torch == {"name": "torch", "ok": False, "detail": detail, "fix": "make clean setup"}


@pytest.mark.slow
def test_doctor_finds_nothing_broken_here(oskdft):
    assert parsed(oskdft("doctor", "--json"))["ok"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ImportError("no torchaudio\nhere"), "no torchaudio here (run oskdft doctor --fix)\n"),
        (OSError(13, "Permission denied", "f"), "Permission denied: 'f'; check the path\n"),
        (OSError(13, "Permission denied; move it", "f"), "Permission denied; move it: 'f'\n"),
    ],
)
def test_what_ends_a_command_is_one_line(oskdft, monkeypatch, error, says):
    def ended(*_):
        raise error

    monkeypatch.setattr("oskdft.evaluation.score_file.score_file", ended)
    code, out, err = oskdft("score", "x")
    assert (code, out) == (1, "") and err.endswith(says) and err.count("\n") == 1


def test_every_strategy_is_named_where_one_is_unknown(oskdft, tmp_path):
    _, _, err = oskdft("train", "--profile", "smoke", "--strategy", "x", "--out", tmp_path / "r")
    assert all(name in err for name in strategies.STRATEGIES)


def test_a_tilde_behind_an_equals_sign_is_the_home_folder(oskdft, monkeypatch, tmp_path):
    """A shell leaves it as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, err = oskdft("evaluate", "--model", "classroom", "--trials", "x", "--root=~/speech")
    assert code == 1
    (tmp_path / "speech").mkdir()
    words = ["train", "--profile", "smoke", "--out", str(tmp_path / "run"), "data.root=~/none"]
    code, _, err = oskdft(*words)
    assert code == 1 and f"{tmp_path}/none is not a folder" in err
