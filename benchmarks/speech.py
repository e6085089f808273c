"""Speech in: the synthetic corpus, its difficulty, and random crops per second from FLAC and WAV.

    python benchmarks/speech.py [--json] [--quick]

The corpus takes all cores, the crops take one, as one worker of a data loader would. `eer` is what the
plainest verifier makes of the corpus: 0.15 to 0.30 is wanted.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from oskdft import config
from oskdft.speech import audio
from oskdft.speech.synthetic import corpus

CROP = 2 * config.SAMPLE_RATE
FILE_S, FILES, CROPS = 15, 20, 1_000  # crops are drawn from files as long as LibriSpeech's
WANTED = {".flac": 400, ".wav": 2_000}  # crops per second
CORPUS_S = 30.0  # that 60 x 20 may take on 2 cores


def corpus_time(folder: Path, speakers: int, utterances: int, seed: int) -> float:
    """Seconds to make the corpus, processes and tables included."""
    start = time.perf_counter()
    corpus.make_corpus(folder, speakers, utterances, seed)
    return time.perf_counter() - start


def mfcc_eer(folder: Path) -> float:
    """EER of the plainest verifier on a synthetic corpus's trials, a fraction.

    Mean and deviation over time of MFCC 1 to 29, standardised over the test utterances; cosine.
    """
    import torch
    from torchaudio.transforms import MFCC

    from oskdft.evaluation.metrics import eer

    lines = [line.split() for line in (folder / "trials.txt").read_text().splitlines()]
    places = {path: n for n, path in enumerate(sorted({p for line in lines for p in line[1:]}))}
    mfcc = MFCC(config.SAMPLE_RATE, 30, melkwargs={"n_fft": 512, "hop_length": 160, "n_mels": 80})
    features = []
    for path in places:
        cepstra = mfcc(torch.from_numpy(audio.read(folder / path)))[1:]  # [29, T]
        features.append(torch.cat([cepstra.mean(1), cepstra.std(1)]).numpy())
    table = np.stack(features)  # [n, 58]
    table = (table - table.mean(0)) / table.std(0)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    first, second = (table[[places[line[side]] for line in lines]] for side in (1, 2))
    return eer((first * second).sum(1), np.array([int(line[0]) for line in lines]))[0]


def reader(corpus: Path, folder: Path, suffix: str, crops: int) -> Callable[[], None]:
    """A call that reads so many random 2-s crops from 15-s files of synthetic speech."""
    speech = np.concatenate([audio.read(path) for path in sorted(corpus.glob("*/*/*.flac"))[:30]])
    total = FILE_S * config.SAMPLE_RATE
    speech = audio.wrap(speech, total + FILES * CROP)
    paths = [folder / f"{number}{suffix}" for number in range(FILES)]
    for number, path in enumerate(paths):
        audio.write(path, speech[number * CROP :][:total])
    rng = np.random.default_rng(0)

    def read() -> None:
        for number in range(crops):
            audio.read(paths[number % FILES], audio.crop_start(total, CROP, rng), CROP)

    return read


def run(quick: bool) -> dict:
    """Rows, comparisons and the EER of each seed."""
    import measure  # tests use `mfcc_eer` without this folder on the path

    speakers, utterances, crops = (24, 2, 40) if quick else (60, 20, CROPS)
    seeds = range(1 if quick else 3)
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / str(seed) for seed in seeds]
        made = [corpus_time(folders[seed], speakers, utterances, seed) for seed in seeds]
        works = {suffix: reader(folders[0], Path(temporary), suffix, crops) for suffix in WANTED}
        taken = measure.interleaved(works, 2 if quick else 7)
        rates = {f"seed {seed}": mfcc_eer(folders[seed]) for seed in seeds}
    rows = [measure.row(f"corpus, {speakers} x {utterances}", made)]
    comparisons = [measure.limit(f"corpus, {CORPUS_S:g} s over time taken", CORPUS_S, made)]
    for suffix, seconds in taken.items():
        name = f"{crops:,} crops of {suffix[1:].upper()}"
        rows.append(measure.row(name, seconds, per_s=crops / statistics.median(seconds)))
        allowed = crops / WANTED[suffix]
        comparisons.append(
            measure.limit(f"{name}, over {WANTED[suffix]:,} per s", allowed, seconds)
        )
    return {
        "rows": rows,
        "comparisons": comparisons,
        "eer": {f"seed {seed}": rate for seed, rate in zip(seeds, rates, strict=True)},
    }


if __name__ == "__main__":
    import measure

    measure.main("speech", __doc__, run)
