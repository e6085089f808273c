"""Teacher, student and back-ends on tiny random models."""

import dataclasses

import pytest
import torch
from transformers import (
    Data2VecAudioModel,
    HubertModel,
    UniSpeechSatModel,
    Wav2Vec2Model,
    WavLMModel,
)

from oskdft.config import BUNDLES, Config, ModelConfig
from oskdft.evaluation import probes
from oskdft.method import backends, strategies, student, teacher
from oskdft.method.encoder import (
    architecture,
    build_encoder,
    cnn,
    convolve_positions,
    frame_count,
)
from oskdft.storage import pretrained

FAMILIES = {
    "hubert": HubertModel,
    "wav2vec2": Wav2Vec2Model,
    "wavlm": WavLMModel,
    "unispeech-sat": UniSpeechSatModel,
    "data2vec-audio": Data2VecAudioModel,
}
CORRECTED = BUNDLES["corrected"]
MODEL = ModelConfig(student_layers=2, adapter_units=8)


@pytest.fixture(params=FAMILIES)
def encoder(request):
    return pretrained.load_encoder(f"tiny-random-{request.param}")


def switch(**changes):
    return dataclasses.replace(CORRECTED, **changes)


def build(encoder, model=MODEL, seed=1, **switches):
    torch.manual_seed(seed)
    made = student.from_teacher(encoder, model, switch(**switches))
    with torch.no_grad():  # a zero-initialised adapter would hide every difference
        for adapter in made.adapters.children():
            adapter.up.weight.normal_(std=0.3)
    return made


def waves(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [0.1 * torch.randn(n, generator=generator) for n in lengths]


def padded(parts):
    lengths = torch.tensor([len(p) for p in parts])
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), lengths


def test_teacher_equals_transformers(encoder):
    """The spelt-out forward pass is that of the library."""
    assert isinstance(encoder, FAMILIES[encoder.config.model_type])
    wave = torch.stack(waves(9000, 9000))
    with torch.no_grad():
        theirs = encoder(wave, output_hidden_states=True)
    ours = teacher.Teacher(encoder)(wave)
    assert len(ours) == encoder.config.num_hidden_layers + 1
    torch.testing.assert_close(ours[-1], theirs.last_hidden_state, atol=1e-5, rtol=1e-4)
    for mine, other in zip(ours[:-1], theirs.hidden_states, strict=False):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"data2vec-audio"}))
def test_both_orders_of_norm_equal_transformers(family, norm, pre_norm):
    changes = {"do_stable_layer_norm": pre_norm, "feat_extract_norm": norm}
    torch.manual_seed(0)
    encoder = build_encoder(architecture(f"tiny-random-{family}", **changes)).eval()
    test_teacher_equals_transformers(encoder)
    test_padding_changes_no_state(encoder)


def test_teacher_is_frozen(encoder):
    made = teacher.Teacher(encoder).train()
    assert not any(m.training for m in made.modules())
    assert not any(p.requires_grad for p in made.parameters())
    assert not made(torch.zeros(1, 4000), keep=(0, 2)).requires_grad


@pytest.mark.parametrize("samples", [400, 719, 720, 16_000, 48_000])
def test_frame_count_is_the_number_of_frames(encoder, samples):
    frames = cnn(encoder, torch.zeros(1, samples)).shape[1]
    assert frames == frame_count(encoder.config, samples) == (samples - 400) // 320 + 1


@pytest.mark.parametrize("samples", [400, 719, 16_000])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_cnn_that_learns_gives_the_numbers_and_gradients_of_transformers(family, samples):
    """With layer norms it keeps the channels of a frame together in memory, which is faster."""
    torch.manual_seed(0)
    encoder = build_encoder(architecture(f"tiny-random-{family}", feat_extract_norm="layer"))
    extractor = encoder.feature_extractor
    with torch.no_grad():
        for parameter in extractor.parameters():
            parameter.normal_(std=0.5)
    wave = torch.randn(2, samples)
    wanted, given = extractor(wave).transpose(1, 2), cnn(encoder, wave)
    torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        assert torch.equal(cnn(encoder, wave), wanted), "without gradients nothing is changed"
    onto, parts = torch.randn_like(wanted), list(extractor.parameters())
    there, here = (torch.autograd.grad(y, parts, onto) for y in (wanted, given))
    for one, other in zip(there, here, strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)


