"""What the page in the browser shows and computes with, made from the package: speech, models, scores.

The page computes with the same models and limits as the package; every number that both need is
written here once. Letters: n recordings, E embedding size, P trials.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import soundfile
import torch
from onnx import helper, numpy_helper
from sklearn.decomposition import PCA
from torch import nn

from oskdft import config
from oskdft.config import SAMPLE_RATE
from oskdft.evaluation import bands, bootstrap, calibration, metrics, probes, scoring
from oskdft.evaluation.verifier import Verifier, load
from oskdft.lessons import costs, demo, kept
from oskdft.lessons.widgets import recorder, side, uploads
from oskdft.method.encoder import architecture
from oskdft.method.model import SpeakerModel, count
from oskdft.method.student import Adapter
from oskdft.speech import audio, protocol, quality
from oskdft.speech.corpora import shards
from oskdft.speech.corpora.tables import Utterances, labels_of, load_corpus
from oskdft.speech.mel import WINDOW
from oskdft.storage import export
from oskdft.storage.pretrained import load_encoder
from oskdft.utils.console import say
from oskdft.utils.files import ASSETS

EACH = 2  # recordings of a speaker to choose from
CLASS_TRIALS = 10  # of one speaker, and as many of two
MAP_EACH = 3  # recordings of a test speaker on the map
NEIGHBOURS = 15  # of UMAP, as in notebook 08
SHORT_S = 1.0  # [s] beginning of a recording, for a second curve of the shipped student
STUDENT = "classroom"
KNOWN = {  # name on the page -> (architecture of the teacher, layers of its student)
    "HuBERT base": ("facebook/hubert-base-ls960", 2),
    "XLSR-53": ("facebook/wav2vec2-large-xlsr-53", 4),
}


def build(out: Path) -> None:
    """Write everything into a new folder."""
    torch.set_num_threads(1)
    (out / "clips").mkdir(parents=True)
    (out / "map").mkdir()
    say("app: exporting the student")
    models = _models(out)
    verifier = load(STUDENT, "cpu", quick=True)
    chosen = {
        name: wave
        for name, wave in demo.recordings().items()
        if int(name.split(", recording ")[1]) <= EACH
    }
    pairs, labels = demo.trials(list(chosen))
    embedded = scoring.normalise(np.stack([verifier.embed(wave) for wave in chosen.values()]))
    scores = (embedded[pairs[:, 0]] * embedded[pairs[:, 1]]).sum(1)
    content = {
        "limits": _limits(),
        "clips": _clips(out, chosen),
        "pairs": _shuffled(pairs, labels),
        "class": _class_trials(pairs, labels, scores),
        "judges": _judges(verifier, models),
        "domain": _domain(out, verifier),
        "costs": _costs(verifier),
        "corpus": demo.CORPUS,
        "measured": verifier.described["measured"],
    }
    _write(out / "data.json", content)
    say("app: embedding the test recordings")
    everyone = load_corpus("speechbox", split="test")
    waves = [audio.read(everyone.path(row)) for row in range(len(everyone))]
    table = np.stack([verifier.embed(wave) for wave in waves])
    say("app: map of the embeddings")
    _write(out / "map.json", _map(out, everyone, table))
    say("app: curves of the kept systems")
    short = np.stack([verifier.embed(wave[: round(SHORT_S * SAMPLE_RATE)]) for wave in waves])
    (cepstra,) = probes.pooled(probes.mfcc_states, waves)
    own = {
        "shipped": (scoring.normalise(table), everyone),
        "shipped-short": (scoring.normalise(short), everyone),
        "mfcc": (scoring.normalise(probes.standardised_columns(cepstra)), everyone),
    }
    _write(out / "det.json", _curves(out, own))


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, separators=(",", ":"), allow_nan=False), encoding="utf-8")


def _limits() -> dict[str, float]:
    """Limits of a recording: the constants of the package under their own names."""
    return {
        "SAMPLE_RATE": SAMPLE_RATE,
        "SHORTEST_S": quality.SHORTEST_S,
        "SURE_S": quality.SURE_S,
        "SILENCE": quality.SILENCE,
        "FULL_SCALE": quality.FULL_SCALE,
        "CLIPPED_SHARE": quality.CLIPPED_SHARE,
        "MOST_BYTES": uploads.MOST_BYTES,
        "UPLOAD_LIMIT_S": uploads.UPLOAD_LIMIT_S,
        "USED_S": uploads.USED_S,
        "RECORD_S": recorder.LIMIT_S,
        "ECHO_DB": side.ECHO_DB,
    }


class BothPaths(nn.Module):
    """States of both paths of one wave as one tensor [1, 2, L+1, T, D], distillation first.

    The number of rows is fixed when the graph is traced, so only the first row is used.
    """

    def __init__(self, model: SpeakerModel) -> None:
        super().__init__()
        self.student = model.student

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        """States of the first of the waves [B, N]."""
        return torch.stack(self.student.forward_two_paths(wave[:1])).permute(2, 0, 1, 3, 4)


def eight_bit_weights(exact: bytes) -> bytes:
    """An ONNX model that stores its weights as int8, one scale per output, and computes in float32.

    `int8.to_int8` also rounds what flows through the products, and the last bits of another processor
    then change a score by 0.002. Here a browser and Python agree to 1e-6.

    Args:
        exact: content of a float32 ONNX file, as from `export.to_onnx`.
    """
    model = onnx.load_model_from_string(exact)
    graph = model.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {}  # name of a weight -> its axis of outputs
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm") and node.input[1] in values:
            turned = any(entry.name == "transB" and entry.i for entry in node.attribute)
            outputs[node.input[1]] = 0 if node.op_type == "Conv" or turned else 1
    unpacked = []
    for name, axis in outputs.items():
        value = numpy_helper.to_array(values[name])
        rest = tuple(other for other in range(value.ndim) if other != axis)
        scale = np.abs(value).max(rest, keepdims=True).clip(1e-12) / 127
        whole = np.round(value / scale).astype(np.int8)
        graph.initializer.remove(values[name])
        graph.initializer.append(numpy_helper.from_array(whole, f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scale.ravel(), f"{name}_scale"))
        inputs = [f"{name}_int8", f"{name}_scale"]
        unpacked.append(helper.make_node("DequantizeLinear", inputs, [name], axis=axis))
    nodes = [*unpacked, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _models(out: Path) -> dict[str, int]:
    """Write the student in float32, in int8 and with its states as output; name -> bytes."""
    model = load(STUDENT, "cpu").model
    exact = export.to_onnx(model)
    files = {
        "float32": exact,
        "int8": eight_bit_weights(exact),
        "paths": export.to_onnx(BothPaths(model).eval(), "states"),
    }
    for name, content in files.items():
        (out / f"{name}.onnx").write_bytes(content)
    return {name: len(content) for name, content in files.items()}


def _clips(out: Path, chosen: dict[str, np.ndarray]) -> list[dict]:
    """Write the recordings to choose from as 16-bit WAV; group, letter, number and file of each."""
    rows = []
    for name, wave in chosen.items():
        speaker, number = name.split(", recording ")
        group, letter = speaker.split()
        file = f"clips/{group}-{letter}-{number}.wav"
        soundfile.write(out / file, wave, SAMPLE_RATE, "PCM_16")
        rows.append({"group": group, "letter": letter, "number": int(number), "file": file})
    return rows


def _shuffled(pairs: np.ndarray, labels: np.ndarray) -> list[list[int]]:
    """As many pairs of one speaker as of two, in an order drawn once."""
    rng = np.random.default_rng(1)
    kinds = [rng.permutation(np.flatnonzero(labels == kind)) for kind in (0, 1)]
    least = min(map(len, kinds))
    return pairs[rng.permutation(np.concatenate([kind[:least] for kind in kinds]))].tolist()


def _class_trials(pairs: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> list[dict]:
    """`CLASS_TRIALS` trials of one speaker and as many of two, drawn once, with the student's scores."""
    rng = np.random.default_rng(0)
    drawn = [rng.permutation(np.flatnonzero(labels == kind))[:CLASS_TRIALS] for kind in (0, 1)]
    return [
        {
            "a": int(pairs[row, 0]),
            "b": int(pairs[row, 1]),
            "same": int(labels[row]),
            "score": round(float(scores[row]), 5),
        }
        for row in rng.permutation(np.concatenate(drawn))
    ]


