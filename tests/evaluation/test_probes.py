"""What layers know: probes, similarity, attention and gradients on small, known inputs."""

import numpy as np
import pytest
import torch
from torch import nn

from oskdft import config
from oskdft.evaluation import phones, probes
from oskdft.method import losses, teacher
from oskdft.method.encoder import frame_count
from oskdft.method.model import new_model
from oskdft.speech.corpora import tables
from oskdft.storage import pretrained

FAMILIES = ("wav2vec2", "hubert", "wavlm")


def rng():
    return np.random.default_rng(0)


def speech(count=3, samples=8_000):
    return list(rng().normal(0, 0.1, (count, samples)).astype(np.float32))


def test_states_of_path_are_those_of_the_student():
    cfg = config.load("smoke").override({"mode": "published"})
    made = new_model(cfg, pretrained.load_encoder("tiny-random-hubert")).student.eval()
    (wave,) = speech(1)
    both = made.forward_two_paths(torch.from_numpy(wave)[None])
    for path, adapters in zip(both, (False, True), strict=True):
        got = torch.stack(probes.states_of_path(made, wave, adapters))
        torch.testing.assert_close(got, path[:, 0])


def test_pooled_and_frames_keep_the_order_of_utterances():
    encoder = pretrained.load_encoder("tiny-random-hubert")
    waves = speech()
    tables = probes.pooled(lambda wave: probes.states_of(encoder, wave), waves)
    alone = probes.pooled(lambda wave: probes.states_of(encoder, wave), waves[1:2])
    assert [t.shape for t in tables] == [(3, 32), (3, 64), (3, 64), (3, 64)]
    np.testing.assert_allclose(tables[2][1], alone[2][0], atol=1e-6)
    rows = probes.frames(lambda wave: probes.states_of(encoder, wave), waves, every=10)
    assert [t.shape for t in rows] == [(9, 16), (9, 32), (9, 32), (9, 32)]


def test_probe_finds_what_is_there_and_nothing_else():
    labels, speakers = np.repeat(["a", "b"], 40), np.tile(np.repeat(range(4), 10), 2)
    noise = rng().normal(size=(80, 5))
    told = noise + 3.0 * (labels == "b")[:, None]
    assert probes.probe(told, labels, speakers)[0] > 0.95
    accuracy, guess = probes.probe(noise, labels, speakers)
    assert guess == 0.5 and accuracy < 0.75


def test_probe_is_never_fitted_on_the_group_it_is_asked_about():
    """Each group carries its own sign: within a group the label is plain, across groups it is not."""
    labels = np.tile(["a", "b"], 40)
    groups = np.repeat([0, 1], 40)
    table = np.where(labels == "b", 1.0, -1.0) * np.where(groups, 1, -1)
    assert probes.probe(table[:, None], labels, groups)[0] == 0.0


@pytest.mark.parametrize(
    "labels, groups",
    [
        (["a"] * 4, [0, 0, 1, 1]),
        (["a", "b"] * 2, [0] * 4),
        (["a", "a", "a", "b"], [0, 1, 2, 3]),  # held out, b leaves a alone
    ],
)
def test_probe_needs_two_labels_in_two_groups_each(labels, groups):
    with pytest.raises(ValueError, match="two labels that are each in two groups"):
        probes.probe(np.zeros((4, 1)), labels, groups)


def spoken(texts: list[str]) -> list[np.ndarray]:
    """Frames of utterances in which each phone lasts six frames: a column per phone, and noise."""
    random = rng()
    rows = [np.repeat(np.eye(40)[phones.phone_numbers(text)], 6, axis=0) for text in texts]
    return [(row + 0.1 * random.normal(size=row.shape)).astype(np.float32) for row in rows]


def test_phone_probe_reads_phones_where_there_are_some():
    random, names = rng(), np.array(["AA", "B", "CH", "D"])
    # no phone follows itself: a linear map of single frames cannot tell AA AA from a long AA
    steps = random.integers(1, 4, (24, 8)).cumsum(axis=1) % 4
    texts = [" ".join(names[row]) for row in steps]
    speakers = np.repeat(list("abcdefgh"), 3)
    clear, other = spoken(texts), spoken(texts[::-1])
    layers = {
        id(wave): [torch.from_numpy(wave), torch.from_numpy(wrong)]
        for wave, wrong in zip(clear, other, strict=True)
    }
    rates, again = (
        phones.phone_error_rates(lambda wave: layers[id(wave)], clear, texts, speakers)
        for _ in range(2)
    )
    assert rates[0] < 0.05 and rates[1] > 0.5
    assert again == rates, "nothing is drawn"


def test_phone_probe_is_tested_on_speakers_that_it_was_not_fitted_on():
    """The speaker held out says other phones in the same frames: everything is wrong."""
    texts = ["AA B AA B"] * 8
    waves = spoken(texts)
    texts[:2] = ["CH D CH D"] * 2
    (rate,) = phones.phone_error_rates(
        lambda wave: [torch.from_numpy(wave)], waves, texts, np.repeat(list("abcd"), 2)
    )
    assert rate == 1.0


def test_phone_probe_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="one speaker"):
        phones.phone_error_rates(probes.mfcc_states, speech(2), ["AA", "B"], ["a", "a"])
    with pytest.raises(ValueError, match="unknown phone 'QQ'"):
        phones.phone_numbers("AA0_B QQ1_E")


