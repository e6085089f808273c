"""Model folders from strangers: each attack is tried, and refused before it costs memory or runs code."""

import gc
import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import peak_memory
import pytest
import torch
from safetensors.torch import save

from oskdft import config
from oskdft.evaluation import verifier
from oskdft.method import model
from oskdft.speech.corpora import layouts
from oskdft.storage import model_folder, onnx_model, pretrained, tensors
from oskdft.storage.tensors import load_tensors, save_tensors
from oskdft.utils import files
from oskdft.utils.finite import require_embeddings

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
    pretrained.load_encoder("tiny-random-hubert").save_pretrained(folder)
    return folder


@pytest.fixture
def speaker_folder(tmp_path):
    """A sound speaker model to be spoilt."""
    cfg = config.load("smoke")
    made = model.new_model(cfg, pretrained.load_encoder(cfg.model.teacher))
    model_folder.save_model(tmp_path / "model", made, cfg, ["a", "b"], {})
    return tmp_path / "model"


@pytest.fixture
def proof(tmp_path):
    """The file that would be there if foreign code had run."""
    path = tmp_path / "foreign code was here"
    yield path
    assert not path.exists()


@pytest.fixture(autouse=True)
def little_memory():
    with peak_memory.at_most(MEMORY):
        yield


def change(path: Path, **settings) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def refused(load, folder: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load(str(folder))
    assert "\n" not in str(error.value) and len(str(error.value)) < 1_000


def test_the_sound_folders_load(encoder_folder, speaker_folder):
    assert pretrained.load_encoder(str(encoder_folder)).config.hidden_size == 32
    assert model_folder.load_model(speaker_folder)[0].config.num_hidden_layers == 1


def test_a_teacher_with_a_head_and_old_names_loads_the_same(encoder_folder):
    """What the published folders look like: a prefix, weight_g and weight_v, tensors of a head."""
    tensors = load_tensors(encoder_folder / "model.safetensors")

    def old(name: str) -> str:
        name = name.replace("parametrizations.weight.original0", "weight_g")
        return "hubert." + name.replace("parametrizations.weight.original1", "weight_v")

    renamed = {old(k): v for k, v in tensors.items()} | {"lm_head.weight": torch.zeros(3, 3)}
    save_tensors(encoder_folder / "model.safetensors", renamed)
    made = pretrained.load_encoder(str(encoder_folder)).state_dict()
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
        (pretrained.load_encoder, encoder_folder),
        (model_folder.load_model, speaker_folder),
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
        ({"hidden_size": -32}, "hidden_size is -32; a number from 1 on"),
        ({"hidden_size": "32"}, "hidden_size is '32'; a number from 1 on"),
        ({"num_hidden_layers": 1.5}, "num_hidden_layers is 1.5; a number from 1 on"),
        ({"num_attention_heads": -4}, "num_attention_heads is -4; a number from 1 on"),
        ({"num_attention_heads": 3}, "hidden_size is 32, no multiple of num_attention_heads"),
        ({"conv_stride": [1] * 7}, "conv_stride makes a frame of 1 samples"),
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 0]}, "conv_stride is .*; numbers from 1 on"),
        ({"conv_kernel": 3}, "conv_kernel is 3; numbers from 1 on"),
        ({"hidden_dropout": float("nan")}, "hidden_dropout is nan, no finite number"),
        ({"attention_dropout": 1.5}, "attention_dropout is 1.5; a share from 0 to 1"),
        ({"mask_time_prob": "x"}, "mask_time_prob is 'x'; a share from 0 to 1"),
        ({"layer_norm_eps": float("inf")}, "layer_norm_eps is inf, no finite number"),
        ({"layer_norm_eps": 0}, "layer_norm_eps is 0; a small number above 0"),
        ({"num_labels": 1_000_000}, "num_labels is 1000000; at most 100000"),
        ({"hidden_act": "os.system"}, "describes no model"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_sizes_that_no_encoder_has(encoder_folder, speaker_folder, sizes, message):
    change(encoder_folder / "config.json", **sizes)
    refused(pretrained.load_encoder, encoder_folder, message)
    change(speaker_folder / "encoder.json", **sizes)
    refused(model_folder.load_model, speaker_folder, message)


@pytest.mark.parametrize("setting", ["model.embedding", "model.adapter_units"])
def test_sizes_in_model_json_must_be_those_of_the_weights(speaker_folder, setting):
    described = config.to_dict(config.load("smoke").override({setting: 16_000}))
    change(speaker_folder / "model.json", config=described)
    refused(model_folder.load_model, speaker_folder, "does not fit the model: of another shape")


def test_layers_in_encoder_json_must_be_those_of_the_weights(speaker_folder):
    change(speaker_folder / "encoder.json", num_hidden_layers=50)
    refused(model_folder.load_model, speaker_folder, "does not fit the model: missing .* more")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_pickled_weights_run_nothing(encoder_folder, proof, name):
    (encoder_folder / "model.safetensors").unlink()
    torch.save({"weight": Attack(proof)}, encoder_folder / name)
    wanted = "not a readable" if name == "model.safetensors" else f"{name} is not a checkpoint of"
    refused(pretrained.load_encoder, encoder_folder, wanted)


@pytest.mark.parametrize("name", ["model.pt", "weights.pkl"])
def test_other_files_of_a_folder_are_not_opened(encoder_folder, proof, name):
    (encoder_folder / "model.safetensors").unlink()
    torch.save({"weight": Attack(proof)}, encoder_folder / name)
    refused(pretrained.load_encoder, encoder_folder, "needs config.json and model.safetensors or")


def test_a_pickle_in_the_place_of_a_speaker_model(speaker_folder, proof):
    (speaker_folder / "model.safetensors").write_bytes(pickle.dumps(Attack(proof)))
    refused(model_folder.load_model, speaker_folder, "is not a readable safetensors file")


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
        (pretrained.load_encoder, encoder_folder, "config.json"),
        (model_folder.load_model, speaker_folder, "encoder.json"),
    ):
        code = f"from pathlib import Path\nPath({str(proof)!r}).touch()\nConfig = Model = object\n"
        (folder / "evil.py").write_text(code)
        change(folder / name, **wish)
        refused(load, folder, f"asks for code from elsewhere .{next(iter(wish))}")