def test_padding_changes_no_state(encoder):
    """Group norm, positions and attention see each utterance as if it were alone."""
    parts = waves(9000, 4000, 6500)
    batch, lengths = padded(parts)
    states = teacher.Teacher(encoder)(batch, lengths)
    for i, part in enumerate(parts):
        alone = teacher.Teacher(encoder)(part[None])
        torch.testing.assert_close(states[:, i, : alone.shape[2]], alone[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [400, 4000, 30_000, 80_000])  # 1 to 249 frames, a kernel of 16
def test_positions_by_spectra_are_the_convolution(encoder, samples):
    """A single row goes through transformers' convolution, several through spectra; so do gradients."""
    if encoder.config.model_type == "data2vec-audio":
        pytest.skip("its kernels are short: it has no product of spectra")
    frames, conv = frame_count(encoder.config, samples), encoder.encoder.pos_conv_embed.conv
    rows = torch.randn(3, frames, encoder.config.hidden_size, requires_grad=True)
    wanted = torch.cat([encoder.encoder.pos_conv_embed(row[None]) for row in rows])
    given = convolve_positions(encoder.encoder.pos_conv_embed, rows)
    torch.testing.assert_close(given, wanted, atol=1e-6, rtol=1e-5)
    assert not torch.equal(given, wanted), "the two ways round differently: this took the same one"
    onto = torch.randn_like(wanted)
    parts = [rows, *conv.parameters()]
    there, here = (torch.autograd.grad(y, parts, onto) for y in (wanted, given))
    for one, other in zip(there, here, strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)


def test_student_starts_as_the_teacher(encoder):
    made = student.from_teacher(encoder, MODEL, switch(student_init="copied"))
    own, theirs = made.encoder.state_dict(), encoder.state_dict()
    assert own.keys() <= theirs.keys()
    assert all(torch.equal(own[k], theirs[k]) for k in own)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("order", [(2, 3), (3, 1), (2, 2)])
def test_student_layers_start_as_the_named_teacher_layers(family, order):
    torch.manual_seed(0)
    encoder = build_encoder(architecture(f"tiny-random-{family}", num_hidden_layers=3)).eval()
    made = student.from_teacher(encoder, dataclasses.replace(MODEL, init_layers=order), CORRECTED)
    for own, number in zip(made.encoder.encoder.layers, order, strict=True):
        own, theirs = own.state_dict(), encoder.encoder.layers[number - 1].state_dict()
        assert all(torch.equal(own[k], theirs[k]) for k in own.keys() & theirs.keys())
        assert own.keys() ^ theirs.keys() <= {"attention.rel_attn_embed.weight"}
    if family == "wavlm":
        own, theirs = (
            e.encoder.layers[0].attention.rel_attn_embed for e in (made.encoder, encoder)
        )
        assert torch.equal(own.weight, theirs.weight)
    rest = {k: v for k, v in made.encoder.state_dict().items() if not k.startswith("encoder.lay")}
    assert all(torch.equal(rest[k], encoder.state_dict()[k]) for k in rest)


def test_a_layer_that_the_teacher_does_not_have_is_refused(encoder):
    with pytest.raises(ValueError, match=r"init_layers is \[1, 3\], the teacher has layers 1 to 2"):
        student.from_teacher(encoder, dataclasses.replace(MODEL, init_layers=(1, 3)), CORRECTED)


@pytest.mark.parametrize("strategy", ["scratch", "teacher-ft"])
def test_layers_to_start_from_need_a_student_that_starts_from_a_teacher(strategy):
    cfg = Config(strategy=strategy, model=dataclasses.replace(MODEL, init_layers=(1, 2)))
    with pytest.raises(ValueError, match="starts no student from a teacher; leave model.init_l"):
        strategies.stages(cfg)


def test_a_stage_of_the_teacher_has_all_its_layers_in_order():
    cfg = Config(strategy="postcomp", model=dataclasses.replace(MODEL, init_layers=(3, 2)))
    whole, shallow = (strategies.stage_config(cfg, s, 12).model for s in strategies.stages(cfg))
    assert (whole.student_layers, whole.init_layers) == (12, ())
    assert (shallow.student_layers, shallow.init_layers) == (2, (3, 2))


def test_published_initialisation_leaves_positions_random(encoder):
    """Surprise 4."""
    made = student.from_teacher(encoder, MODEL, switch(student_init="random"))
    own, theirs = made.encoder.state_dict(), encoder.state_dict()
    random = {k for k in own if not torch.equal(own[k], theirs[k])}
    assert random and all(
        k.startswith(("encoder.pos_conv_embed", "encoder.layer_norm", "masked_spec_embed"))
        for k in random
    )


def test_student_of_too_many_layers_is_refused(encoder):
    with pytest.raises(ValueError, match="student_layers is 3, the teacher has 2"):
        student.from_teacher(encoder, ModelConfig(student_layers=3), CORRECTED)


def test_two_paths_equal_two_passes(encoder):
    """The shared part computed once gives what two separate runs give, and the same gradients."""
    made, wave = build(encoder).double().eval(), torch.stack(waves(6000, 6000)).double()
    kd, sv = made.forward_two_paths(wave)
    apart = made(wave, distilled_rows=2), made(wave)
    torch.testing.assert_close(kd, apart[0], atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(sv, apart[1], atol=1e-12, rtol=1e-9)
    assert not torch.allclose(kd[1], sv[1])
    torch.testing.assert_close(kd[0], sv[0], atol=0, rtol=0)

    def gradients(kd, sv):
        made.zero_grad()
        (kd[-1].square().mean() + sv[-1].abs().mean()).backward()
        return {n: p.grad.clone() for n, p in made.named_parameters() if p.grad is not None}

    once, twice = gradients(kd, sv), gradients(*apart)
    assert once.keys() == twice.keys()
    for name in once:
        torch.testing.assert_close(once[name], twice[name], atol=1e-10, rtol=1e-7)


def test_which_loss_reaches_which_parameter(encoder):
    made, wave = build(encoder).eval(), torch.stack(waves(6000, 6000))
    kd, sv = made.forward_two_paths(wave)
    kd[-1].square().mean().backward(retain_graph=True)
    assert all(p.grad is None or not p.grad.any() for p in made.adapters.parameters())
    body = dict(made.encoder.encoder.layers[0].named_parameters())[
        "feed_forward.output_dense.weight"
    ]
    from_kd = body.grad.clone()
    assert from_kd.any()
    sv[-1].square().mean().backward()
    assert all(
        p.grad is not None and p.grad.any()
        for n, p in made.adapters.named_parameters()
        if "weight" in n
    )
    assert not torch.equal(body.grad, from_kd)


def test_zero_adapter_starts_as_identity(encoder):
    """Surprise 3: with the text's zero initialisation both paths start equal, as released they do not."""
    wave = torch.stack(waves(6000, 6000))
    for init, equal in (("zero", True), ("normal", False)):
        made = student.from_teacher(encoder, MODEL, switch(adapter_init=init)).eval()
        kd, sv = made.forward_two_paths(wave)
        assert torch.allclose(kd, sv, atol=1e-6) == equal


def test_doubled_residual_doubles_h(encoder):
    """Surprise 2: the adapter adds its input and the layer adds it again."""
    wave = torch.stack(waves(6000))
    single, doubled = (build(encoder, adapter_residual=r).eval() for r in ("single", "doubled"))
    hidden = torch.randn(1, 5, 32)
    torch.testing.assert_close(doubled.adapters[0](hidden), single.adapters[0](hidden) + hidden)
    assert not torch.allclose(single(wave)[1], doubled(wave)[1])


def test_half_batch_depends_on_companions(encoder):
    """Surprise 1: as released, crops 0 and 1 of five lose their adapters; corrected, none does."""
    made, wave = build(encoder).eval(), torch.stack(waves(6000, 6000, 6000, 6000, 6000))
    every, half = made(wave), made(wave, distilled_rows=5 // 2)
    changed = [not torch.allclose(every[-1, i], half[-1, i]) for i in range(5)]
    assert changed == [True, True, False, False, False]


def test_student_without_adapters(encoder):
    made = build(encoder, ModelConfig(student_layers=2, adapter_units=0)).eval()
    kd, sv = made.forward_two_paths(torch.stack(waves(6000, 6000)))
    assert not made.adapters
    torch.testing.assert_close(kd, sv, atol=0, rtol=0)


@pytest.mark.parametrize("layer", [1, 2])
def test_adapter_in_one_layer_only(encoder, layer):
    """Paths part in that layer, in one pass as in two; the weights keep their names."""
    model, wave = ModelConfig(adapter_units=8, adapter_layers=(layer,)), torch.stack(waves(6000))
    made = build(encoder, dataclasses.replace(model, student_layers=2)).eval()
    kd, sv = made.forward_two_paths(wave)
    torch.testing.assert_close(kd, made(wave, distilled_rows=1))
    torch.testing.assert_close(sv, made(wave))
    assert torch.equal(kd[:layer], sv[:layer]) and not torch.allclose(kd[layer], sv[layer])
    with_both = build(encoder).state_dict()
    own = {name for name in made.state_dict() if name.startswith("adapters.")}
    assert own == {name for name in with_both if name.startswith(f"adapters.{layer - 1}.")}
    assert f"adapter {layer}" in (parts := probes.parts_of(made, {}))
    assert sum(name.startswith("adapter") for name in parts) == 1


def test_student_padding_changes_no_state(encoder):
    made = build(encoder).eval()
    parts = waves(9000, 4000)
    states = made(*padded(parts))
    for i, part in enumerate(parts):
        alone = made(part[None])
        torch.testing.assert_close(states[:, i, : alone.shape[2]], alone[:, 0], atol=1e-5, rtol=0)


def test_adapter_noise_only_in_training():
    made = student.Adapter(16, ModelConfig(adapter_noise=(0.1, 0.5)), switch(adapter_init="normal"))
    hidden = torch.randn(2, 3, 16)
    assert not torch.equal(made.train()(hidden), made(hidden))
    assert torch.equal(made.eval()(hidden), made(hidden))


def test_layerdrop_follows_numpy(encoder):
    """Surprise 13: NumPy's global generator decides, so equal seeds give equal noise."""
    import numpy as np

    made, wave = build(encoder).train(), torch.stack(waves(16_000, 16_000))
    made.encoder.config.layerdrop = 0.5
    for module in made.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0

    def run(seed):
        np.random.seed(seed)
        return made(wave)[-1]

    assert torch.equal(run(3), run(3))
    outcomes = [run(seed) for seed in range(8)]
    assert any(not torch.allclose(outcomes[0], other) for other in outcomes[1:])


BACKENDS = [
    ModelConfig(backend="ecapa", backend_channels=32, embedding=16),
    ModelConfig(backend="linear", embedding=16),
    ModelConfig(backend="tft", embedding=16),
]


@pytest.mark.parametrize("model", BACKENDS, ids=lambda m: m.backend)
def test_backend_padding_changes_no_embedding(model):
    torch.manual_seed(0)
    net = backends.build_backend(32, 2, model, CORRECTED)
    for module in net.modules():
        if isinstance(
            module, torch.nn.BatchNorm1d
        ):  # as after training: nothing is 0 or 1 by chance
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    net.eval()
    states = torch.randn(3, 2, 40, 32)
    mask = torch.ones(2, 40, dtype=torch.bool)
    mask[1, 25:] = False
    with torch.no_grad():
        together = net(states, mask)
        torch.testing.assert_close(together[0], net(states[:, :1])[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together[1], net(states[:, 1:, :25])[0], atol=1e-5, rtol=1e-5)


def test_layer_weights_raw_or_softmax():
    """Surprise 9."""
    torch.manual_seed(0)
    raw = backends.build_backend(8, 2, ModelConfig(backend="linear"), switch(layer_weights="raw"))
    soft = backends.build_backend(
        8, 2, ModelConfig(backend="linear"), switch(layer_weights="softmax")
    )
    assert raw.weights.detach().sum() != pytest.approx(1.0)
    assert soft.weights.softmax(0).detach().sum() == pytest.approx(1.0)
    states = torch.randn(3, 2, 9, 8)
    soft.eval().load_state_dict(raw.eval().state_dict())
    assert not torch.allclose(raw(states), soft(states))


def test_backend_mask_discarded_or_applied():
    """Surprise 5: the released SpecAugment of the back-end changes nothing."""
    model, states = ModelConfig(backend_channels=32, embedding=16), torch.randn(3, 4, 60, 32)

    def run(choice, seed):
        torch.manual_seed(0)
        net = backends.build_backend(32, 2, model, switch(backend_mask=choice)).train()
        torch.manual_seed(seed)
        return net(states)

    assert torch.equal(run("discarded", 1), run("discarded", 2))
    assert not torch.allclose(run("applied", 1), run("applied", 2))


def test_spec_augment_zeroes_runs():
    torch.manual_seed(0)
    masked = backends.spec_augment(torch.ones(64, 20, 30))
    frames = (masked.sum(1) == 0).sum(1)
    channels = (masked.sum(2) == 0).sum(1)
    assert frames.max() == 5 and channels.max() == 10 and frames.min() == channels.min() == 0


def test_unknown_weights_say_what_to_put_where(monkeypatch, tmp_path):
    monkeypatch.setenv("OSKDFT_DATA", str(tmp_path))
    with pytest.raises(
        ValueError,
        match=r"put its config.json and model.safetensors or .* into .*hubert-base-ls960",
    ) as error:
        pretrained.load_encoder("facebook/hubert-base-ls960")
    assert "\n" not in str(error.value)
    with pytest.raises(
        ValueError, match="no folder with config.json, no checkpoint, no shipped teacher"
    ):
        pretrained.load_encoder("my-model")


def test_local_folder_round_trip_and_missing_tensors(tmp_path, encoder):
    from oskdft.storage.tensors import load_tensors, save_tensors

    encoder.save_pretrained(tmp_path)
    again = pretrained.load_encoder(str(tmp_path))
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in encoder.state_dict().items())
    tensors = load_tensors(tmp_path / "model.safetensors")
    gone = "encoder.layers.1.final_layer_norm.weight"
    save_tensors(tmp_path / "model.safetensors", {k: v for k, v in tensors.items() if k != gone})
    with pytest.raises(ValueError, match=f"does not fit the model: missing {gone}"):
        pretrained.load_encoder(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match="not a readable safetensors file") as error:
        pretrained.load_encoder(str(tmp_path))
    assert "\n" not in str(error.value)
