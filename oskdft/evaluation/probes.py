"""Analysis of layers: statistics of their states, linear probes, similarity (CKA), attention, gradients.

States are lists of [T, C], one per layer: first the CNN's output, then hidden states 0 to L. Hidden state
0 is the input of layer 1, so index n + 1 is the output of layer n. Models are in evaluation mode.

Letters: n utterances, m frames, F columns of a table, D width of the encoder.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from oskdft.config import HOP, SAMPLE_RATE
from oskdft.evaluation.metrics import eer
from oskdft.evaluation.scoring import score_trials
from oskdft.method.encoder import cnn, states_of_features
from oskdft.method.student import Student
from oskdft.speech.mel import cepstra

FRAME_MS = 1000 * HOP / SAMPLE_RATE  # time between frames
FOLDS = 4  # of the cross-validation of probes; fewer where there are fewer groups


@torch.no_grad()
def states_of(encoder: nn.Module, wave: np.ndarray) -> list[Tensor]:
    """All states of one utterance.

    Args:
        encoder: one of transformers' speech encoders. wave: [N] float32 at 16 kHz in [-1, 1].
    Returns:
        CNN output [T, C], then hidden states 0 to L, each [T, D].

    >>> from oskdft.storage.pretrained import load_encoder
    >>> wave = np.zeros(8000, np.float32)
    >>> [tuple(x.shape) for x in states_of(load_encoder("tiny-random-hubert"), wave)]
    [(24, 16), (24, 32), (24, 32), (24, 32)]
    """
    device = next(encoder.parameters()).device
    features = cnn(encoder, torch.from_numpy(wave)[None].to(device))
    return [features[0], *states_of_features(encoder, features)[:, 0]]


@torch.no_grad()
def states_of_path(student: Student, wave: np.ndarray, adapters: bool) -> list[Tensor]:
    """Hidden states of one utterance along one path of a student.

    Args:
        wave: [N] float32 at 16 kHz in [-1, 1].
        adapters: True for the verification path, False for the distillation path.
    Returns:
        Hidden states 0 to L, each [T, D].

    >>> from oskdft import config
    >>> from oskdft.method.model import new_model
    >>> from oskdft.storage.pretrained import load_encoder
    >>> model = new_model(config.load("smoke"), load_encoder("classroom-hubert")).eval()
    >>> wave = np.zeros(8000, np.float32)
    >>> [tuple(x.shape) for x in states_of_path(model.student, wave, adapters=True)]
    [(24, 128), (24, 128)]
    """
    device = next(student.parameters()).device
    rows = torch.from_numpy(wave)[None].to(device)
    return list(student(rows, distilled_rows=0 if adapters else 1)[:, 0])


def mfcc_states(wave: np.ndarray) -> list[Tensor]:
    """Baseline without a model: mel-frequency cepstral coefficients at the frame rate of the encoders.

    Args:
        wave: [N] at 16 kHz in [-1, 1].
    Returns:
        One "state" [T, 13].

    >>> [tuple(x.shape) for x in mfcc_states(np.zeros(8000))]
    [(24, 13)]
    """
    return [torch.from_numpy(cepstra(wave).T)]


def pooled(
    states: Callable[[np.ndarray], Iterable[Tensor]], waves: Iterable[np.ndarray]
) -> list[np.ndarray]:
    """Mean and deviation over time of each layer's states.

    Args:
        states: utterance [N] -> one [T, C] per layer, such as `states_of` with its encoder.
        waves: n utterances [N] in [-1, 1], at least 0.1 s each.
    Returns:
        One table [n, 2 C] float32 per layer.

    >>> [table] = pooled(lambda wave: [torch.from_numpy(wave)[:, None]], [np.array([1.0, 3.0, 5.0])])
    >>> table.tolist()
    [[3.0, 2.0]]
    """
    rows = [
        [torch.cat([x.mean(0), x.std(0)]).float().cpu().numpy() for x in states(wave)]
        for wave in waves
    ]
    return [np.stack(table) for table in zip(*rows, strict=True)]


def frames(
    states: Callable[[np.ndarray], Iterable[Tensor]], waves: Iterable[np.ndarray], every: int = 5
) -> list[np.ndarray]:
    """Frames of all utterances, thinned.

    Args:
        states: as for `pooled`. waves: n utterances [N].
        every: keep frames 0, every, 2 every, ... of each utterance.
    Returns:
        One table [m, C] float32 per layer, rows in the same order.

    >>> [table] = frames(lambda wave: [torch.from_numpy(wave)[:, None]], [np.arange(9.0)] * 2, every=4)
    >>> table[:, 0].tolist()
    [0.0, 4.0, 8.0, 0.0, 4.0, 8.0]
    """
    rows = [[x[::every].float().cpu().numpy() for x in states(wave)] for wave in waves]
    return [np.concatenate(table) for table in zip(*rows, strict=True)]


def constant_share(table: np.ndarray) -> float:
    """Share of a state's energy that one constant vector explains, the same in all frames.

    The rest differs between utterances or changes within each.

    Args:
        table: [n, 2 D] mean and deviation over time, as from `pooled`.
    Returns:
        A fraction in [0, 1].

    >>> constant_share(np.array([[1.0, 0.0], [3.0, 0.0]]))
    0.8
    """
    mean, deviation = np.split(np.asarray(table, dtype=float), 2, axis=1)
    return float((mean.mean(0) ** 2).sum() / (mean**2 + deviation**2).mean(0).sum())


def standardised_columns(table: np.ndarray) -> np.ndarray:
    """Each column of [n, F] with mean 0 and deviation 1 over the rows.

    >>> standardised_columns(np.array([[1.0, 5.0], [3.0, 5.0]])).round(3).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    return (table - table.mean(0)) / (table.std(0) + 1e-8)


