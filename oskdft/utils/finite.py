"""Embeddings that can be compared."""

import numpy as np


def require_embeddings(embeddings: np.ndarray) -> np.ndarray:
    """The embeddings [n, E], when each of them has a direction that a cosine can use.

    Raises:
        ValueError: of width 0, not finite, or so large that its length is not finite.

    >>> require_embeddings(np.ones((2, 3))).shape
    (2, 3)
    >>> require_embeddings(np.array([[1.0, np.nan]]))
    Traceback (most recent call last):
    ValueError: the model gives embeddings that are not finite: the weights are damaged, or a \
recording is far beyond full scale
    """
    if embeddings.ndim != 2 or embeddings.shape[1] == 0:
        raise ValueError(f"the model gives {list(embeddings.shape)}, no embeddings [n, E]")
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.vecdot(embeddings, embeddings)
    if not np.isfinite(squares).all():
        raise ValueError(
            "the model gives embeddings that are not finite: the weights are damaged, or a recording "
            "is far beyond full scale"
        )
    return embeddings
