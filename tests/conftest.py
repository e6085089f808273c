"""What all tests share: no network, real corpora where there are some, GPU tests on a GPU."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

gc.disable()  # until all is imported, see `oskdft.method.library`

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread each
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OSKDFT_PROFILE"] = "smoke"  # of the notebooks
os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported; child processes inherit it

# The same examples each time, and no time limit: tests assert results, benchmarks measure times.
settings.register_profile("oskdft", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("oskdft")


# files of a minute and more
LONGEST = ("test_lab", "test_app", "test_train", "test_faults", "test_sweeps", "test_sweep_ray")
LONGEST += ("test_distributed", "test_environment", "test_nothing_leaves")


def starts_programs(item: pytest.Item) -> bool:
    """Whether the test drives a browser or executes a whole notebook."""
    return "browser" in item.path.parts or item.path.suffix == ".ipynb"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in filter(starts_programs, items):
        item.add_marker(pytest.mark.slow)
    long = {item.path for item in items if item.get_closest_marker("slow")}
    # the longest files first, or the other processes wait for the last
    items.sort(
        key=lambda item: (
            item.path.stem not in LONGEST,
            not starts_programs(item),
            item.path not in long,
        )
    )
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def pytest_collection_finish() -> None:
    """Collect garbage again, but not among what stays."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SPEAKER/FILE.wav of 4 speakers x 3 lengths (0.7 to 2.9 s) of hum and noise; trials.txt."""
    import numpy as np

    from oskdft import config
    from oskdft.speech import audio

    root, rng, names = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0), []
    for speaker in range(4):
        for number, seconds in enumerate((0.7, 1.6, 2.9)):
            time = np.arange(round(seconds * config.SAMPLE_RATE)) / config.SAMPLE_RATE
            hum = np.sin(2 * np.pi * (100 + 60 * speaker) * time)
            names.append(f"s{speaker}/{number}.wav")
            audio.write(root / names[-1], 0.2 * hum + 0.05 * rng.standard_normal(len(time)))
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    lines = [f"{int(a[:2] == b[:2])} {a} {b}\n" for a, b in pairs]
    (root / "trials.txt").write_text("".join(lines))
    return root


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved speaker model of random weights, with a threshold and calibration."""
    import torch

    from oskdft import config
    from oskdft.method import model
    from oskdft.storage import pretrained
    from oskdft.storage.model_folder import save_model

    folder = tmp_path_factory.mktemp("model")
    cfg = config.load("smoke").override({"eval.crops": 5})
    torch.manual_seed(0)
    made = model.new_model(cfg, pretrained.load_encoder(cfg.model.teacher))
    torch.nn.init.normal_(made.student.adapters[0].up.weight, std=0.3)  # zero: no effect at all
    fitted = {"threshold": 0.5, "llr_scale": 2.0, "llr_offset": -1.0}
    facts = {"step": 7, "calibration": {"full": fitted, "both": fitted}}
    save_model(folder, made, cfg, ["a", "b"], facts)
    return folder


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real corpora: $OSKDFT_DATA."""
    root = os.environ.get("OSKDFT_DATA", "")
    if not root:
        pytest.skip("OSKDFT_DATA is not set")
    if not Path(root).is_dir():
        pytest.skip(f"OSKDFT_DATA={root} is not a folder")
    return Path(root)
