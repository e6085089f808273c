"""Weights as people have them: fairseq, unilm, s3prl, pickled, sharded, and the authors' students."""

import argparse
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import peak_memory
import pytest
import torch
from transformers import PretrainedConfig
from typer.testing import CliRunner

import oskdft
from oskdft.commands.cli import app
from oskdft.method import encoder as method_encoder
from oskdft.method.encoder import architecture, build_encoder, fold_weight_norm, hidden_states
from oskdft.storage import authors, foreign, pretrained
from oskdft.storage.model_folder import load_model
from oskdft.storage.tensors import load_tensors, stream_tensors

DATA = Path(os.environ.get("OSKDFT_DATA", "/nowhere"))
SHARED = DATA.parent / "checkpoints"
FIXTURES = DATA.parent / "fixtures"
NAMES = (
    "fairseq_hubert_base", "fairseq_wav2vec2_base", "fairseq_xlsr",
    "s3prl_wav2vec2_base", "unilm_wavlm_base", "unilm_wavlm_large",
)  # fmt: skip
needs_checkpoints = pytest.mark.skipif(
    not SHARED.is_dir(), reason="checkpoints lie beside $OSKDFT_DATA, which is not set"
)
FAMILIES = tuple(method_encoder.FAMILIES)
SPLIT_POSITIONS = [family for family in FAMILIES if family != "data2vec-audio"]  # weight-normalised


def run(*words: str):
    return CliRunner().invoke(app, list(words))


@needs_checkpoints
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", ["import", "on the fly"])
def test_states_are_those_of_their_own_code(name, way, tmp_path):
    source = SHARED / f"{name}.pt"
    if way == "import":
        assert run("import", str(source), "--out", str(tmp_path / "out")).exit_code == 0
        source = tmp_path / "out"
    encoder = pretrained.load_encoder(str(source))
    with np.load(SHARED / f"{name}.npz") as own, torch.no_grad():
        states = hidden_states(encoder, torch.from_numpy(own["wave"])).numpy()
        wanted = own["states"].copy()
        wanted[-1] = own["final"]  # ours is normalised at the end, as what the model returns
    assert len(states) == len(wanted)
    assert np.abs(states - wanted).max() < 1e-5


def small(family: str):
    torch.manual_seed(1)
    return build_encoder(architecture(f"tiny-random-{family}")).eval()


def as_folder(folder: Path, encoder, weights: dict, name: str = "pytorch_model.bin") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(encoder.config.to_dict()))
    torch.save(weights, folder / name)
    return folder


