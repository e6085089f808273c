"""Counts at published sizes, and multiply-adds of an encoder part by part."""

import pytest
import torch

from oskdft.lessons import costs
from oskdft.method.encoder import architecture, build_encoder, hidden_states
from oskdft.method.model import count
from oskdft.method.student import student_config


@pytest.fixture(scope="module")
def sizes():
    return costs.sizes()


def test_counts_are_the_published_integers(sizes):
    counted = {p["name"]: p["parameters"] for p in sizes["parts"]}
    assert {name: counted[name] for name in costs.PUBLISHED_COUNTS} == costs.PUBLISHED_COUNTS
    for label, _, layers in costs.PUBLISHED_STUDENTS:
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


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
def test_parts_add_up_to_the_encoder(family):
    config = architecture(f"tiny-random-{family}")
    rows = costs.encoder_costs(config)
    with torch.device("meta"):
        encoder = build_encoder(config)
        whole = costs.multiply_adds(hidden_states, encoder, torch.zeros(1, 48_000))
    assert sum(row["parameters"] for row in rows) == count(encoder)
    assert sum(row["multiply_adds"] for row in rows) == whole
    assert [row["part"] for row in rows[3:]] == ["layer 1", "layer 2"]


def test_published_multiply_adds():
    """METHOD: 54.8 G for XLSR-53 and 16.4 G for its four layers, 3 s."""
    large = architecture("facebook/wav2vec2-large-xlsr-53")
    giga = [
        sum(row["multiply_adds"] for row in costs.encoder_costs(config)) / 1e9
        for config in (large, student_config(large, 4))
    ]
    assert [round(g, 1) for g in giga] == [54.8, 16.4]