def _judges(verifier: Verifier, models: dict[str, int]) -> dict[str, dict]:
    """What turns a score of each judge into a decision and a probability, and its size [bytes].

    The student keeps its calibration in int8. MFCC gets the mean and the deviation of its columns, its
    threshold and its calibration from the development speakers of the speech in the package.
    """
    fitted = verifier.described["calibration"]["full"]
    student = {name: {"bytes": models[name], **fitted} for name in ("int8", "float32")}
    task = protocol.prepare(config.load("classroom"))
    trials = task.dev_trials
    waves = (audio.read(task.dev.root / path) for path in trials.paths)
    (table,) = probes.pooled(probes.mfcc_states, waves)
    pairs = np.stack([trials.enrol, trials.test], 1)
    scores = scoring.score_trials(probes.standardised_columns(table), None, pairs)
    mfcc = calibration.fit(scores, trials.label)
    columns = {"mean": table.mean(0).tolist(), "deviation": table.std(0).tolist()}
    return student | {"mfcc": {"bytes": 0, **mfcc, **columns}}


def _domain(out: Path, verifier: Verifier) -> dict[str, float]:
    """Write mean [E] and whitening [E, E] of the domain as float32; its limit and size."""
    domain = verifier.domain
    tensors = np.concatenate([domain.mean[None], domain.whitening]).astype("<f4")
    (out / "domain.bin").write_bytes(tensors.tobytes())
    return {"limit": domain.limit, "size": len(domain.mean)}


