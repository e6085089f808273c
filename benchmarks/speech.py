"""Speech in: the synthetic corpus, its difficulty, and random crops per second from FLAC and WAV.

    python benchmarks/speech.py [--json] [--speakers 60] [--utterances 20] [--seeds 0 1 2]

The corpus takes all cores, the crops take one, as one worker of a data loader would. The scan of a
large tree is measured beside the code that scans.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from oskdft import audio, synthetic

CROP = 2 * audio.SAMPLE_RATE
FILE_S, FILES = 15, 20  # crops are drawn from files as long as LibriSpeech's
WANTED = {  # first word of a row's name
    "corpus": "at most 30 for 60 x 20, 2 cores",
    "FLAC": "at least 400",
    "WAV": "at least 2000",
    "MFCC": "0.15 to 0.30 for 60 x 20",
}


def corpus_time(folder: Path, speakers: int, utterances: int, seed: int) -> float:
    """Seconds to make the corpus, processes and tables included."""
    start = time.perf_counter()
    synthetic.make_corpus(folder, speakers, utterances, seed)
    return time.perf_counter() - start


def mfcc_eer(folder: Path) -> float:
    """EER of the plainest verifier on a synthetic corpus's trials, a fraction.

    Mean and deviation over time of MFCC 1 to 29, standardised over the test utterances; cosine.
    """
    import torch
    from torchaudio.transforms import MFCC

    from oskdft.metrics import eer

    lines = [line.split() for line in (folder / "trials.txt").read_text().splitlines()]
    places = {path: n for n, path in enumerate(sorted({p for line in lines for p in line[1:]}))}
    mfcc = MFCC(audio.SAMPLE_RATE, 30, melkwargs={"n_fft": 512, "hop_length": 160, "n_mels": 80})
    features = []
    for path in places:
        cepstra = mfcc(torch.from_numpy(audio.read(folder / path)))[1:]  # [29, T]
        features.append(torch.cat([cepstra.mean(1), cepstra.std(1)]).numpy())
    table = np.stack(features)  # [n, 58]
    table = (table - table.mean(0)) / table.std(0)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    first, second = (table[[places[line[side]] for line in lines]] for side in (1, 2))
    return eer((first * second).sum(1), np.array([int(line[0]) for line in lines]))[0]


def crops_per_second(corpus: Path, folder: Path, suffix: str, at_least_s: float = 3.0) -> float:
    """Random 2-s crops from 15-s files of synthetic speech."""
    speech = np.concatenate([audio.read(path) for path in sorted(corpus.glob("*/*/*.flac"))[:30]])
    total = FILE_S * audio.SAMPLE_RATE
    speech = audio.wrap(speech, total + FILES * CROP)
    paths = [folder / f"{number}{suffix}" for number in range(FILES)]
    for number, path in enumerate(paths):
        audio.write(path, speech[number * CROP :][:total])
    rng, done = np.random.default_rng(0), 0
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < at_least_s:
        audio.read(paths[done % FILES], audio.crop_start(total, CROP, rng), CROP)
        done += 1
    return done / passed


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--speakers", type=int, default=60)
    parser.add_argument("--utterances", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / str(seed) for seed in args.seeds]
        for folder, seed in zip(folders, args.seeds, strict=True):
            seconds = corpus_time(folder, args.speakers, args.utterances, seed)
            found[f"corpus, seed {seed} [s]"] = seconds
        for suffix in (".flac", ".wav"):
            name = f"{suffix[1:].upper()} crops [1/s]"
            found[name] = crops_per_second(folders[0], Path(temporary), suffix)
        for folder, seed in zip(folders, args.seeds, strict=True):
            found[f"MFCC EER, seed {seed}"] = mfcc_eer(folder)
    if args.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:22}{value:10.3f}   wanted {WANTED[name.split(maxsplit=1)[0].rstrip(',')]}")


if __name__ == "__main__":
    main()
