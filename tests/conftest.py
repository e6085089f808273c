"""What all tests share: no network, real corpora where there are some, GPU tests on a GPU."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported; child processes inherit it

# The same examples each time, and no time limit: tests assert results, benchmarks measure times.
settings.register_profile("oskdft", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("oskdft")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real corpora: $OSKDFT_DATA."""
    root = os.environ.get("OSKDFT_DATA", "")
    if not root:
        pytest.skip("OSKDFT_DATA is not set")
    if not Path(root).is_dir():
        pytest.skip(f"OSKDFT_DATA={root} is not a folder")
    return Path(root)
