"""The speech that a model was calibrated on, as one Gaussian of its embeddings. No torch.

An embedding far from this Gaussian belongs to speech on which the calibration was never checked: noise,
another channel, another way of speaking. Letters: E dimensions of an embedding.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from oskdft.storage.description import digest_of, require_own
from oskdft.storage.header import check_header
from oskdft.utils.files import atomic, inside

FILE = "domain.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """Mean and whitening of the embeddings of the calibration, and the largest distance inside.

    Attributes:
        mean: [E]. whitening: [E, E]; whitened deviations have unit covariance.
        limit: `distance` up to which a recording counts as similar.
    """

    mean: np.ndarray
    whitening: np.ndarray
    limit: float

    def distance(self, embedding: np.ndarray) -> float:
        """Mahalanobis distance of an embedding [E], over the root of E: about 1 in the domain.

        >>> Domain(np.zeros(4), np.eye(4), 1.5).distance(np.ones(4))
        1.0
        """
        return float(np.sqrt(np.mean(((embedding - self.mean) @ self.whitening) ** 2)))

    def save(self, folder: str | Path) -> None:
        """Write the domain beside the weights of a model folder."""
        tensors = {
            "mean": self.mean.astype(np.float32),
            "whitening": self.whitening.astype(np.float32),
            "limit": np.array([self.limit], np.float32),
        }
        with atomic(Path(folder) / FILE, "wb") as file:
            file.write(save(tensors))


def load_domain(folder: str | Path, described: dict | None = None) -> Domain | None:
    """The domain of a model folder; None where the folder has none.

    Args:
        described: content of the folder's model.json, which may say which file it was written with.
    Raises:
        ValueError: a file that holds no domain, or another file than model.json says.
    """
    described = described or {}
    if digest_of(described, FILE) is None and not (Path(folder) / FILE).is_file():
        return None
    require_own(folder, described, FILE)
    path = inside(Path(folder), FILE)
    check_header(path)
    try:
        tensors = load_file(path)
        mean, whitening, limit = (tensors[name] for name in ("mean", "whitening", "limit"))
        fits = whitening.shape == (*mean.shape, *mean.shape) and limit.shape == (1,)
        finite = all(np.isfinite(tensor).all() for tensor in (mean, whitening, limit))
    except (SafetensorError, KeyError, OSError, TypeError, ValueError):
        fits = finite = False
    if not (fits and finite):
        raise ValueError(f"{path} holds no domain of a calibration; export the model again")
    return Domain(mean, whitening, float(limit[0]))