def test_an_index_that_leads_elsewhere_is_not_followed(encoder_folder, tmp_path):
    (encoder_folder / "model.safetensors").rename(tmp_path / "secret.safetensors")
    index = {"metadata": {}, "weight_map": {"masked_spec_embed": "../secret.safetensors"}}
    (encoder_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(
        pretrained.load_encoder, encoder_folder, r"names \.\./secret\.safetensors, which is no file"
    )


def test_links_out_of_the_folder_are_refused(encoder_folder, speaker_folder, tmp_path):
    for load, folder, names in (
        (pretrained.load_encoder, encoder_folder, ["config.json", "model.safetensors"]),
        (
            model_folder.load_model,
            speaker_folder,
            ["model.json", "encoder.json", "model.safetensors"],
        ),
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
    assert pretrained.load_encoder(str(encoder_folder)).config.hidden_size == 32


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
        (pretrained.load_encoder, encoder_folder / "config.json"),
        (model_folder.load_model, speaker_folder / "encoder.json"),
    ):
        path.write_text(text, encoding="latin-1")
        refused(load, path.parent, message)


@pytest.mark.parametrize(
    "described",
    [
        [],
        {},
        {"config": None},
        {"config": {"model": 3}},
        {"config": {"a\nb": 3}},
        {"config": "c" * 9_000},
    ],
    ids=lambda described: str(described)[:30],
)
def test_model_json_that_describes_nothing(speaker_folder, onnx_folder, described):
    for load, folder in (
        (model_folder.load_model, speaker_folder),
        (onnx_model.load_onnx, onnx_folder(onnx_tensor([2, 2]))),
    ):
        (folder / "model.json").write_text(json.dumps(described))
        refused(load, folder, "model.json: ")


FITTED = {"threshold": 0.5, "llr_scale": 2, "llr_offset": -1.0}


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (None, "is None; export"),
        ([], r"is \[\]; export"),
        ({"full": "x"}, "of 'full' has threshold None, not a finite number"),
        ({"full": {}}, "has threshold None"),
        ({"full": FITTED, "both": FITTED | {"threshold": "x"}}, "of 'both' has threshold 'x'"),
        ({"full": FITTED | {"threshold": [1]}}, r"has threshold \[1\]"),
        ({"full": FITTED | {"threshold": float("nan")}}, "has threshold nan"),
        ({"full": FITTED | {"llr_scale": True}}, "has llr_scale True"),
        ({"full": FITTED | {"llr_offset": 10**400}}, "has llr_offset 1000"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_calibration_that_cannot_be_used(speaker_folder, onnx_folder, calibration, message):
    for load, folder in (
        (model_folder.load_model, speaker_folder),
        (onnx_model.load_onnx, onnx_folder(onnx_tensor([2, 2]))),
    ):
        change(folder / "model.json", calibration=calibration)
        refused(load, folder, f"model.json: calibration .*{message}")


@pytest.mark.parametrize("wrong", [{"speakers": 3}, {"dev_eer": "x"}], ids=str)
def test_facts_of_another_kind_are_refused(speaker_folder, wrong):
    change(speaker_folder / "model.json", **wrong)
    refused(
        model_folder.load_model,
        speaker_folder,
        f"model.json: {next(iter(wrong))} is .*; export the",
    )


def test_a_sound_calibration_loads_and_none_is_sound_too(onnx_folder):
    folder = onnx_folder(onnx_tensor([2, 2]))
    for calibration in ({}, {"full": FITTED}):
        change(folder / "model.json", calibration=calibration)
        assert onnx_model.load_onnx(folder)[2]["calibration"] == calibration


def test_weights_that_are_not_finite_are_refused(speaker_folder):
    tensors = load_tensors(speaker_folder / "model.safetensors")
    tensors["backend.linear.bias"][3] = float("nan")
    save_tensors(speaker_folder / "model.safetensors", tensors)
    change(speaker_folder / "model.json", weights_sha256=None)  # as earlier versions wrote it
    refused(model_folder.load_model, speaker_folder, "holds weights that are not finite")


def test_weights_of_a_teacher_that_are_not_finite_are_refused(encoder_folder):
    tensors = load_tensors(encoder_folder / "model.safetensors")
    next(iter(tensors.values())).flatten()[0] = float("inf")
    save_tensors(encoder_folder / "model.safetensors", tensors)
    refused(pretrained.load_encoder, encoder_folder, "holds weights that are not finite")


def test_weights_are_those_that_model_json_was_written_with(speaker_folder):
    """A flipped bit of a weight, and a kill between the weights and model.json, look like this."""
    weights = speaker_folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(model_folder.load_model, speaker_folder, "is not the file that model.json was written")
    model_folder.annotate(speaker_folder, {"dev_eer": 0.5})  # keeps the checksum
    refused(model_folder.load_model, speaker_folder, "is not the file that model.json was written")
    weights.write_bytes(whole)
    assert model_folder.load_model(speaker_folder)[2]["dev_eer"] == 0.5


def file_of(kinds: dict[str, tuple[str, list[int], int]]) -> bytes:
    """A safetensors file of zeros: name -> type, shape, bytes."""
    header, end = {}, 0
    for name, (kind, shape, size) in kinds.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "BOOL", "U8", "U16", "C64"])