def _costs(verifier: Verifier) -> dict[str, dict]:
    """Parameters and multiply-adds of the parts of teachers, and those of an adapter of their students."""
    own = config.from_dict(verifier.described["config"]).model
    families = {own.teacher: (load_encoder(own.teacher).config, own)}
    for name, (known, layers) in KNOWN.items():
        settings = config.ModelConfig(student_layers=layers, adapter_norm=name == "XLSR-53")
        families[name] = (architecture(known), settings)
    frames = (round(costs.UTTERANCE_S * SAMPLE_RATE) - WINDOW) // config.HOP + 1
    rows = {}
    for name, (encoder, settings) in families.items():
        with torch.device("meta"):
            adapter = Adapter(encoder.hidden_size, settings, config.Switches())
            hidden = torch.zeros(1, frames, encoder.hidden_size)
        rows[name] = {
            "parts": costs.encoder_costs(encoder),
            "layers": settings.student_layers,
            "adapter": {
                "parameters": count(adapter),
                "multiply_adds": costs.multiply_adds(adapter, hidden),
            },
        }
    return rows


def _curves(out: Path, own: dict[str, tuple[np.ndarray, Utterances]]) -> dict:
    """Scores of the kept systems and of ``own`` on the test trials, with bands over speakers.

    The scores of a system are 16-bit whole numbers between its lowest and its highest score.
    """
    sweep = kept.read(ASSETS / "evidence" / "strategies")
    trials = sweep.trials()
    speakers = bootstrap.trial_speakers(trials)
    scores = {run.row: run.scores["test"] for run in sweep.runs if run.cfg.seed == 0}
    for name, (table, everyone) in own.items():
        row = {path: number for number, path in enumerate(everyone.names())}
        places = np.array([row[path] for path in trials.paths])
        scores[name] = (table[places[trials.enrol]] * table[places[trials.test]]).sum(1)
    systems, packed = [], []
    for name, values in scores.items():
        low, high = float(values.min()), float(values.max())
        packed.append(np.round((values - low) / (high - low) * 65535).astype("<u2"))
        interval = bootstrap.bootstrap_ci(values, trials.label, speakers)
        rate = metrics.eer(values, trials.label)[0]
        row = {"name": name, "lowest": low, "highest": high, "eer": rate, "interval": interval}
        systems.append(row | {"band": _band(values, trials.label, speakers)})
    labels = trials.label.astype(np.uint8)
    (out / "det.bin").write_bytes(labels.tobytes() + np.stack(packed).tobytes())
    return {"trials": len(labels), "targets": int(labels.sum()), "systems": systems}


def _band(scores: np.ndarray, labels: np.ndarray, speakers: np.ndarray) -> dict[str, list[float]]:
    """95 % of the miss rates of drawn speakers at fixed false-alarm rates, both as fractions."""
    low, high = bands.band(bands.draws_of_speakers(scores, labels, speakers))
    rows = {"x": bands.BAND, "low": low, "high": high}
    return {key: np.round(x, 5).tolist() for key, x in rows.items()}


def _map(out: Path, everyone: Utterances, table: np.ndarray) -> dict:
    """PCA and UMAP of some recordings of every test speaker, their labels, files and embeddings.

    The unit embeddings are 16-bit whole numbers, 32,767 for 1.
    """
    import umap  # heavy

    number = [np.sum(everyone.speaker[:row] == everyone.speaker[row]) for row in range(len(table))]
    rows = np.flatnonzero(np.array(number) < MAP_EACH)
    labels = labels_of("speechbox", everyone)
    space = scoring.normalise(table[rows])
    options = {"n_neighbors": NEIGHBOURS, "metric": "cosine", "random_state": 0, "n_jobs": 1}
    places = {
        "pca": PCA(2, random_state=0).fit_transform(space),
        "umap": umap.UMAP(**options).fit_transform(space),
    }
    for index, row in enumerate(rows):
        source, _ = shards.open_recording(everyone.path(row))
        with open(source, "rb") if isinstance(source, str) else source as file:
            (out / "map" / f"{index}.opus").write_bytes(file.read())
    (out / "map.bin").write_bytes(np.round(space * 32767).astype("<i2").tobytes())
    kinds = {kind: [labels[kind][row] for row in rows] for kind in ("speaker", "gender", "age")}
    return kinds | {name: np.round(xy, 4).tolist() for name, xy in places.items()}