def speaker_eer(table: np.ndarray, pairs: np.ndarray, labels: np.ndarray) -> float:
    """EER of cosines between the rows of a standardised table: speaker information without training.

    Args:
        table: [n, F]. pairs: [P, 2] rows of the table. labels: [P] 1 same speaker.
    Returns:
        A fraction in [0, 1].
    Raises:
        ValueError: see `scoring.score_trials` and `metrics.eer`.

    >>> table = np.array([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.2]])
    >>> speaker_eer(table, np.array([[0, 1], [0, 2]]), np.array([1, 0]))
    0.0
    """
    return eer(score_trials(standardised_columns(table), None, pairs), labels)[0]


def probe(table: np.ndarray, labels: Sequence, groups: Sequence) -> tuple[float, float]:
    """Accuracy of a linear classifier on groups that it was not fitted on, and of a constant guess.

    Logistic regression on standardised columns; each group is held out once, as a whole. Group by
    speaker to probe a property that speakers share, by session to probe the speaker.

    Args:
        table: [n, F]. labels: [n]. groups: [n] names that must not be in both parts of a split.
    Returns:
        (accuracy, share of the most frequent label), fractions in [0, 1].
    Raises:
        ValueError: fewer than two labels that are each in two groups or more.

    >>> table = np.array([[0.0], [0.1], [1.0], [1.1]] * 2)
    >>> probe(table, ["a", "a", "b", "b"] * 2, [0] * 4 + [1] * 4)
    (1.0, 0.5)
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    count = len(np.unique(groups))
    shared = [name for name in np.unique(labels) if len(np.unique(groups[labels == name])) > 1]
    if len(shared) < 2:
        raise ValueError(
            f"{count} groups, {len(np.unique(labels))} labels, {len(shared)} of them in several groups; "
            "a probe needs two labels that are each in two groups"
        )
    split = StratifiedGroupKFold(min(FOLDS, count))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-3, max_iter=1000))
    guess = cross_val_predict(model, table, labels, groups=groups, cv=split)
    most_frequent = np.unique(labels, return_counts=True)[1].max()
    return float(accuracy_score(labels, guess)), float(most_frequent / len(labels))


def linear_cka(a: np.ndarray, b: np.ndarray) -> float:
    """Similarity of two tables of the same rows: 1 when one is the other one rotated and scaled.

        CKA = |B'A|^2 / (|A'A| |B'B|),  columns centred, Frobenius norms

    Args:
        a, b: [m, F], [m, G]; with m not much larger than F and G all tables look alike.
    Returns:
        A number in [0, 1].
    Source: Kornblith et al., Similarity of neural network representations revisited, 2019.

    >>> a = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(linear_cka(a, 2 * a[:, ::-1] + 1), 6)
    1.0
    """
    a, b = a - a.mean(0), b - b.mean(0)
    cross = np.linalg.norm(b.T @ a) ** 2
    return float(cross / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)))


def cka_matrix(rows: list[np.ndarray], columns: list[np.ndarray]) -> np.ndarray:
    """`linear_cka` of every pair of tables, [len(rows), len(columns)].

    >>> table = np.array([[1.0], [2.0], [4.0]])
    >>> cka_matrix([table], [table, -table]).round(6).tolist()
    [[1.0, 1.0]]
    """
    return np.array([[linear_cka(a, b) for b in columns] for a in rows])


@torch.no_grad()
def attention_distances(encoder: nn.Module, waves: Sequence[np.ndarray]) -> np.ndarray:
    """Mean distance between a frame and the frames that it attends to, for each head.

        d = 20 ms * mean_i sum_j a_ij |i - j|,  a_ij attention of frame i to frame j

    Args:
        encoder: HuBERT or wav2vec 2.0. waves: utterances [N] float32 at 16 kHz; the mean is over them.
    Returns:
        [L, heads] ms; uniform attention gives a third of the utterance's length.
    Raises:
        ValueError: WavLM, whose attention transformers returns as a mean over heads only.

    >>> from oskdft.storage.pretrained import load_encoder
    >>> attention_distances(load_encoder("tiny-random-hubert"), [np.zeros(8000, np.float32)]).shape
    (2, 2)
    """
    if encoder.config.model_type == "wavlm":
        raise ValueError(
            "attention per head is not available for WavLM; take HuBERT or wav2vec 2.0"
        )
    kept = encoder.config._attn_implementation
    device = next(encoder.parameters()).device
    encoder.set_attn_implementation("eager")  # the fused kernels return no weights
    total = 0.0
    for wave in waves:
        out = encoder(torch.from_numpy(wave)[None].to(device), output_attentions=True)
        weights = torch.stack(out.attentions)[:, 0]  # [L, heads, T, T]
        frame = torch.arange(weights.shape[-1], device=device)
        distance = (frame[:, None] - frame[None]).abs()  # [T, T]
        total = total + FRAME_MS * (weights * distance).sum(-1).mean(-1).cpu().numpy()
    encoder.set_attn_implementation(kept)
    return total / len(waves)


def parts_of(student: Student, heads: dict[str, nn.Module]) -> dict[str, list[nn.Parameter]]:
    """Parameters of a student and its heads by part; a part without parameters is left out.

    Args:
        heads: name -> module behind the student, such as back-end, SV loss, KD heads.
    Returns:
        "CNN", "projection", "positions", "layer 1" ..., "adapter 1" ... and the heads -> parameters.

    >>> from oskdft import config
    >>> from oskdft.method.model import new_model
    >>> from oskdft.storage.pretrained import load_encoder
    >>> model = new_model(config.load("smoke"), load_encoder("classroom-hubert")).eval()
    >>> list(parts_of(model.student, {"back-end": model.backend}))
    ['CNN', 'projection', 'positions', 'layer 1', 'adapter 1', 'back-end']
    """
    encoder = student.encoder
    parts = {}
    parts["CNN"] = encoder.feature_extractor
    parts["projection"] = encoder.feature_projection
    parts["positions"] = nn.ModuleList([encoder.encoder.pos_conv_embed, encoder.encoder.layer_norm])
    for index, layer in enumerate(encoder.encoder.layers):
        parts[f"layer {index + 1}"] = layer
    for name, adapter in student.adapters.named_children():  # a layer without one is not listed
        parts[f"adapter {int(name) + 1}"] = adapter
    parameters = {name: list(part.parameters()) for name, part in (parts | heads).items()}
    return {name: tensors for name, tensors in parameters.items() if tensors}


def gradient_flow(
    losses: dict[str, Tensor], parts: dict[str, list[nn.Parameter]]
) -> dict[str, dict[str, float]]:
    """Norm of each loss's gradient in each part; exactly 0 where no gradient arrives.

    Args:
        losses: name -> scalar of one forward pass. parts: name -> parameters, as from `parts_of`.
    Returns:
        part -> {loss: norm}.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> gradient_flow({"loss": layer(torch.ones(1, 2)).sum()}, {"layer": [layer.weight]})
    {'layer': {'loss': 1.4142135381698608}}
    """
    flow = {part: {} for part in parts}
    for name, loss in losses.items():
        for part, parameters in parts.items():
            grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            norms = [grad.norm() for grad in grads if grad is not None]
            flow[part][name] = float(torch.stack(norms).norm()) if norms else 0.0
    return flow


def same_label(points: np.ndarray, labels: Sequence, k: int, metric: str = "cosine") -> float:
    """Share of the k nearest neighbours that have the point's own label, mean over the points.

    Args:
        points: [n, F] embeddings, or [n, 2] of a map with metric "euclidean". labels: [n].
        k: neighbours, without the point itself.
    Returns:
        A fraction in [0, 1].

    >>> same_label(np.array([[0.0], [0.1], [5.0], [5.1]]), list("aabb"), 1, "euclidean")
    1.0
    """
    labels = np.asarray(labels)
    finder = NearestNeighbors(n_neighbors=k, metric=metric).fit(points)
    near = finder.kneighbors(return_distance=False)  # [n, k], each point itself left out
    return float((labels[near] == labels[:, None]).mean())


def zero_shot_eer(
    encoder: nn.Module, waves: list[np.ndarray], pairs: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """`speaker_eer` of each layer's mean and deviation over time: speaker information without labels.

    Args:
        encoder: one of transformers' speech encoders.
        waves: n utterances [N] in [-1, 1], at least 0.1 s each.
        pairs: [P, 2] rows. labels: [P] 1 same speaker.
    Returns:
        EER as a fraction: "cnn", then "0" (input of layer 1) to "L".
    Raises:
        ValueError: see `speaker_eer`.

    >>> from oskdft.storage.pretrained import load_encoder
    >>> a, b = np.random.default_rng(0).normal(0, 0.1, (2, 8000)).astype(np.float32)
    >>> pairs, labels = np.array([[0, 1], [0, 2]]), np.array([1, 0])
    >>> zero_shot_eer(load_encoder("tiny-random-hubert"), [a, a, b], pairs, labels)
    {'cnn': 0.0, '0': 0.0, '1': 0.0, '2': 0.0}
    """
    training = encoder.training
    encoder.eval()
    tables = pooled(partial(states_of, encoder), waves)
    encoder.train(training)
    names = ["cnn", *map(str, range(len(tables) - 1))]
    return {
        name: speaker_eer(table, pairs, labels) for name, table in zip(names, tables, strict=True)
    }