def test_numbers_of_no_weights_are_refused_by_name(tmp_path, encoder_folder, kind):
    for path in (tmp_path / "a.safetensors", encoder_folder / "model.safetensors"):
        path.write_bytes(file_of({"layer.weight": (kind, [8], 64 if kind == "C64" else 32)}))
    for load in (tensors.load_tensors, tensors.shapes):
        with pytest.raises(ValueError, match=f"layer.weight is of type {kind}; save the weights"):
            load(tmp_path / "a.safetensors")
    refused(pretrained.load_encoder, encoder_folder, f"is of type {kind}")


@pytest.mark.slow
def test_a_header_of_many_empty_tensors_costs_nothing(tmp_path):
    content = file_of({f"{n:07d}": ("F32", [0], 0) for n in range(150_000)})
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="is not a readable safetensors file .its header has"):
        tensors.load_tensors(tmp_path / "a.safetensors")


def test_whole_numbers_are_no_weights(tmp_path):
    layer = torch.nn.Linear(2, 1)
    whole = {"weight": torch.ones(1, 2, dtype=torch.int64), "bias": torch.zeros(1)}
    with pytest.raises(ValueError, match="x: weight holds torch.int64, not torch.float32"):
        tensors.load_strictly(layer, whole, "x")


def test_embeddings_that_are_not_finite_are_no_answer():
    wave = np.sin(np.arange(16_000, dtype=np.float32))
    found = verifier.load("classroom", "cpu")
    with torch.no_grad():
        found.model.backend.linear.weight.fill_(1e38)
    for answer in (found.verify, found.score):
        with pytest.raises(ValueError, match="embeddings that are not finite"):
            answer(wave, wave)
    with pytest.raises(ValueError, match=r"gives \[2, 0\], no embeddings"):
        require_embeddings(np.zeros((2, 0), np.float32))


