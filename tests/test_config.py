"""Presets, overrides and the refusal of what cannot work."""

import dataclasses
import typing

import pytest
import yaml

from oskdft import config
from oskdft.commands import cli
from oskdft.commands.cli import parameters
from oskdft.training import grid


@pytest.mark.parametrize("profile", config.PROFILES)
def test_profiles_load_and_round_trip(profile):
    cfg = config.load(profile)
    assert cfg.name == profile
    assert config.from_dict(yaml.safe_load(config.to_yaml(cfg))) == cfg


def test_paper_profile_changes_no_default():
    paper = config.load("vox2")
    folders = config.AugmentConfig(noise_root="musan", rir_root="rirs_noises")
    assert paper == config.Config(name="vox2", mode="published", augment=folders)


def test_preset_holds_only_differences():
    def same(tree, default, path=""):
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from same(value, default[key], f"{path}{key}.")
            elif value == default[key] and key != "name":
                yield f"{path}{key}"

    for profile in config.PROFILES:
        tree = yaml.safe_load((config.PRESETS / f"{profile}.yaml").read_text())
        default = config.to_dict(config.Config(mode=tree.get("mode", "corrected")))
        default["mode"] = config.Config().mode
        assert list(same(tree, default)) == [], profile


def test_modes_set_every_switch():
    for mode, bundle in config.BUNDLES.items():
        assert config.Config(mode=mode).switches == bundle
        assert all(dataclasses.astuple(bundle))
    published, corrected = config.BUNDLES.values()
    assert all(
        a != b
        for a, b in zip(dataclasses.astuple(published), dataclasses.astuple(corrected), strict=True)
    )


def test_one_switch_alone():
    cfg = config.Config().override({"switches.adapter_init": "normal"})
    assert cfg.switches == dataclasses.replace(config.BUNDLES["corrected"], adapter_init="normal")


def test_new_mode_takes_along_what_followed_the_old():
    cfg = (
        config.Config()
        .override({"switches.adapter_init": "normal"})
        .override({"mode": "published"})
    )
    assert cfg.switches == config.BUNDLES["published"]
    cfg = config.Config(mode="published").override(
        {"mode": "corrected", "switches.optimiser": "rebuilt"}
    )
    assert cfg.switches == dataclasses.replace(config.BUNDLES["corrected"], optimiser="rebuilt")


