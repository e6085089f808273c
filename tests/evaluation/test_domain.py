"""The domain of a calibration: what lies inside, and what is said about the rest."""

import numpy as np
import pytest

from oskdft.evaluation.calibration import INSIDE, fit_domain
from oskdft.evaluation.verifier import load
from oskdft.storage.domain import FILE, Domain, load_domain


def recordings(seed, speakers=200, each=5, width=16):
    """Embeddings of speakers around a common centre, of unequal spread in each dimension."""
    rng = np.random.default_rng(seed)
    spread = np.linspace(0.5, 3, width)
    centres = rng.normal(size=(speakers, 1, width))
    rows = 5 + spread * (centres + 0.5 * rng.normal(size=(speakers, each, width)))
    return rows.reshape(-1, width)


def test_new_speakers_lie_inside_and_others_outside():
    domain = fit_domain(recordings(0), recordings(1, speakers=40))
    new = recordings(2)
    inside = np.mean([domain.distance(row) <= domain.limit for row in new])
    assert inside == pytest.approx(INSIDE, abs=0.02)
    other = new + np.linspace(6, 0, new.shape[1])  # shifted most where the domain is narrow
    assert np.mean([domain.distance(row) > domain.limit for row in other]) > 0.99


def test_distances_do_not_depend_on_the_scale():
    rows = recordings(0)
    one, large = fit_domain(rows, rows), fit_domain(1e3 * rows, 1e3 * rows)
    distances = np.array([one.distance(row) for row in rows])
    assert np.mean(distances**2) == pytest.approx(1.0, abs=0.2)
    np.testing.assert_allclose([large.distance(1e3 * row) for row in rows], distances, rtol=1e-6)


def test_a_domain_survives_its_file(tmp_path):
    domain = fit_domain(recordings(0), recordings(1))
    domain.save(tmp_path)
    loaded = load_domain(tmp_path)
    row = recordings(2)[0]
    assert loaded.distance(row) == pytest.approx(domain.distance(row), rel=1e-5)
    assert loaded.limit == pytest.approx(domain.limit)


@pytest.mark.parametrize(
    "domain",
    [
        Domain(np.zeros(3), np.eye(4), 1.0),
        Domain(np.full(3, np.nan), np.eye(3), 1.0),
        Domain(np.zeros(3), np.eye(3), float("inf")),
    ],
)
def test_a_file_that_holds_no_domain_is_refused(domain, tmp_path):
    domain.save(tmp_path)
    with pytest.raises(ValueError, match="holds no domain of a calibration; export the model"):
        load_domain(tmp_path)
    (tmp_path / FILE).write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="domain.safetensors is not a readable safetensors file"):
        load_domain(tmp_path)


def test_there_is_no_probability_outside(model_folder, capsys):
    verifier = load(model_folder, "cpu")
    wave = 0.1 * np.random.default_rng(0).standard_normal(32_000, np.float32)
    row = verifier.embed(wave)
    for limit in (0.5, 2.0):  # the embedding lies at a distance of 1
        verifier.domain = Domain(row - 1, np.eye(len(row)), limit)
        answer = verifier.verify(wave, wave)
        assert answer["score"] == pytest.approx(1.0) and answer["same"]
        if limit < 1:
            assert answer["probability"] is None
            line = "wave is unlike the speech that the model was calibrated on (distance 1.00, limit 0.50)"
            assert answer["warnings"] == [line, line]
            assert line in capsys.readouterr().err
        else:
            fitted = verifier.described["calibration"]["full"]
            odds = np.exp(fitted["llr_scale"] * answer["score"] + fitted["llr_offset"])
            assert answer["probability"] == pytest.approx(odds / (1 + odds))
            assert not answer["warnings"]
