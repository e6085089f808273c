"""Who pays for the errors: groups of speakers from tables, and rates by group."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from oskdft.commands.cli import app
from oskdft.evaluation import bootstrap, groups, metrics
from oskdft.speech.corpora import people
from oskdft.speech.corpora.catalogue import find_root
from oskdft.speech.corpora.drawn_trials import make_trials
from oskdft.speech.corpora.tables import Utterances
from oskdft.speech.corpora.trials import read_trials


@pytest.fixture
def listed():
    """Six recordings of each of ten speakers; scores that know speakers f better than speakers m."""
    rows = [
        (f"{g}{s}/{n}.wav", f"{g}{s}", "", 1.0) for g in "fm" for s in range(5) for n in range(6)
    ]
    trials = make_trials(Utterances.from_rows("/data", rows), seed=0)
    names = [path[0] for path in trials.paths]
    is_m = np.array([name == "m" for name in names])
    noise = np.random.default_rng(1).normal(size=len(trials))
    scores = trials.label + np.where(is_m[trials.enrol] | is_m[trials.test], 1.0, 0.1) * noise
    return scores, trials, names


def test_a_group_holds_the_trials_within_it(listed):
    scores, trials, names = listed
    found = groups.by_group(scores, trials, names, 0.5)
    for group, row in found.items():
        inside = np.array(
            [names[a] == names[b] == group for a, b in zip(trials.enrol, trials.test, strict=True)]
        )
        own, label = scores[inside], trials.label[inside]
        assert row["targets"] + row["nontargets"] == inside.sum() < len(trials)
        assert row["speakers"] == 5
        assert row["eer"] == metrics.eer(own, label)[0]
        assert row["miss"] == pytest.approx(np.mean(own[label == 1] < 0.5))
        assert row["false_alarm"] == pytest.approx(np.mean(own[label == 0] >= 0.5))
        for rate in ("eer", "miss", "false_alarm"):
            low, high = row[f"{rate}_ci"]
            assert 0 <= low <= row[rate] <= high <= 1
    assert found["f"]["eer"] < found["m"]["eer"] and found["f"]["miss"] < found["m"]["miss"]


def test_intervals_use_the_draws_of_the_bootstrap(listed):
    """The EER read off the draws of misses and false alarms is the bootstrap's own."""
    scores, trials, _ = listed
    speakers = bootstrap.trial_speakers(trials)
    target = trials.label == 1
    rates = bootstrap.bootstrap(scores, trials.label, speakers, samples=20)
    for weight, rate in zip(bootstrap.weights(target, speakers, 20), rates, strict=True):
        repeated = np.repeat(np.arange(len(trials)), weight)
        assert metrics.eer(scores[repeated], trials.label[repeated])[0] == pytest.approx(rate)


def test_a_group_of_few_speakers_is_named(listed, capsys):
    scores, trials, names = listed
    groups.by_group(scores, trials, names, 0.5)
    assert "warning" not in capsys.readouterr().err
    few = ["f" if path[:2] in ("f0", "f1") else "rest" for path in trials.paths]
    groups.by_group(scores, trials, few, 0.5)
    told = "warning: an interval over 2 speakers of f tells little; have at least 5\n"
    assert capsys.readouterr().err == told


def test_groups_without_both_kinds_are_left_out(listed):
    scores, trials, names = listed
    alone = ["one" if path.startswith("f0/") else "rest" for path in trials.paths]
    assert list(groups.by_group(scores, trials, alone, 0.5)) == ["rest"]
    with pytest.raises(ValueError, match="no group has trials"):
        groups.by_group(scores, trials, trials.paths, 0.5)


def test_tables_of_the_corpora(tmp_path):
    vox = tmp_path / "vox"
    vox.mkdir()
    (vox / "vox1_meta.csv").write_text(
        "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
        "id10270\tA\tm\tUSA\ttest\nid10271\tB\tf\tIndia\ttest\n"
    )
    paths = ["id10270/x/1.wav", "id10271/y/1.wav"]
    assert people.groups_of(paths, vox, "Nationality") == ["USA", "India"]
    libri = tmp_path / "libri"
    libri.mkdir()
    (libri / "SPEAKERS.TXT").write_text(
        ";ID  |SEX| SUBSET           |MINUTES| NAME\n14   | F | train-clean-360  | 25.03 | A\n"
    )
    assert people.groups_of(["14/208/14-208-0000.flac"], libri, "sex") == ["F"]
    with pytest.raises(ValueError, match=r"no column 'age'.*it has minutes, name, sex, subset"):
        people.groups_of(["14/208/14-208-0000.flac"], libri, "age")
    with pytest.raises(ValueError, match=r"lacks the sex of 15/1/2\.flac"):
        people.groups_of(["15/1/2.flac"], libri, "sex")
    with pytest.raises(ValueError, match="no column 'sex' in a table of speakers; there is none"):
        people.groups_of(["15/1/2.flac"], tmp_path / "none", "sex")


def test_an_age_that_is_no_number_is_a_group(tmp_path):
    (tmp_path / "test").mkdir()
    for name, text in (("wav.scp", "u a/u.flac"), ("utt2spk", "u a"), ("spk2age", "a twenties")):
        (tmp_path / "test" / name).write_text(text + "\n")
    assert people.groups_of(["a/u.wav"], tmp_path, "age") == ["twenties"]


def test_evaluate_prints_and_returns_groups(tmp_path):
    root = find_root("speechbox", "", "data.root")
    trials = read_trials(root / "trials_test_samegender.txt")
    first = {p for p in trials.paths if any(f"SPEAKER{n}/" in p for n in ("0003", "0044", "0024"))}
    lines = [
        line
        for line in (root / "trials_test_samegender.txt").read_text().splitlines()
        if all(path in first for path in line.split()[1:])
    ]
    assert {line[0] for line in lines} == {"0", "1"}
    few = tmp_path / "few.txt"
    few.write_text("\n".join(lines) + "\n")
    words = [
        "evaluate",
        "--model",
        "classroom",
        "--trials",
        str(few),
        "--root",
        str(root),
        "--no-tta",
    ]
    result = CliRunner().invoke(app, [*words, "--groups", "gender, age", "--json"])
    found = json.loads(result.stdout)
    assert set(found["groups"]) == {"gender", "age"} and found["groups"]["age"]["child"]["targets"]
    assert "by age; misses" in CliRunner().invoke(app, [*words, "--groups", "age"]).stdout
    refused = CliRunner().invoke(app, [*words, "--groups", "height"])
    assert isinstance(refused.exception, ValueError) and "no column 'height'" in str(
        refused.exception
    )