def test_yaml_number_read_as_text_becomes_a_number():
    assert yaml.safe_load("1e-4") == "1e-4"  # YAML wants 1.0e-4
    assert config.Config().override({"train.lr": "1e-4"}).train.lr == 1e-4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss.kd_wieght": 1}, "did you mean kd_weight"),
        ({"los.kd_weight": 1}, "did you mean loss"),
        ({"zzz": 1}, "known here: name, mode"),
        ({"train": 3}, "train is 3"),
        ({"train.lr": "fast"}, "train.lr is 'fast'; write a number"),
        ({"train.lr": float("nan")}, "finite"),
        ({"train.epochs": 2.5}, "train.epochs is 2.5; write a whole number"),
        ({"train.epochs": "many"}, "whole number"),
        ({"train.epochs": True}, "whole number"),
        ({"train.freeze_cnn": 1}, "true or false"),
        ({"data.corpus": 3}, "write text"),
        ({"model.backend": "resnet"}, "choose ecapa, linear, tft"),
        ({"mode": "both"}, "choose published, corrected"),
        ({"augment.noise_snr_db": [1.0]}, "has 1 entries; write 2"),
        ({"augment.noise_snr_db": 5}, "write a list"),
        ({"train.batch": 1}, "at least 2"),
        ({"train.accumulate": 3}, "train.batch (128) must be a multiple of it"),
        ({"train.accumulate": 128}, "with two crops or more in a part"),
        ({"train.epochs": 0}, "more than 0"),
        ({"train.lr": 1e-7}, "lr_min"),
        ({"augment.probability": 1.5}, "at least 0 and at most 1"),
        ({"loss.margin": 2.0}, "at least 0 and less than 1.5 rad"),
        ({"loss.aam_topk": 3, "loss.sv": "cross_entropy"}, "needs loss.sv=aam"),
        ({"loss.kd": "fithubert"}, "as many entries as model.student_layers"),
        ({"loss.kd": "distilhubert", "loss.kd_layers": [0, 4]}, "count from 1"),
        (
            {"model.adapter_layers": [0]},
            "model.adapter_layers is [0]; the student has layers 1 to 4",
        ),
        (
            {"model.init_layers": [1, 2]},
            "model.init_layers [1, 2] must have as many entries as model.student_layers (4)",
        ),
        ({"model.init_layers": [0, 1, 2, 3]}, "must be at least 1 and at most 200"),
        ({"model.adapter_layers": [5]}, "the student has layers 1 to 4"),
        ({"model.backend_channels": 100}, "multiple of 8"),
        ({"augment.speed": [0.9, 3]}, "at least 0.5 and at most 2"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_setting_is_one_line(changes, words):
    with pytest.raises(ValueError) as error:
        config.load("vox2").override(changes)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_files_are_one_line(tmp_path):
    with pytest.raises(ValueError, match="no profile 'clasroom'; choose smoke, classroom"):
        config.load("clasroom")
    bad = tmp_path / "bad.yaml"
    bad.write_text("train: {lr: [")
    with pytest.raises(ValueError, match="not valid YAML") as error:
        config.load(str(bad))
    assert "\n" not in str(error.value)
    bad.write_text("- a list")
    with pytest.raises(ValueError, match="key: value"):
        config.load(str(bad))
    bad.write_text("model: {student_layer: 2}")
    with pytest.raises(
        ValueError,
        match="bad.yaml: unknown setting model.student_layer; did you mean student_layers",
    ):
        config.load(str(bad))


def test_every_setting_is_described():
    settings = config.describe(config.Config())
    assert [row["name"] for row in settings] == list(config.SETTINGS)
    for row in settings:
        assert row["meaning"] and row["source"] and not row["changed"], row["name"]
    crop = next(row for row in settings if row["name"] == "data.crop_s")
    assert (crop["value"], crop["unit"], crop["source"]) == (2.0, "s", "release P")


def test_settings_that_a_profile_changes_are_marked():
    changed = {row["name"] for row in config.describe(config.load("vox2")) if row["changed"]}
    assert changed == {"mode", "augment.noise_root", "augment.rir_root"}


def test_every_number_has_bounds_on_both_sides_and_they_are_checked():
    for name, (f, setting_type) in config.SETTINGS.items():
        within = f.metadata["within"]
        if setting_type in (int, float) or typing.get_origin(setting_type) is tuple:
            assert within, name
        if not within:
            continue
        low, high = map(float, within[1:-1].split(","))
        whole = int in (setting_type, *typing.get_args(setting_type))
        step = 1 if whole else 1e-3
        below = low if within[0] == "(" else low - step * max(1, abs(low))
        above = high if within[-1] == ")" else high + step * max(1, abs(high))
        for value in (below, above):
            value = int(value) if whole else value
            value = [value] * (len(f.default) or 1) if isinstance(f.default, tuple) else value
            with pytest.raises(ValueError, match=f"{name} is .*; it must be "):
                config.Config().override({name: value})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [1]\nb: [*x, *x]", "give a value a name"),
        ("base: {lr: 1}\ntrain: {<<: {lr: 2}}", "<< merges maps"),
        ("seed: !!int ''", "names a type"),
        ("seed: !!timestamp x", "names a type"),
        ("name: !!python/object/apply:os.getcwd []", "names a type"),
        ("seed: " + "[" * 1_000, "nested more than"),
        ("seed: " + "9" * 5_000, "not valid YAML"),
        ("train: {lr: 0.1, lr: 0.2}", "a key occurs twice"),
        ("seed: 0 # " + "x" * (1 << 20), "more than 1 MB"),
    ],
    ids=lambda value: value[:20],
)
def test_yaml_that_is_more_than_values_is_refused_by_every_reader(tmp_path, text, words):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    for read in (lambda: config.load(str(path)), lambda: grid.read_grid(path)):
        with pytest.raises(ValueError, match=words) as error:
            read()
        assert "\n" not in str(error.value) and len(str(error.value)) < 1_000
    value = text.partition(": ")[2] if "\n" not in text else text
    if len(value) < 10_000:
        for read in (
            lambda: cli.settings([f"seed={value}"]),
            lambda: parameters(["-p", "seed", value]),
        ):
            with pytest.raises(ValueError, match="cannot be read") as error:
                read()
            assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[", "{a: b", "!!int ''", "*x", "2024-99-99", "=", "\x00"])
def test_values_on_the_command_line_end_in_a_value_or_one_line(text):
    for read in (lambda: cli.settings([f"seed={text}"]), lambda: parameters(["-p", "seed", text])):
        try:
            assert read()["seed"] == text
        except ValueError as error:
            assert "cannot be read" in str(error)


@pytest.mark.parametrize(
    "name", ["x/../../../../ESCAPED", "..", ".hidden", "", "a\\b", "a\nb", "n" * 101]
)
def test_a_profile_is_named_like_a_file(name):
    with pytest.raises(ValueError, match=r"^name is .*; write letters, digits, - and _$"):
        config.Config(name=name)
    assert config.Config(name="Profil für Käfer 2").name


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.Config().seed = 1


def test_settings_of_earlier_versions_are_read_and_have_no_effect():
    """`data.speakers` and `data.utterances` set the size of a corpus that was generated."""
    stored = config.to_dict(config.load("desk"))
    stored["data"] |= {"speakers": 60, "utterances": 20}
    assert config.from_dict(stored) == config.load("desk")
    with pytest.raises(ValueError, match=r"unknown setting data\.speakers; did you mean"):
        config.load("desk").override({"data.speakers": 60})
