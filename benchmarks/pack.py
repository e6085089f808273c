"""`oskdft data pack` of m4a files as FLAC: recordings per second and core, and what VoxCeleb2 takes.

    python benchmarks/pack.py [--json] [--quick]

One core decodes and encodes clips in turn; the writer (hash, tar, disk) is one process for all cores.
The time of VoxCeleb2 on more cores than this machine has is computed: the share of each core, or the
time of the writer if that is longer.
"""

import tempfile
from pathlib import Path

import av
import measure
import numpy as np

from oskdft.config import SAMPLE_RATE
from oskdft.speech.corpora import pack_shards, recode

CLIPS, QUICK, TURNS, CLIP_S = 64, 4, 5, 8.0
VOXCELEB2, VOXCELEB2_MEAN_S = 1_092_009, 7.9  # utterances of the development part, seconds
ALLOWED_H = {1: 24.0, 2: 12.0, 32: 1.0}  # cores -> hours


def write_m4a(path: Path, seed: int) -> None:
    """A clip of noise with the spectrum and the syllables of speech, AAC at 64 kbit/s."""
    rng = np.random.default_rng(seed)
    samples = round(CLIP_S * SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum /= 1 + (np.fft.rfftfreq(samples, 1 / SAMPLE_RATE) / 500) ** 1.5
    syllables = np.abs(np.sin(np.pi * 4 * np.arange(samples) / SAMPLE_RATE))
    wave = np.fft.irfft(spectrum, samples) * syllables
    wave *= 0.5 / np.abs(wave).max()
    with av.open(str(path), "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE)
        stream.bit_rate, stream.layout = 64_000, "mono"
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def run(quick: bool) -> dict:
    """All rows and comparisons."""
    count = QUICK if quick else CLIPS
    names = [f"{number:05}.m4a" for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(names):
            write_m4a(Path(folder, name), seed)
        encoded = [(name, recode.encode(folder, name, "flac")) for name in names]
        work: dict[str, measure.Work] = {
            "m4a to FLAC, one core": lambda: [recode.encode(folder, n, "flac") for n in names],
            "m4a to Opus, one core": lambda: [recode.encode(folder, n, "opus") for n in names],
            "write a shard of FLAC": lambda: pack_shards.write_shard(
                Path(folder, "clips.tar"), encoded, "flac"
            ),
        }
        taken = measure.interleaved(work, TURNS)
    rows = [
        measure.row(
            f"{name}, {count} clips of {CLIP_S:.0f} s",
            seconds,
            per_s=count / float(np.median(seconds)),
            seconds_of_audio=count * CLIP_S,
        )
        for name, seconds in taken.items()
    ]
    encode_s, _, write_s = taken.values()
    whole = VOXCELEB2 / count * VOXCELEB2_MEAN_S / CLIP_S  # VoxCeleb2 in units of these clips
    turns = list(zip(encode_s, write_s, strict=True))
    hours = {
        cores: [max(one / cores, writer) * whole / 3600 for one, writer in turns]
        for cores in ALLOWED_H
    }
    comparisons = [
        measure.limit(
            f"VoxCeleb2 as FLAC in {allowed:.0f} h, cores: {cores} ({np.median(hours[cores]):.2f} h)",
            allowed,
            hours[cores],
        )
        for cores, allowed in ALLOWED_H.items()
    ]
    return {"rows": rows, "comparisons": comparisons}


if __name__ == "__main__":
    measure.main("pack", __doc__, run)