def test_cka_ignores_rotation_and_scale_but_not_content():
    random = rng()
    table, other = random.normal(size=(2_000, 6)), random.normal(size=(2_000, 4))
    rotation = np.linalg.qr(random.normal(size=(6, 6)))[0]
    assert probes.linear_cka(table, 3 * table @ rotation + 1) == pytest.approx(1)
    assert probes.linear_cka(table, other) < 0.02
    matrix = probes.cka_matrix([table, other], [table, other])
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix), 1)


@pytest.mark.parametrize("family", ["wav2vec2", "hubert"])
def test_uniform_attention_looks_a_third_of_the_utterance_away(family):
    encoder = pretrained.load_encoder(f"tiny-random-{family}")
    for layer in encoder.encoder.layers:
        nn.init.zeros_(layer.attention.q_proj.weight)
    before = encoder(torch.zeros(1, 8_000)).last_hidden_state
    distances = probes.attention_distances(encoder, speech(2))
    frames = np.arange(frame_count(encoder.config, 8_000))
    expected = 20 * np.abs(frames[:, None] - frames).mean()
    np.testing.assert_allclose(distances, np.full((2, 2), expected), rtol=1e-4)
    assert torch.equal(encoder(torch.zeros(1, 8_000)).last_hidden_state, before)


def test_attention_of_wavlm_is_refused():
    with pytest.raises(ValueError, match="not available for WavLM"):
        probes.attention_distances(pretrained.load_encoder("tiny-random-wavlm"), speech(1))


def test_which_loss_reaches_which_part():
    """The distillation loss reaches the shared encoder and its heads, never adapters or back-end."""
    cfg = config.load("smoke").override({"mode": "published"})
    encoder = pretrained.load_encoder("tiny-random-hubert")
    torch.manual_seed(0)
    model = new_model(cfg, encoder).eval()
    kd = losses.build_kd_loss(cfg.loss, cfg.switches, 32, 32)
    sv = losses.build_sv_loss(cfg.loss, 32, torch.tensor([1, 1]))
    wave = torch.from_numpy(np.stack(speech(4)))
    imitated, verified = model.student.forward_two_paths(wave)
    found = {
        "KD": kd(imitated, teacher.Teacher(encoder)(wave)[1:]).sum(),
        "SV": sv(model.backend(verified), torch.tensor([0, 1, 0, 1]))[0],
    }
    encoder.requires_grad_(True)
    parts = probes.parts_of(model.student, {"back-end": model.backend, "KD heads": kd})
    own = {id(p) for p in [*model.parameters(), *kd.parameters()]}
    listed = [id(p) for group in parts.values() for p in group]
    assert len(listed) == len(set(listed)) and own - set(listed) == {
        id(model.student.encoder.masked_spec_embed)
    }
    flow = probes.gradient_flow(found, parts)
    zero = {(part, loss) for part, row in flow.items() for loss, norm in row.items() if norm == 0}
    assert zero == {("adapter 1", "KD"), ("back-end", "KD"), ("KD heads", "SV")}


def test_same_label_counts_neighbours_without_the_point_itself():
    points = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    assert probes.same_label(points, list("aabb"), 1) == 1.0
    assert probes.same_label(points, list("abab"), 1) == 0.0
    assert probes.same_label(points, list("aabb"), 3, "euclidean") == pytest.approx(1 / 3)


def test_labels_of_kaldi_tables(tmp_path):
    """A kind that one utterance lacks is left out; sessions are named with their speaker."""
    lines = {
        "spk2gender": ["s0\tm", "s1\tf"],
        "spk2age": ["s0\t9", "s1\t30"],
        "text": ["u0\tA WORD", "u1\tWORDS"],
        "phones": ["u0\tAH0_S"],
    }
    (tmp_path / "train").mkdir()
    for name, table in lines.items():
        (tmp_path / "train" / name).write_text("\n".join(table) + "\n")
    rows = [(f"WAVE/s{n}/u{n}.wav", f"s{n}", "", 1.0) for n in (0, 1)]
    labels = {
        "speaker": ["s0", "s1"], "gender": ["m", "f"], "age": ["child", "adult"], "text": ["A WORD", "WORDS"],
    }  # fmt: skip
    read = tables.Utterances.from_rows(tmp_path, rows)
    assert tables.labels_of("speechocean762", read) == labels
    with_sessions = [(path, who, "day", seconds) for path, who, _, seconds in rows]
    read = tables.Utterances.from_rows(tmp_path, with_sessions)
    sessions = {"session": ["s0/day", "s1/day"]}
    assert tables.labels_of("speechocean762", read) == labels | sessions


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_that_know_who_speaks(family):
    """Two recordings each of a hum and of noise, each pair the same: no layer errs."""
    encoder = pretrained.load_encoder(f"tiny-random-{family}").train()
    time, rng = np.arange(8_000) / 16_000, np.random.default_rng(0)
    hum = np.sin(2 * np.pi * 150 * time).astype(np.float32) / 4
    noise = rng.normal(0, 0.1, 8_000).astype(np.float32)
    waves = [hum, hum.copy(), noise, noise.copy()]
    pairs = np.array([[0, 1], [2, 3], [0, 2], [1, 3], [0, 3]])
    rates = probes.zero_shot_eer(encoder, waves, pairs, np.array([1, 1, 0, 0, 0]))
    assert rates == {"cnn": 0.0, "0": 0.0, "1": 0.0, "2": 0.0}
    turned = probes.zero_shot_eer(encoder, waves, pairs, np.array([0, 0, 1, 1, 1]))
    assert set(turned.values()) == {1.0}
    assert encoder.training, "the encoder goes on as it was"
