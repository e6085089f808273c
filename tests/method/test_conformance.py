"""The package computes what the released code computed: every fixture, every array."""

from pathlib import Path

import conformance
import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "fixtures"


def test_no_check_is_idle():
    """Each check has its fixture: a glob that matches nothing would always pass."""
    assert set(conformance.fixture_names(FOLDER)) == set(conformance.CHECKS)


@pytest.mark.parametrize("name", conformance.CHECKS)
def test_fixture(name):
    rows = conformance.check(FOLDER, name)
    assert rows
    assert [r for r in rows if not r.ok] == []


def test_unknown_fixture_fails(tmp_path):
    (tmp_path / "F99_new.json").write_text("{}")
    (row,) = conformance.check(tmp_path, "F99_new")
    assert not row.ok


def test_a_wrong_number_is_noticed():
    assert not conformance.row("x", np.array([1.0]), np.array([1.1]), 1e-3, 0).ok
    assert not conformance.row("x", np.zeros(2), np.zeros(3), 1, 0).ok
    assert not conformance.row("x", np.array([np.nan]), np.array([0.0]), 1, 1).ok
