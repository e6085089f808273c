"""Model folders from strangers: each attack is tried, and refused before it costs memory or runs code."""

import json
import pickle
import resource
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from oskdft import checkpoint, config, layouts, model, teacher

MEMORY = 300 << 20  # bytes that refusing something may cost at most


class Attack:
    """Unpickling it makes a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return Path.touch, (self.proof,)


@pytest.fixture
def encoder_folder(tmp_path):
    """A sound teacher to be spoilt."""
    folder = tmp_path / "teacher"
    teacher.load_encoder("tiny-random-hubert").save_pretrained(folder)
    return folder


@pytest.fixture
def speaker_folder(tmp_path):
    """A sound speaker model to be spoilt."""
    cfg = config.load("smoke")
    made = model.new_model(cfg, teacher.load_encoder(cfg.model.teacher))
    model.save_model(tmp_path / "model", made, cfg, ["a", "b"], {})
    return tmp_path / "model"


@pytest.fixture
def proof(tmp_path):
    """The file that would be there if foreign code had run."""
    path = tmp_path / "foreign code was here"
    yield path
    assert not path.exists()


@pytest.fixture(autouse=True)
def little_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < MEMORY


def change(path: Path, **settings) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def refused(load, folder: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load(str(folder))
    assert "\n" not in str(error.value) and len(str(error.value)) < 1_000


def test_the_sound_folders_load(encoder_folder, speaker_folder):
    assert teacher.load_encoder(str(encoder_folder)).config.hidden_size == 32
    assert model.load_model(speaker_folder)[0].config.num_hidden_layers == 1


def test_a_teacher_with_a_head_and_old_names_loads_the_same(encoder_folder):
    """What the published folders look like: a prefix, weight_g and weight_v, tensors of a head."""
    tensors = checkpoint.load_tensors(encoder_folder / "model.safetensors")

    def old(name: str) -> str:
        name = name.replace("parametrizations.weight.original0", "weight_g")
        return "hubert." + name.replace("parametrizations.weight.original1", "weight_v")

    renamed = {old(k): v for k, v in tensors.items()} | {"lm_head.weight": torch.zeros(3, 3)}
    checkpoint.save_tensors(encoder_folder / "model.safetensors", renamed)
    made = teacher.load_encoder(str(encoder_folder)).state_dict()
    assert made.keys() == tensors.keys()
    assert all(torch.equal(made[k], tensors[k]) for k in tensors)


HUGE = {"w": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}
HEADERS = {
    "claims terabytes": struct.pack("<Q", len(json.dumps(HUGE))) + json.dumps(HUGE).encode(),
    "claims a long header": struct.pack("<Q", 1 << 62) + b"{}",
    "cut": save({"w": torch.zeros(100)})[:200],
    "empty": b"",
}


@pytest.mark.parametrize("header", HEADERS)
def test_safetensors_that_lie(encoder_folder, speaker_folder, header):
    for load, folder in (
        (teacher.load_encoder, encoder_folder),
        (model.load_model, speaker_folder),
    ):
        (folder / "model.safetensors").write_bytes(HEADERS[header])
        refused(load, folder, "is not a readable safetensors file")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden_size": 10**9}, "hidden_size is larger than any"),
        ({"num_hidden_layers": 10**8}, "num_hidden_layers is larger than any"),
        ({"conv_dim": [16] * 10**5}, "conv_dim is larger than any"),
        ({"hidden_size": 900_000, "intermediate_size": 900_000}, "does not fit the model: .*shape"),
        ({"hidden_size": -32}, "describes no model"),
        ({"hidden_size": "32"}, "is no hubert configuration"),
        ({"num_hidden_layers": 1.5}, "is no hubert configuration"),
        ({"hidden_act": "os.system"}, "describes no model"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_sizes_that_no_encoder_has(encoder_folder, speaker_folder, sizes, message):
    change(encoder_folder / "config.json", **sizes)
    refused(teacher.load_encoder, encoder_folder, message)
    change(speaker_folder / "encoder.json", **sizes)
    refused(model.load_model, speaker_folder, message)


@pytest.mark.parametrize("setting", ["model.embedding", "model.adapter_units"])
def test_sizes_in_model_json_must_be_those_of_the_weights(speaker_folder, setting):
    described = config.to_dict(config.load("smoke").override({setting: 10**8}))
    change(speaker_folder / "model.json", config=described)
    refused(model.load_model, speaker_folder, "does not fit the model: of another shape")


def test_layers_in_encoder_json_must_be_those_of_the_weights(speaker_folder):
    change(speaker_folder / "encoder.json", num_hidden_layers=50)
    refused(model.load_model, speaker_folder, "does not fit the model: missing .* more")


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "weights.pkl", "model.safetensors"]
)
def test_pickled_weights_are_not_even_opened(encoder_folder, proof, name):
    (encoder_folder / "model.safetensors").unlink()
    torch.save({"weight": Attack(proof)}, encoder_folder / name)
    wanted = "not a readable" if name == "model.safetensors" else f"{name} can run code"
    refused(teacher.load_encoder, encoder_folder, wanted)


def test_a_pickle_in_the_place_of_a_speaker_model(speaker_folder, proof):
    (speaker_folder / "model.safetensors").write_bytes(pickle.dumps(Attack(proof)))
    refused(model.load_model, speaker_folder, "is not a readable safetensors file")


@pytest.mark.parametrize(
    "wish",
    [
        {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}},
        {"attn_implementation": "stranger/kernel"},
        {"_attn_implementation": "stranger/kernel"},
        {"quantization_config": {"quant_method": "stranger"}},
    ],
    ids=lambda wish: next(iter(wish)),
)
def test_code_that_comes_with_weights_is_refused(encoder_folder, speaker_folder, proof, wish):
    for load, folder, name in (
        (teacher.load_encoder, encoder_folder, "config.json"),
        (model.load_model, speaker_folder, "encoder.json"),
    ):
        code = f"from pathlib import Path\nPath({str(proof)!r}).touch()\nConfig = Model = object\n"
        (folder / "evil.py").write_text(code)
        change(folder / name, **wish)
        refused(load, folder, f"asks for code from elsewhere .{next(iter(wish))}")


def test_an_index_that_leads_elsewhere_is_not_followed(encoder_folder, tmp_path):
    (encoder_folder / "model.safetensors").rename(tmp_path / "secret.safetensors")
    index = {"metadata": {}, "weight_map": {"masked_spec_embed": "../secret.safetensors"}}
    (encoder_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(teacher.load_encoder, encoder_folder, "needs config.json and model.safetensors")


def test_links_out_of_the_folder_are_refused(encoder_folder, speaker_folder, tmp_path):
    for load, folder, names in (
        (teacher.load_encoder, encoder_folder, ["config.json", "model.safetensors"]),
        (model.load_model, speaker_folder, ["model.json", "encoder.json", "model.safetensors"]),
    ):
        for name in names:
            elsewhere = tmp_path / f"elsewhere of {name}"
            (folder / name).rename(elsewhere)
            (folder / name).symlink_to(elsewhere)
            refused(load, folder, rf"{name} leads out of its folder, to .*elsewhere")
            (folder / name).unlink()
            elsewhere.rename(folder / name)


def test_a_link_inside_the_folder_is_no_harm(encoder_folder):
    (encoder_folder / "model.safetensors").rename(encoder_folder / "v2.safetensors")
    (encoder_folder / "model.safetensors").symlink_to("v2.safetensors")
    assert teacher.load_encoder(str(encoder_folder)).config.hidden_size == 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "is not valid JSON"),
        ('{"hidden_size": ' + "9" * 5_000 + "}", "is not valid JSON"),
        ("[]", "model_type must be one of"),
        ('{"model_type": []}', "model_type must be one of"),
        ("\xff", "is not valid JSON"),
        (" " * (17 << 20), "at most are read"),
    ],
    ids=["deep", "digits", "list", "type", "bytes", "long"],
)
def test_json_that_is_no_configuration(encoder_folder, speaker_folder, text, message):
    for load, path in (
        (teacher.load_encoder, encoder_folder / "config.json"),
        (model.load_model, speaker_folder / "encoder.json"),
    ):
        path.write_text(text, encoding="latin-1")
        refused(load, path.parent, message)


@pytest.mark.parametrize("described", [[], {}, {"config": None}, {"config": {"model": 3}}], ids=str)
def test_model_json_that_describes_nothing(speaker_folder, described):
    (speaker_folder / "model.json").write_text(json.dumps(described))
    refused(model.load_model, speaker_folder, "model.json: ")


def test_weights_that_are_not_finite_are_refused(speaker_folder):
    tensors = checkpoint.load_tensors(speaker_folder / "model.safetensors")
    tensors["backend.linear.bias"][3] = float("nan")
    checkpoint.save_tensors(speaker_folder / "model.safetensors", tensors)
    refused(model.load_model, speaker_folder, "holds weights that are not finite")


def test_yaml_runs_no_code(tmp_path, proof):
    path = tmp_path / "evil.yaml"
    path.write_text(f"seed: !!python/object/apply:pathlib.Path.touch [!!python/name:{proof}]")
    with pytest.raises(ValueError, match="is not valid YAML"):
        config.load(str(path))


def test_commands_in_a_kaldi_table_are_paths_that_do_not_exist(tmp_path, proof):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/wav.scp").write_text(f"a touch '{proof}' |\n")
    (tmp_path / "train/utt2spk").write_text("a anna\n")
    rows = list(layouts.READERS["speechocean762"](tmp_path, "train", []))
    assert [row[1] for row in rows] == ["anna"] and rows[0][0].endswith("|")
