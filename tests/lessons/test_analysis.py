"""Counts at published sizes, and what layers know before any training."""

import numpy as np
import pytest

from oskdft.evaluation import probes
from oskdft.lessons import costs
from oskdft.method import encoder
from oskdft.storage import pretrained


@pytest.fixture(scope="module")
def sizes():
    return costs.sizes()


def test_counts_are_the_published_integers(sizes):
    counted = {p["name"]: p["parameters"] for p in sizes["parts"]}
    assert {name: counted[name] for name in costs.PUBLISHED_COUNTS} == costs.PUBLISHED_COUNTS
    for label, _, layers in costs.FAMILIES:
        parts = counted[f"{label} student, {layers} layers"] + counted[f"{label} adapters"]
        assert counted[f"{label} student with adapters"] == parts
    for part in sizes["parts"]:
        assert part["published"] in (None, part["parameters"])
        assert bool(part["source"]) == bool(part["published"])


def test_reductions_are_those_of_the_counts(sizes):
    rows = {r["name"]: r for r in sizes["reductions"]}
    for row in rows.values():
        assert row["reduction"] == 1 - row["to"] / row["from"]
    known = {
        "XLSR-53 + ECAPA": 77.390, "XLSR-53 alone": 79.695, "HuBERT-base alone": 74.896,
        "HuBERT-base + linear back-end": 74.662, "WavLM-base+ alone": 74.893,
    }  # fmt: skip
    assert {name: round(100 * rows[name]["reduction"], 3) for name in known} == known
    # only the abstract's figure is the paper's; it is printed beside the count, not matched
    published = {name: row["published"] for name, row in rows.items() if row["published"]}
    assert published == {"XLSR-53 + ECAPA": 0.762}


def test_table_prints_every_row_and_both_figures(sizes):
    text = costs.sizes_table(sizes)
    for part in sizes["parts"]:
        assert f"{part['name']:34}{part['parameters']:>14,}" in text
    (line,) = [line for line in text.splitlines() if line.startswith("XLSR-53 + ECAPA")]
    assert "-77.4 %" in line and "-76.2 %" in line and line.endswith(costs.ABSTRACT)
    assert "not reproduced" in text


@pytest.mark.parametrize("family", encoder.FAMILIES)
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
