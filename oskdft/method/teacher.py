"""What the teacher says of a batch: states, an embedding, and the CNN features that a student shares."""

import warnings

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
)
from transformers.utils import logging

from oskdft.method.encoder import cnn, hidden_states, states_of_features
from oskdft.method.model import SpeakerModel
from oskdft.utils.distributed import mean_over_processes

LEAST = 1e-8  # variance, so that a dimension without any stays finite


class Teacher(nn.Module):
    """Frozen SSL encoder: no gradient, always in evaluation mode.

    >>> Teacher(load_encoder("tiny-random-wavlm"))(torch.zeros(2, 8000)).shape  # [L+1, B, T, D]
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
        """`hidden_states` without gradient."""
        return hidden_states(self.encoder, wave, lengths, keep)


class TunedTeacher(Teacher):
    """A fine-tuned teacher: its states, and its embedding for PostComp."""

    def __init__(self, model: SpeakerModel) -> None:
        super().__init__(model.student.encoder)
        self.backend = model.backend.requires_grad_(False).eval()


@torch.no_grad()
def states_and_embedding(
    teacher: Teacher, wave: Tensor, keep: tuple[int, ...], features: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Kept states [K, B, T, D] and, of a fine-tuned teacher, its embedding [B, E].

    Args:
        wave: [B, N] what the teacher hears. keep: which states.
        features: [B, T, C] of ``wave``, when the CNN has run already.

    >>> from oskdft.storage.pretrained import load_encoder
    >>> teacher, wave = Teacher(load_encoder("tiny-random-hubert")), torch.randn(2, 8000)
    >>> states, embedding = states_and_embedding(teacher, wave, (1, 2))
    >>> again, _ = states_and_embedding(teacher, wave, (1, 2), cnn(teacher.encoder, wave))
    >>> states.shape, embedding, torch.equal(states, again)
    (torch.Size([2, 2, 24, 32]), None, True)
    """
    tuned = isinstance(teacher, TunedTeacher)
    wanted = None if tuned else keep  # its back-end reads all states
    if features is None:
        states = teacher(wave, keep=wanted)
    else:
        states = states_of_features(teacher.encoder, features, keep=wanted)
    if not tuned:
        return states, None
    return torch.stack([states[i] for i in keep]), teacher.backend(states)


@torch.no_grad()
def standardised(states: Tensor) -> Tensor:
    """Each dimension of each layer with mean 0 and deviation 1 over the frames of the global batch.

    States of a pre-norm model hold a large constant: a student that guesses it alone has a small
    loss, and has forgotten the speakers (README, results).

    Args:
        states: [K, B, T, D].

    >>> standardised(torch.tensor([7.0, 9.0]).view(1, 2, 1, 1)).flatten()
    tensor([-1.,  1.])
    """
    apart = states - mean_over_processes(states.mean((1, 2), keepdim=True))
    variance = mean_over_processes(apart.square().mean((1, 2), keepdim=True))
    return apart / (variance + LEAST).sqrt()


@torch.no_grad()
def features_of_both(
    encoder: PreTrainedModel, clean: Tensor, heard: Tensor
) -> tuple[Tensor, Tensor]:
    """CNN features of both crops; rows that are equal are computed once.

    Args:
        clean, heard: [B, N] the teacher's and the student's crops.
    Returns:
        two tensors [B, T, C], the same one when no row was augmented.

    >>> from oskdft.storage.pretrained import load_encoder
    >>> wave = torch.zeros(2, 8000)
    >>> one, two = features_of_both(load_encoder("tiny-random-hubert"), wave, wave.clone())
    >>> one is two, one.requires_grad
    (True, False)
    """
    features = cnn(encoder, clean)
    changed = (clean != heard).any(1)  # [B]
    if not changed.any():
        return features, features
    own = features.clone()
    own[changed] = cnn(encoder, heard[changed])
    return features, own


def same_cnn(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    """Whether two encoders have one CNN, weight by weight.

    >>> from oskdft.storage.pretrained import load_encoder
    >>> teacher, student = load_encoder("tiny-random-hubert"), load_encoder("tiny-random-hubert")
    >>> before = same_cnn(teacher, student)
    >>> _ = torch.nn.init.zeros_(student.feature_extractor.conv_layers[0].conv.weight)
    >>> before, same_cnn(teacher, student)
    (True, False)
    """
    theirs = other.feature_extractor.state_dict()
    own = one.feature_extractor.state_dict()
    return own.keys() == theirs.keys() and all(torch.equal(own[k], theirs[k]) for k in own)


# WavLM of transformers mixes a boolean padding mask with float position biases: exact, but torch says so
warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")


logging.disable_progress_bar()  # a bar for each loaded model says nothing
