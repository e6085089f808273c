"""Fifty bad inputs made by hand: (reader, content of the file, words that the message must have)."""

import io
import struct

import numpy as np
import soundfile

LEVELS = [
    f"&{new} [{', '.join([f'*{old}'] * 9)}]"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
]
BOMB = f"seed: [&a [x], {', '.join(LEVELS)}]"  # 9^8 entries, if written out


def wav(samples=1_600, rate=16_000, channels=1, kind="PCM_16", form="WAV", value=0.1) -> bytes:
    """A recording as it lies in a file."""
    out = io.BytesIO()
    soundfile.write(out, np.full((samples, channels), value), rate, format=form, subtype=kind)
    return out.getvalue()


def lecture() -> bytes:
    """Two hours of silence at 8 kHz as FLAC: a small file."""
    out = io.BytesIO()
    soundfile.write(out, np.zeros(8_000 * 7_200, np.int16), 8_000, format="FLAC")
    return out.getvalue()


def promising_flac() -> bytes:
    """A FLAC file whose header claims 2^36 - 1 samples: 275 GB as float32."""
    data = bytearray(wav(form="FLAC"))
    data[21] |= 0x0F  # STREAMINFO holds 36 bits of length in bytes 21 (low half) to 25
    data[22:26] = b"\xff\xff\xff\xff"
    return bytes(data)


BAD = [
    # settings, in a file
    ("yaml", "a: [", "is not valid YAML .*correct it there"),
    ("yaml", "[1, 2]", "the configuration is .1, 2.; write `key: value` lines"),
    ("yaml", "train: 3", "train is 3; write `key: value` lines"),
    ("yaml", "trian: {lr: 1}", "unknown setting trian; did you mean train"),
    ("yaml", "train: {lr: fast}", "train.lr is 'fast'; write a number"),
    ("yaml", "train: {lr: .nan}", "train.lr is nan; write a finite number"),
    ("yaml", f"train: {{lr: 1{'0' * 400}}}", "train.lr is 1000.*; write a finite number"),
    ("yaml", f"seed: {'9' * 5000}", "is not valid YAML .*digits"),
    ("yaml", "seed: 1.5", "seed is 1.5; write a whole number"),
    ("yaml", "seed: 2001-01-01", "seed is .*; write a whole number"),
    ("yaml", "seed: -1", "seed is -1; it must be at least 0"),
    ("yaml", "mode: new", "mode is 'new'; choose published, corrected"),
    ("yaml", "train: {batch: 1}", "train.batch is 1; it must be at least 2"),
    ("yaml", "loss: {kd_layers: 4}", "loss.kd_layers is 4; write a list"),
    ("yaml", "model: {adapter_noise: [1]}", "model.adapter_noise has 1 entries; write 2"),
    ("yaml", BOMB, "is not valid YAML .*write the value out"),
    ("yaml", "seed: &s [*s]", "is not valid YAML .*write the value out"),
    ("yaml", "[" * 2_000, "is not valid YAML"),
    ("yaml", b"seed: \xff", "is not valid YAML"),
    ("yaml", "name: !!python/name:os.system", "is not valid YAML"),
    # trial lists
    ("trials", "", "holds no trials; expected lines such as"),
    ("trials", "1 a.wav\n", "line 1: .* is no trial; expected 0.1 path path"),
    ("trials", "2 a.wav b.wav\n", "line 1: .* is no trial"),
    ("trials", "1 a.wav b.wav\na.wav b.wav target\n", "line 2: .* like the first trial"),
    ("trials", "1 my file.wav b.wav\n", "4 fields; expected .*with tabs between the fields"),
    ("trials", "1 a.wav b.wav\n0 b.wav a.wav\n", "as the same speaker and as different speakers"),
    ("trials", b"\x80\x81\n", "is not UTF-8 text; give a trial list"),
    (
        "trials with recordings",
        "1 a.wav b.wav\n",
        "2 of 2 recordings are not below .*none is present",
    ),
    # score files
    ("scores", "", "holds no scores; give lines of label and score"),
    ("scores", "1 0.5\n0 nan\n", "line 2: .* has score 'nan', which is not a finite number"),
    ("scores", "1 0.5\n0 low\n", "line 2: .* has score 'low', which is not a finite number"),
    ("scores", "yes 0.5\n", "has label 'yes'; expected .*label 1 or 0"),
    ("scores", "1 0.5\n1 a b 0.5\n", "line 2: .* has 4 fields, the lines before 2; expected"),
    ("scores", "1 a 0.5\n", "has 3 fields; expected 'label score'"),
    ("scores", "1 0.5\n", "non-?target"),
    ("scores", b"\xff\xfe1 0.5", "is not UTF-8 text; give a score file"),
    # tables of corpora
    ("wav.scp", "one\n", "wav.scp, line 1: 'one' has no value; expected a key and a value"),
    ("wav.scp", "one a.wav\n", "utt2spk lacks one of wav.scp; add it"),
    ("wav.scp", b"\xff a.wav\n", "wav.scp is not UTF-8 text"),
    ("spk2age", "anna old\n", "spk2age: 'old' of anna is no age in years"),
    ("utt2spk", "one\n", "utt2spk, line 1: 'one' has no value; expected a key and a value"),
    ("spk2gender", "anna\n", "spk2gender, line 1: 'anna' has no value"),
    ("spk2age", f"{'x' * 200_000}\n", "spk2age, line 1: .* has no value"),
    ("spk2age", "anna -3\n", "spk2age: '-3' of anna is no age in years"),
    # recordings
    ("audio", b"", "is empty; copy or download it again"),
    ("audio", b"no audio at all", "cannot be read .*not audio or damaged"),
    ("audio", wav()[:44], "is cut off"),
    ("audio", wav()[:1_000], "is cut off"),
    ("audio", wav(channels=2), "has 2 channels; make it mono"),
    ("audio", wav(kind="FLOAT", value=np.nan), "contains NaN or infinite samples"),
    ("audio", promising_flac(), "ends with sample 1600, its header says 68719476735"),
    ("audio", struct.pack("<4sI4s", b"RIFF", 2**32 - 1, b"WAVE"), "cannot be read"),
    ("headerless audio", b"\x00" * 1_000, "has no header; convert it to FLAC or WAV"),
]
