"""Training items per second and worker: 2-s crops of 15-s FLAC, with and without augmentation.

    python benchmarks/augment.py [--json] [--noise-root DIR] [--rir-root DIR]

Without folders, MUSAN-like noise, speech, music and rooms are made on the spot. One thread, as in a
worker. "published" is release P's policy; "everything" augments each crop with all steps there are.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from oskdft import audio, corpora, layouts
from oskdft.augment import Augment
from oskdft.config import AugmentConfig
from oskdft.dataset import SpeakerDataset

RATE = audio.SAMPLE_RATE
CROP_S = 2.0
TARGET = 400.0  # crops/s per worker that reading FLAC has to reach


def make_noise(folder: Path, suffix: str, count: int, seconds: float, decay_s: float = 0.0) -> None:
    """Pink-ish noise that libsndfile compresses as speech; decaying for rooms."""
    rng = np.random.default_rng(count)
    for number in range(count):
        wave = np.cumsum(rng.normal(0, 1, int(seconds * RATE))) * 1e-3
        wave = wave - np.convolve(wave, np.ones(400) / 400, mode="same")
        if decay_s:
            wave = rng.normal(0, 0.2, len(wave)) * np.exp(-np.arange(len(wave)) / decay_s / RATE)
            wave[10] = 0.9
        audio.write(folder / f"{number}{suffix}", wave / np.abs(wave).max() / 2)


def per_second(work: Callable[[int], object], at_least_s: float = 2.0) -> float:
    """Calls per second, the best of three turns, after one to warm up."""
    for count in range(20):
        work(count)
    best = 0.0
    for turn in range(3):
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < at_least_s / 3:
            work(1000 * turn + count)
            count += 1
        best = max(best, count / (time.perf_counter() - start))
    return best


def dataset_rates(table: corpora.Utterances, policies: dict[str, Augment | None]) -> dict:
    """Items per second of one worker."""
    rates = {}
    for name, policy in policies.items():
        data = SpeakerDataset(table, CROP_S, seed=0, augment=policy)
        rates[f"item, {name}"] = per_second(
            lambda n, data=data: data[n // len(data), n % len(data)]
        )
    return rates


def batch_rates(policies: dict[str, Augment | None], device: str, batch: int = 64) -> dict:
    """Crops per second of one call on [B, N]."""
    wave = torch.randn(batch, int(CROP_S * RATE), device=device) * 0.1
    rates = {}
    for name, policy in policies.items():
        if policy is None:
            continue

        def work(n: int, policy: Augment = policy) -> None:
            policy(wave, n, range(batch))
            if device == "cuda":
                torch.cuda.synchronize()

        rates[f"batch of {batch} on {device}, {name}"] = batch * per_second(work)
    return rates


def measure(folder: Path, noise_root: str, rir_root: str) -> dict[str, float]:
    """All rates [1/s]."""
    for speaker in range(4):
        make_noise(folder / "speech" / f"s{speaker}", ".flac", 5, 15.0)
    if not noise_root:
        noise_root = str(folder / "musan")
        for category in ("noise", "speech", "music"):
            make_noise(Path(noise_root) / category / "made", ".wav", 10, 20.0)
    if not rir_root:
        rir_root = str(folder / "rirs")
        make_noise(Path(rir_root), ".wav", 10, 0.5, decay_s=0.1)
    published = AugmentConfig(noise_root=noise_root, rir_root=rir_root)
    everything = replace(
        published, probability=1.0, clipping=1.0, easing=1.0, white_snr_db=(10.0, 30.0)
    )
    policies = {
        "no augmentation": None,
        "published": Augment(published, seed=0),
        "everything": Augment(everything, seed=0),
    }
    names = list(layouts.audio_below(folder / "speech"))
    table = corpora.table(folder / "speech", [(name, name[:2], "", 15.0) for name in names])
    rates = dataset_rates(table, policies) | batch_rates(policies, "cpu")
    return rates | (batch_rates(policies, "cuda") if torch.cuda.is_available() else {})


def main() -> None:
    """Print the rates, as a table or as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--noise-root", default="")
    parser.add_argument("--rir-root", default="")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(Path(folder), args.noise_root, args.rir_root)
    if args.json:
        print(json.dumps({"crop_s": CROP_S, "target": TARGET, "crops_per_s": rates}))
        return
    for name, rate in rates.items():
        print(f"{name:40s} {rate:8,.0f} crops/s")
    print(f"target: {TARGET:,.0f} crops/s read from FLAC by one worker")


if __name__ == "__main__":
    main()