@pytest.fixture
def hub(encoder_folder, tmp_path, monkeypatch):
    """The cache of the hub, as it fills it, with a sound teacher "someone/hubert-tiny" in it."""
    import huggingface_hub

    own = tmp_path / "hub/models--someone--hubert-tiny"
    snapshot = own / "snapshots" / ("0" * 40)
    for folder in (own / "blobs", own / "refs", snapshot):
        folder.mkdir(parents=True)
    (own / "refs/main").write_text("0" * 40)
    for name in ("config.json", "model.safetensors"):
        (encoder_folder / name).rename(own / "blobs" / name)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return snapshot


def test_a_hub_name_loads_from_the_cache(hub):
    made = pretrained.load_encoder("someone/hubert-tiny").state_dict()
    given = tensors.load_tensors(hub / "model.safetensors")
    assert made.keys() == given.keys() and all(torch.equal(made[k], given[k]) for k in given)


def test_a_hub_name_may_name_its_revision_and_else_the_one_used_is_said(hub, capsys):
    pretrained._say_revision.cache_clear()
    here, other = "0" * 40, "1" * 40
    pinned = pretrained.load_encoder(f"someone/hubert-tiny@{here}").state_dict()
    assert "revision" not in capsys.readouterr().err
    given = tensors.load_tensors(hub / "model.safetensors")
    assert all(torch.equal(pinned[k], given[k]) for k in given)
    pretrained.load_encoder("someone/hubert-tiny")
    assert f"someone/hubert-tiny@{here} stays the same" in capsys.readouterr().err
    with pytest.raises(ValueError, match=f"hubert-tiny@{other} is not on this machine"):
        pretrained.load_encoder(f"someone/hubert-tiny@{other}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 900_000, "intermediate_size": 900_000}, "does not fit the model: .*shape"),
        ({"num_hidden_layers": 3}, "safetensors does not fit the model: missing .* 13 more"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "asks for code from elsewhere .auto_map"),
        ({"model_type": "bert"}, "model_type must be one of"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_hub_name_is_checked_like_a_folder(hub, settings, message):
    change(hub / "config.json", **settings)
    refused(lambda _: pretrained.load_encoder("someone/hubert-tiny"), hub, message)


def test_pickled_weights_of_a_hub_name_run_nothing(hub, proof):
    (hub / "model.safetensors").unlink()
    torch.save({"weight": Attack(proof)}, hub / "pytorch_model.bin")
    wanted = "pytorch_model.bin is not a checkpoint of plain tensors"
    refused(lambda _: pretrained.load_encoder("someone/hubert-tiny"), hub, wanted)


def onnx_tensor(dims: list[int], place: str = ""):
    """A tensor "w" of these sizes that holds 16 bytes, or claims that a file elsewhere holds it."""
    import onnx

    made = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=dims)
    if not place:
        made.raw_data = bytes(16)
        return made
    made.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": place, "offset": "0", "length": "16"}.items():
        made.external_data.add(key=key, value=value)
    return made


@pytest.fixture
def onnx_folder(tmp_path):
    """Makes an exported folder whose model multiplies by "w", an initializer or a constant.

    With ``nodes`` it does what they say, from "wave" and the given tensors to "embedding".
    """
    from onnx import helper

    def make(*tensors, constant: bool = False, nodes: list | None = None) -> Path:
        nodes = nodes or [helper.make_node("MatMul", ["wave", "w"], ["embedding"])]
        if constant:
            nodes.insert(0, helper.make_node("Constant", [], ["w"], value=tensors[0]))
        ends = [helper.make_tensor_value_info(n, 1, None) for n in ("wave", "embedding")]
        graph = helper.make_graph(
            nodes, "g", ends[:1], ends[1:], initializer=[] if constant else tensors
        )
        opset = helper.make_opsetid("", 17)
        made = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        folder = tmp_path / "export"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(made.SerializeToString())
        described = {"config": config.to_dict(config.load("smoke"))}
        (folder / "model.json").write_text(json.dumps(described))
        return folder

    return make


def test_a_sound_onnx_folder_loads(onnx_folder):
    made, _, _ = onnx_model.load_onnx(onnx_folder(onnx_tensor([2, 2])))
    assert made.embed([torch.ones(2).numpy()]).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("constant", [False, True], ids=["initializer", "constant"])
@pytest.mark.parametrize("place", ["{}/secret", "../secret", "near", "/proc/self/environ"])
def test_onnx_tensors_in_other_files_are_refused_before_the_runtime_sees_them(
    onnx_folder, tmp_path, monkeypatch, place, constant
):
    (tmp_path / "secret").write_bytes(bytes(16))
    folder = onnx_folder(onnx_tensor([2, 2], place.format(tmp_path)), constant=constant)
    (folder / "near").write_bytes(bytes(16))
    monkeypatch.setattr(onnx_model, "OnnxModel", lambda *_, **__: pytest.fail("it was loaded"))
    refused(onnx_model.load_onnx, folder, "keeps tensors in other files, which are never read")


@pytest.mark.parametrize("dims", [[10**6, 10**6], [10**5, 10**4], [-1, 4], [2**32, 2**32]], ids=str)
def test_onnx_tensors_that_claim_more_than_the_file_holds_cost_nothing(onnx_folder, dims):
    refused(onnx_model.load_onnx, onnx_folder(onnx_tensor(dims)), "cannot be loaded .*export it")


def greedy(kind: str) -> tuple[list, list]:
    """(tensors, nodes) that add 0 to the wave, but first fill gigabytes or count for ever."""
    from onnx import helper, numpy_helper

    node, value, real = (
        helper.make_node,
        helper.make_tensor_value_info,
        helper.np_dtype_to_tensor_dtype,
    )
    side = {"outer product": 32_000, "many constants": 4_000}.get(kind, 1)
    made = {"a": np.zeros((side, 1), np.float32), "b": np.zeros((1, side), np.float32)}
    made |= {"both": np.array([0, 1]), "shape": np.array([10**5, 10**4])}
    made |= {"most": np.array(2**62), "true": np.array(True)}
    sums = [node("ReduceSum", ["large", "both"], ["sum"], keepdims=0)]
    if kind == "filled":
        large = [node("ConstantOfShape", ["shape"], ["large"])]
    elif kind == "endless":
        kinds = {"turn": np.int64, "go": np.bool_, "x": np.float32, "on": np.bool_, "y": np.float32}
        ends = [
            value(name, real(np.dtype(kind)), [1, 1] if name in "xy" else [])
            for name, kind in kinds.items()
        ]
        steps = [node("Identity", ["go"], ["on"]), node("Identity", ["x"], ["y"])]
        body = helper.make_graph(steps, "body", ends[:3], ends[3:])
        large = [node("Loop", ["most", "true", "a"], ["large"], body=body)]
    else:
        large = [node("Add", ["a", "b"], ["large"])]
    if kind == "many constants":  # each fits, all together would not
        for turn in range(30):
            made[f"c{turn}"] = np.full(1, turn, np.float32)
            large.append(node("Add", ["large", f"c{turn}"], [f"large{turn}"]))
            sums.append(node("ReduceSum", [f"large{turn}", "both"], [f"sum{turn}"], keepdims=0))
    tensors = [numpy_helper.from_array(array, name) for name, array in made.items()]
    return tensors, [*large, *sums, node("Add", ["wave", "sum"], ["embedding"])]


def use_onnx(folder: str) -> np.ndarray:
    return onnx_model.load_onnx(folder)[0].embed([np.zeros(16_000, np.float32)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["filled", "outer product", "endless"])
def test_an_onnx_graph_may_not_take_all_memory_or_all_time(onnx_folder, monkeypatch, kind):
    tensors, nodes = greedy(kind)
    model = onnx_model.load_onnx(onnx_folder(*tensors, nodes=nodes))[0]
    monkeypatch.setattr(onnx_model, "PATIENCE", 3.0)  # the child has started
    wanted = r"cannot embed 1 x 1 s of audio \(more than 4 GB( or 3 s)?\); shorten the recordings"
    refused(lambda _: model.embed([np.zeros(16_000, np.float32)]), Path(), wanted)


@pytest.mark.slow
def test_an_onnx_graph_that_never_ends_to_load_is_killed(onnx_folder, monkeypatch):
    """Functions that call each other twice: 2^60 nodes when they are written out."""
    import onnx
    from onnx import helper

    monkeypatch.setattr(onnx_model, "PATIENCE", 15.0)
    folder = onnx_folder(nodes=[helper.make_node("f60", ["wave"], ["embedding"], domain="f")])
    made = onnx.load(folder / "model.onnx")
    made.opset_import.append(helper.make_opsetid("f", 1))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    for level in range(61):
        inner = [helper.make_node(f"f{level - 1}", [a], [b], domain="f") for a, b in ("xy", "yz")]
        body = inner if level else [helper.make_node("Identity", ["x"], ["z"])]
        made.functions.append(helper.make_function("f", f"f{level}", ["x"], ["z"], body, opsets))
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    before = children()
    refused(onnx_model.load_onnx, folder, r"cannot be loaded .more than 4 GB( or 15 s)?\)")
    assert children() == before


def children() -> set[str]:
    """Processes that this one has started and that have not ended."""
    gc.collect()  # models of other tests end theirs
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.slow
def test_a_strangers_model_answers_from_a_process_that_ends_with_it(onnx_folder):
    before = children()
    made = onnx_model.load_onnx(onnx_folder(onnx_tensor([2, 2])))[0]
    assert len(children() - before) == 1
    made.session.process.kill()
    made.session.process.wait()
    assert made.embed([np.ones(2, np.float32)]).tolist() == [[0.0, 0.0]]  # from another
    del made
    assert children() == before


def test_own_exports_and_shipped_models_run_in_this_process(onnx_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = onnx_folder(onnx_tensor([2, 2]))
    assert not onnx_model.load_onnx(folder)[0].trusted
    onnx_model.remember(files.sha256(folder / "model.onnx"))
    assert onnx_model.load_onnx(folder)[0].trusted
    with open(folder / "model.onnx", "ab") as file:
        file.write(b"\x1a\x00")  # another file: its documentation is empty now
    assert not onnx_model.load_onnx(folder)[0].trusted
    assert onnx_model.load_onnx(files.ASSETS / "classroom")[0].trusted


def test_an_onnx_graph_that_gives_no_embedding_is_refused(onnx_folder):
    from onnx import helper

    sums = helper.make_node("ReduceSum", ["wave"], ["embedding"], keepdims=0)
    wanted = r"cannot embed 1 x 1 s of audio \(its result is float32 \[\], not float32 \[1, E\]\)"
    refused(use_onnx, onnx_folder(nodes=[sums]), wanted)


def test_constants_of_an_onnx_graph_are_not_all_computed_while_it_is_loaded(onnx_folder):
    tensors, nodes = greedy("many constants")
    assert use_onnx(str(onnx_folder(*tensors, nodes=nodes))).tolist() == [[0.0] * 16_000]


@pytest.mark.parametrize("name", ["model.onnx", "model.json"])
def test_an_onnx_folder_of_links_is_refused(onnx_folder, tmp_path, name):
    folder = onnx_folder(onnx_tensor([2, 2]))
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    refused(onnx_model.load_onnx, folder, f"{name} leads out of its folder, to .*elsewhere")


@pytest.mark.parametrize(
    "content",
    [b"", b"no model", b"ORTM" * 50, b"\x08\x08"],
    ids=["empty", "text", "ort", "no graph"],
)
def test_a_model_onnx_that_is_none_is_refused(onnx_folder, content):
    folder = onnx_folder(onnx_tensor([2, 2]))
    (folder / "model.onnx").write_bytes(content)
    refused(onnx_model.load_onnx, folder, "model.onnx .*export it again")


def test_yaml_runs_no_code(tmp_path, proof):
    path = tmp_path / "evil.yaml"
    path.write_text(f"seed: !!python/object/apply:pathlib.Path.touch [!!python/name:{proof}]")
    with pytest.raises(ValueError, match="is not valid YAML"):
        config.load(str(path))


def test_commands_in_a_kaldi_table_are_refused(tmp_path, proof):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/wav.scp").write_text(f"a touch '{proof}' |\n")
    (tmp_path / "train/utt2spk").write_text("a anna\n")
    with pytest.raises(ValueError, match="a is a command; list recordings only"):
        list(layouts.READERS["speechocean762"](tmp_path, "train", []))
