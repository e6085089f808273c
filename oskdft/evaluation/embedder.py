"""What evaluation needs of a model: to embed utterances."""

from typing import Protocol

import numpy as np


class Model(Protocol):
    """A model that embeds: `method.model.SpeakerModel` or `storage.onnx_model.OnnxModel`."""

    device: object  # printed as "cpu" or the name of a GPU

    def embed(self, waves: list[np.ndarray], without_adapters: bool = False) -> np.ndarray:
        """Embeddings [n, E] float32 of n utterances of any lengths."""