def same_states(encoder, source: Path) -> bool:
    wave = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = hidden_states(pretrained.load_encoder(str(source)), wave)
        return torch.allclose(ours, hidden_states(encoder, wave), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_pickled_weights_of_hugging_face(family, tmp_path):
    encoder = small(family)
    assert same_states(encoder, as_folder(tmp_path / "plain", encoder, encoder.state_dict()))
    headed = {
        f"{family.replace('-', '_')}.{name}": tensor
        for name, tensor in encoder.state_dict().items()
    }
    headed |= {"lm_head.weight": torch.ones(3, 32), "lm_head.bias": torch.ones(3)}
    assert same_states(encoder, as_folder(tmp_path / "headed", encoder, headed))


@pytest.mark.parametrize("family", SPLIT_POSITIONS)
def test_fused_positions_and_no_mask_vector(family, tmp_path):
    encoder = small(family)
    fused = fold_weight_norm(small(family)).state_dict()
    del fused["masked_spec_embed"]
    assert "encoder.pos_conv_embed.conv.weight" in fused
    assert same_states(encoder, as_folder(tmp_path / "fused", encoder, fused))


@pytest.mark.parametrize("family", sorted({*FAMILIES} - {"unispeech-sat"}))  # which always has one
def test_a_model_that_masks_nothing_has_no_mask_vector(family, tmp_path):
    config = architecture(f"tiny-random-{family}", mask_time_prob=0.0)
    encoder = build_encoder(config).eval()
    assert "masked_spec_embed" not in encoder.state_dict()
    assert same_states(encoder, as_folder(tmp_path / "without", encoder, encoder.state_dict()))
    left_over = encoder.state_dict() | {"masked_spec_embed": torch.ones(32)}
    assert same_states(encoder, as_folder(tmp_path / "with", encoder, left_over))


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_weights_in_several_files(suffix, tmp_path):
    encoder = small("hubert")
    folder = as_folder(tmp_path / "sharded", encoder, {}, "left.bin")
    (folder / "left.bin").unlink()
    state = encoder.state_dict()
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    where = {}
    for part in (1, 2):
        own = {name: t for place, (name, t) in enumerate(state.items()) if place % 2 == part - 1}
        name = f"{stem}-{part:05d}-of-00002{suffix}"
        where |= dict.fromkeys(own, name)
        (stream_tensors if suffix == ".safetensors" else lambda path, t: torch.save(t, path))(
            folder / name, own
        )
    whole = "model.safetensors" if suffix == ".safetensors" else "pytorch_model.bin"
    index = folder / f"{whole}.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    assert same_states(encoder, folder)
    index.write_text(json.dumps({"weight_map": {"a": f"../x{suffix}"}}))
    with pytest.raises(ValueError, match=r"names \.\./x.*no file of weights in this folder"):
        pretrained.load_encoder(str(folder))


def test_a_fine_tuned_fairseq_model_is_its_encoder(tmp_path):
    """Settings and tensors lie one level deeper."""
    encoder = small("wav2vec2")
    inner = {
        "_name": "wav2vec2", "extractor_mode": "layer_norm", "encoder_layers": 2,
        "encoder_embed_dim": 32, "encoder_ffn_embed_dim": 64, "encoder_attention_heads": 2,
        "layer_norm_first": True, "conv_pos": 16, "conv_pos_groups": 2,
        "conv_feature_layers": "[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16,2,2)] + [(16,2,2)]",
    }  # fmt: skip
    theirs = {}
    for name, tensor in encoder.state_dict().items():
        name = name.replace("masked_spec_embed", "mask_emb").replace(".conv.", ".0.", 1)
        name = name.replace("pos_conv_embed", "pos_conv")
        name = name.replace("parametrizations.weight.original0", "weight_g")
        name = name.replace("parametrizations.weight.original1", "weight_v")
        if "conv_layers" in name:
            name = name.replace(".layer_norm.", ".2.1.")
        name = name.replace("feature_projection.layer_norm", "layer_norm")
        name = name.replace("feature_projection.projection", "post_extract_proj")
        if "layers" in name and "conv" not in name:
            name = name.replace(".attention.", ".self_attn.")
            name = name.replace(".layer_norm.", ".self_attn_layer_norm.")
            name = name.replace("feed_forward.intermediate_dense", "fc1")
            name = name.replace("feed_forward.output_dense", "fc2")
        theirs[f"w2v_encoder.w2v_model.{name}"] = tensor
    theirs["w2v_encoder.proj.weight"] = torch.ones(5, 32)
    settings = argparse.Namespace(arch="wav2vec_ctc", w2v_args={"model": inner})
    torch.save({"args": settings, "cfg": None, "model": theirs}, tmp_path / "ctc.pt")
    assert same_states(encoder, tmp_path / "ctc.pt")


class Attack:
    """A pickle that would make a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("place", ["weights", "settings"])
def test_a_pickle_that_runs_code_is_refused(place, legacy, tmp_path):
    proof = tmp_path / "ran"
    tree = {"cfg": {"encoder_layers": 2}, "model": {"a": torch.ones(2)}}
    tree |= {"extra": Attack(proof)} if place == "settings" else {"model": {"a": Attack(proof)}}
    torch.save(tree, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match="not a checkpoint of plain tensors.*mkdir"):
        pretrained.load_encoder(str(tmp_path / "a.pt"))
    assert not proof.exists()


def test_files_that_claim_more_than_they_hold(tmp_path):
    torch.save({"model": {"a": torch.zeros(1 << 16)}}, tmp_path / "a.pt")
    bomb = tmp_path / "bomb.pt"
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as file,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for entry in file.namelist():
            out.writestr(entry, file.read(entry))
    with pytest.raises(ValueError, match="claims more than a checkpoint of its size holds"):
        pretrained.load_encoder(str(bomb))
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.pt"):
        pretrained.load_encoder(str(tmp_path / "cut.pt"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer_type": "conformer"}, "layer_type is 'conformer'; only 'transformer'"),
        ({"pos_conv_depth": 5}, "pos_conv_depth is 5; only 1"),
        ({"extractor_mode": "mystery"}, "extractor_mode is 'mystery'"),
        ({"conv_feature_layers": "[(512,10,5)] + __import__('os')"}, "cannot be read"),
        ({"conv_feature_layers": ""}, "cannot be read"),
        ({"encoder_embed_dim": 10**9}, "hidden_size is larger than any"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_other_models_are_refused_by_what_differs(change, message, tmp_path):
    settings = {
        "encoder_layers": 2, "encoder_embed_dim": 32, "encoder_ffn_embed_dim": 64,
        "encoder_attention_heads": 2,
        "conv_feature_layers": "[(16,10,5)] + [(16,3,2)] * 4 + [(16,2,2)] * 2",
    }  # fmt: skip
    torch.save({"cfg": settings | change, "model": {"a": torch.ones(2)}}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=message):
        pretrained.load_encoder(str(tmp_path / "a.pt"))


@pytest.mark.parametrize("tree", [{"a": torch.ones(2)}, [1, 2], {"cfg": {}, "model": {}}])
def test_other_layouts_are_refused(tree, tmp_path):
    torch.save(tree, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"fairseq"):
        pretrained.load_encoder(str(tmp_path / "a.pt"))


def test_tensors_missing_or_left_over_are_named(tmp_path):
    encoder = small("hubert")
    state = encoder.state_dict()
    del state["encoder.layers.1.layer_norm.bias"]
    state["encoder.layers.0.adapter_layer.norm.weight"] = torch.ones(2)  # as in MMS
    folder = as_folder(tmp_path / "odd", encoder, state)
    with pytest.raises(ValueError, match=r"missing .*layer_norm\.bias.*left over .*adapter_layer"):
        pretrained.load_encoder(str(folder))


# What each setting of the families does to the states.
BY_MODULES = {  # transformers' own modules, which are used as they are, follow them
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "layer_norm_eps", "feat_extract_norm", "feat_extract_activation", "conv_dim", "conv_stride",
    "conv_kernel", "conv_bias", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups",
    "num_feat_extract_layers", "feat_proj_layer_norm", "conv_pos_batch_norm", "num_buckets",
    "max_bucket_distance", "conv_pos_kernel_size",
}  # fmt: skip
BY_US = {"do_stable_layer_norm"}
IN_TRAINING = {  # of the student; a teacher is in evaluation mode
    "hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "layerdrop",
    "apply_spec_augment", "mask_time_prob", "mask_time_length", "mask_time_min_masks",
    "mask_feature_prob", "mask_feature_length", "mask_feature_min_masks",
}  # fmt: skip
OF_HEADS = {  # pre-training objectives, recognition, classification, and words of the file format
    "vocab_size", "final_dropout", "feat_quantizer_dropout", "initializer_range",
    "ctc_loss_reduction", "ctc_zero_infinity", "use_weighted_layer_sum", "classifier_proj_size",
    "pad_token_id", "bos_token_id", "eos_token_id", "num_codevectors_per_group",
    "num_codevector_groups", "contrastive_logits_temperature", "num_negatives", "codevector_dim",
    "proj_codevector_dim", "diversity_loss_weight", "tdnn_dim", "tdnn_kernel", "tdnn_dilation",
    "xvector_output_dim", "num_ctc_classes", "adapter_kernel_size", "adapter_stride",
    "num_adapter_layers", "output_hidden_size", "num_clusters",
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_every_setting_is_known_to_be_computed_harmless_or_refused(family):
    fields = (
        method_encoder.FAMILIES[family][0]().to_dict().keys() - PretrainedConfig().to_dict().keys()
    )
    unknown = fields - BY_MODULES - BY_US - IN_TRAINING - OF_HEADS - pretrained.COMPUTED.keys()
    assert not unknown, "transformers has a new setting: find out what it does to the states"


@pytest.mark.parametrize("change", [{"adapter_attn_dim": 16}, {"add_adapter": True}])
@pytest.mark.parametrize("family", FAMILIES)
def test_settings_that_would_give_wrong_states_are_refused(family, change, tmp_path):
    encoder = small(family)
    folder = as_folder(tmp_path / "mms", encoder, encoder.state_dict())
    settings = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=f"{next(iter(change))} is .*would be wrong here"):
        pretrained.load_encoder(str(folder))


@pytest.mark.parametrize(
    ("family", "why"),
    [("wav2vec2-bert", "mel frames instead of samples.*conformers"),
     ("wav2vec2-conformer", "conformers")],
)  # fmt: skip
def test_speech_encoders_of_another_construction_are_refused_with_the_reason(family, why, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=f"{family} cannot be a teacher: .*{why}"):
        pretrained.load_encoder(str(tmp_path))
    with pytest.raises(ValueError, match="w2v-bert-2.0' cannot be a teacher: .*mel frames"):
        pretrained.load_encoder("facebook/w2v-bert-2.0")  # before anything is fetched


def test_import_refuses_a_folder_that_holds_something(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty; choose another --out"):
        pretrained.import_encoder("classroom-hubert", tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_an_import_takes_little_more_memory_than_its_file(kind, tmp_path):
    """Here 1.0 times the size; mapped files are read once, legacy pickles are held once."""
    encoder = build_encoder(architecture("tiny-random-hubert", intermediate_size=200_000))
    folder = as_folder(tmp_path / "large", encoder, {})
    weights = folder / "pytorch_model.bin"
    if kind == "safetensors":
        weights.unlink()
        weights = folder / "model.safetensors"
        stream_tensors(weights, encoder.state_dict())
    else:
        torch.save(encoder.state_dict(), weights, _use_new_zipfile_serialization=kind == "zip")
    assert (size := weights.stat().st_size) > 100e6
    del encoder
    with peak_memory.at_most(int(1.2 * size)):
        pretrained.import_encoder(str(folder), tmp_path / "out")


def test_import_keeps_the_stored_type(tmp_path):
    folder = pretrained.import_encoder("classroom-hubert", tmp_path / "out")
    kinds = {tensor.dtype for tensor in load_tensors(folder / "model.safetensors").values()}
    assert torch.float16 in kinds  # as shipped
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # readable alike
    encoder = pretrained.load_encoder(str(folder))
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert same_states(pretrained.load_encoder("classroom-hubert"), folder)


# The authors' students


def published(folder: Path, family: str) -> tuple[Path, dict, dict]:
    """A student of fixture F5 in the authors' files, with a random back-end."""
    meta = json.loads((FIXTURES / f"F5_student_{family}.json").read_text())
    with np.load(FIXTURES / f"F5_student_{family}.npz") as stored:
        arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
    state = {f"module.{n[3:]}": t for n, t in arrays.items() if n.startswith("sd.")}
    torch.save(state, folder / "FT_checkpoint_98_student.pt")
    generator = torch.Generator().manual_seed(0)
    back = {
        "w": (3, 1, 1), "fc1.weight": (24, 64), "fc1.bias": (24,), "bn1.weight": (24,),
        "bn1.bias": (24,), "bn1.running_mean": (24,), "bn1.running_var": (24,),
    }  # fmt: skip
    back = {f"module.{n}": torch.rand(s, generator=generator) for n, s in back.items()}
    back["module.bn1.num_batches_tracked"] = torch.tensor(7)
    torch.save(back, folder / "FT_checkpoint_98_backend.pt")
    return folder / "FT_checkpoint_98_student.pt", arrays, meta["config"]


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="fixtures lie beside $OSKDFT_DATA")
@pytest.mark.parametrize("family", ["hubert", "wavlm"])
def test_a_published_student_gives_its_states_and_embeddings(family, tmp_path):
    student, arrays, settings = published(tmp_path, family)
    sizes = {"num_attention_heads": settings["num_attention_heads"]}
    if family == "wavlm":
        sizes["max_bucket_distance"] = settings["max_bucket_distance"]
    out = authors.import_student(student, tmp_path / "model", sizes=sizes)
    model, cfg, _ = load_model(out)
    with torch.no_grad():
        states = model.student(arrays["x"])
        embeddings = model(arrays["x"])
    assert torch.allclose(states.transpose(0, 1), arrays["stack_all_adapter"], atol=3e-5)
    back = torch.load(tmp_path / "FT_checkpoint_98_backend.pt", weights_only=True)
    back = {name.removeprefix("module."): tensor for name, tensor in back.items()}
    summed = (back["w"][:, None] * arrays["stack_all_adapter"].transpose(0, 1)).sum(0)
    pooled = torch.cat([summed.mean(1), summed.std(1)], 1) @ back["fc1.weight"].T + back["fc1.bias"]
    pooled = (pooled - back["bn1.running_mean"]) / (back["bn1.running_var"] + 1e-5).sqrt()
    assert torch.allclose(embeddings, pooled * back["bn1.weight"] + back["bn1.bias"], atol=1e-3)
    assert cfg.name == "vox1" and cfg.model.adapter_activation == (
        "elu" if family == "wavlm" else "relu"
    )
    assert oskdft.load(out).recipe.tta == "both"


@needs_checkpoints
@pytest.mark.parametrize("name", ["HuBERT_FT_checkpoint_98", "WavLM_FT_checkpoint_99"])
def test_the_real_back_ends_fit_students_of_base_size(name):
    tensors = authors._backend_tensors(
        foreign.load_pickle(SHARED / "authors" / f"{name}_backend.pt"), name
    )
    assert tensors["linear.weight"].shape == (192, 2 * 768) and tensors["weights"].shape == (3,)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="fixtures lie beside $OSKDFT_DATA")
def test_a_student_without_its_back_end(tmp_path):
    student, _, _ = published(tmp_path, "hubert")
    (tmp_path / "FT_checkpoint_98_backend.pt").unlink()
    refused = run("import", str(student), "--out", str(tmp_path / "out"))
    assert "needs its back-end, such as FT_checkpoint_98_backend.pt" in str(refused.exception)
