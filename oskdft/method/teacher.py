"""The frozen teacher, and what it gives the student to imitate in each step."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from oskdft.method.encoder import cnn, hidden_states, states_of_features
from oskdft.method.library import PreTrainedModel
from oskdft.method.model import SpeakerModel
from oskdft.utils.distributed import mean_over_processes

VARIANCE_FLOOR = 1e-8  # keeps a dimension that never changes finite


class Teacher(nn.Module):
    """Frozen SSL encoder: no gradient, always in evaluation mode.

    >>> from oskdft.method.encoder import architecture, build_encoder
    >>> teacher = Teacher(build_encoder(architecture("tiny-random-wavlm")))
    >>> teacher(torch.zeros(2, 8000)).shape  # [L+1, B, T, D]
    torch.Size([3, 2, 24, 32])
    """

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in evaluation mode, whatever the surrounding training loop does."""
        return super().train(False)

    @torch.no_grad()
    def forward(
        self, wave: Tensor, lengths: Tensor | None = None, keep: tuple[int, ...] | None = None
    ) -> Tensor:
        """Compute `hidden_states` without gradient."""
        return hidden_states(self.encoder, wave, lengths, keep)


class TunedTeacher(Teacher):
    """A teacher that was fine-tuned for speaker verification: hidden states and an embedding (PostComp)."""

    def __init__(self, model: SpeakerModel) -> None:
        super().__init__(model.student.encoder)
        self.backend = model.backend.requires_grad_(False).eval()


class Target(NamedTuple):
    """What the distillation path of a batch imitates, and the input that it needs for that.

    Attributes:
        states: [K, B, T, D] the teacher's hidden states of the K layers that the KD loss reads.
        embedding: [B, E] the embedding of a fine-tuned teacher; None with any other teacher.
        wave: [B, N] the recording of the distillation path, where it differs from the recording
            of the verification path (a second corpus for KD); else None.
        features: [B, T, C] CNN features of the distillation path's recording, where student and
            teacher share a frozen CNN that has run already; else None.
    """

    states: Tensor
    embedding: Tensor | None = None
    wave: Tensor | None = None
    features: Tensor | None = None


@torch.no_grad()
def imitation_target(
    teacher: Teacher,
    clean: Tensor,
    augmented: Tensor,
    layers: tuple[int, ...],
    *,
    second_corpus: bool = False,
    shared_cnn: bool = False,
    standardise: bool = False,
) -> Target:
    """Run the teacher on a batch; its states are the target of the distillation path.

    Args:
        teacher: frozen.
        clean: [B, N] the teacher's crops, not augmented (release P).
        augmented: [B, N] the student's crops.
        layers: hidden states that the KD loss reads, 0 for the input of layer 1, -1 for the last.
        second_corpus: ``clean`` is of another corpus, and the distillation path reads it, too.
        shared_cnn: student and teacher have one frozen CNN; it runs once for both.
        standardise: states with mean 0 and deviation 1, see `standardised`.

    >>> from oskdft.method.encoder import architecture, build_encoder
    >>> teacher = Teacher(build_encoder(architecture("tiny-random-hubert")))
    >>> wave = torch.randn(2, 8000)
    >>> target = imitation_target(teacher, wave, wave, (1, 2))
    >>> target.states.shape, target.embedding, target.wave
    (torch.Size([2, 2, 24, 32]), None, None)
    """
    features = own_features = None
    if shared_cnn:
        heard = clean if second_corpus else augmented
        features, own_features = features_of_both(teacher.encoder, clean, heard)

    # A fine-tuned teacher gives all states, because its back-end reads them all.
    tuned = isinstance(teacher, TunedTeacher)
    keep = None if tuned else layers
    if shared_cnn:
        states = states_of_features(teacher.encoder, features, keep=keep)
    else:
        states = teacher(clean, keep=keep)
    embedding = None
    if tuned:
        embedding = teacher.backend(states)
        states = torch.stack([states[layer] for layer in layers])

    if standardise:
        states = standardised(states.float())
    return Target(states, embedding, clean if second_corpus else None, own_features)


@torch.no_grad()
def standardised(states: Tensor) -> Tensor:
    """Give each dimension of each layer mean 0 and deviation 1 over the frames of the global batch.

    The states of a pre-norm model hold a large constant. A student that guesses this constant has a
    small KD loss and has learnt nothing of the speech (notebook 02, section 4). Our choice, not the paper's.

    Args:
        states: [K, B, T, D].

    >>> standardised(torch.tensor([7.0, 9.0]).view(1, 2, 1, 1)).flatten()
    tensor([-1.,  1.])
    """
    centred = states - mean_over_processes(states.mean((1, 2), keepdim=True))
    variance = mean_over_processes(centred.square().mean((1, 2), keepdim=True))
    return centred / (variance + VARIANCE_FLOOR).sqrt()


@torch.no_grad()
def features_of_both(
    encoder: PreTrainedModel, clean: Tensor, augmented: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the CNN features of two crops; equal rows are computed once.

    Args:
        clean, augmented: [B, N] the crops of teacher and student.
    Returns:
        two tensors [B, T, C]; one and the same when no row was augmented.

    >>> from oskdft.method.encoder import architecture, build_encoder
    >>> encoder, wave = build_encoder(architecture("tiny-random-hubert")), torch.zeros(2, 8000)
    >>> of_clean, of_augmented = features_of_both(encoder, wave, wave.clone())
    >>> of_clean is of_augmented, of_clean.requires_grad
    (True, False)
    """
    features = cnn(encoder, clean)
    changed = (clean != augmented).any(1)  # [B]
    if not changed.any():
        return features, features
    own_features = features.clone()
    own_features[changed] = cnn(encoder, augmented[changed])
    return features, own_features


def same_cnn(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    """Return whether the CNNs of two encoders have equal weights.

    >>> from oskdft.method.encoder import architecture, build_encoder
    >>> encoders = [build_encoder(architecture("tiny-random-hubert")) for _ in range(2)]
    >>> same_cnn(encoders[0], encoders[0]), same_cnn(*encoders)
    (True, False)
    """
    own_weights = one.feature_extractor.state_dict()
    other_weights = other.feature_extractor.state_dict()
    return own_weights.keys() == other_weights.keys() and all(
        torch.equal(own_weights[name], other_weights[name]) for name in own_weights
    )
