"""Self-supervised objectives of the classroom teachers, and the recipe that sets them.

Masked prediction (HuBERT: cluster labels of MFCC, then of the model's own features), contrastive
prediction (wav2vec 2.0: find the quantised latent of a masked frame), and beside either the
utterance-wise contrastive loss of UniSpeech-SAT.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2ForPreTraining
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    _compute_mask_indices,
    _sample_negative_indices,
)

from oskdft import config
from oskdft.method.encoder import frame_count, hidden_states
from oskdft.speech.mel import cepstra
from oskdft.utils import schema
from oskdft.utils.console import progress

CONFIGS = ("classroom-hubert", "classroom-wav2vec2")
LIMITS = {  # of every number of a recipe: above, or least where the limit itself is allowed, and most
    **dict.fromkeys(("width", "cnn"), (None, 1, 16_384)),
    **dict.fromkeys(("layers", "heads"), (None, 1, 100)),
    "steps": (0, None, 100_000_000),
    "utterances": (0, None, 65_536),
    "crop_s": (0, None, 600),
    **dict.fromkeys(("lr", "init_std", "temperature"), (0, None, 1_000)),
    "warmup": (0, None, 1),
    **dict.fromkeys(("mask_prob", "relabel_at"), (None, 0, 1)),
    "mask_span": (None, 1, 1_000),
    "clusters": (None, 2, 100_000),
    **dict.fromkeys(("relabel_layer", "contrast_layer"), (None, 0, 100)),
    "contrast_weight": (None, 0, 1e6),
    "snr_db": (None, -100, 100),
    "equaliser_db": (None, 0, 100),
    "dev_speakers": (None, 0, config.MANY),
    "seed": (None, 0, 2**63 - 1),
}


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """Recipe of one teacher; all values are our choice unless a source is named."""

    name: str = "classroom-hubert"
    family: Literal["hubert", "wav2vec2"] = "hubert"
    width: int = 128  # D
    layers: int = 12
    heads: int = 4
    cnn: int = 64  # channels of the convolutional front-end
    steps: int = 1000
    utterances: int = 20  # per step; two crops each, so the batch is twice that
    crop_s: float = 1.6
    lr: float = 1.0e-3
    warmup: float = 0.05
    init_std: float = 0.02  # of linear layers, as in transformers
    mask_prob: float = 0.5  # share of masked frames at most; wav2vec 2.0 has 0.65
    mask_span: int = 10  # frames (HuBERT and wav2vec 2.0)
    clusters: int = 100  # HuBERT, first iteration
    relabel_at: float = 0.35  # share of steps after which labels are clusters of own features
    relabel_layer: int = 6  # HuBERT base, second iteration
    contrast_weight: float = 1.0  # 0: the plain recipe of the paper's teachers
    contrast_layer: int = 6
    temperature: float = 0.07
    snr_db: tuple[float, float] = (5.0, 30.0)
    equaliser_db: float = 8.0
    precision: Literal["float32", "bf16"] = "float32"  # bf16: autocast, for processors with it
    dev_speakers: int = 15  # of speechbox train, not trained on; they judge the layers
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (above, least, most) in LIMITS.items():
            value = getattr(self, name)
            for each in value if isinstance(value, tuple) else (value,):
                if not (above < each <= most if least is None else least <= each <= most):
                    low = f"more than {above}" if least is None else f"at least {least}"
                    raise ValueError(f"{name} is {value}; it must be {low} and at most {most}")
        if not max(self.relabel_layer, self.contrast_layer) <= self.layers:
            raise ValueError(
                f"relabel_layer and contrast_layer must be at most layers ({self.layers})"
            )


def load_recipe(name: str) -> PretrainConfig:
    """A recipe by name or YAML file.

    >>> load_recipe("classroom-hubert").family
    'hubert'
    """
    path = config.PRESETS / f"pretrain-{name}.yaml" if name in CONFIGS else Path(name)
    if not path.is_file():
        raise ValueError(f"no recipe {name!r}; choose {', '.join(CONFIGS)} or a YAML file")
    return schema.read_yaml(PretrainConfig, path)


class HubertPretrainer(nn.Module):
    """HuBERT: predict the cluster of each masked frame.

    Source: Hsu et al. 2021; logits are a linear map of the last hidden state.
    """

    def __init__(self, recipe: PretrainConfig) -> None:
        super().__init__()
        self.recipe = recipe
        self.encoder = HubertModel(HubertConfig(**_sizes(recipe)))
        self.head = nn.Linear(recipe.width, recipe.clusters)
        self.labels: list[np.ndarray] = []

    def forward(
        self, wave: Tensor, rows: np.ndarray, starts: np.ndarray
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor, dict]:
        """Loss, hidden states, mask [2U, T], figures to log."""
        frames = frame_count(self.encoder.config, wave.shape[1])
        mask = torch.from_numpy(
            _compute_mask_indices((len(wave), frames), self.recipe.mask_prob, self.recipe.mask_span)
        )
        out = self.encoder(wave, mask_time_indices=mask, output_hidden_states=True)
        labels = np.stack(
            [_span(self.labels[r], s, frames) for r, s in zip(rows, starts, strict=True)]
        )
        target = torch.from_numpy(labels).long()[mask]
        logits = self.head(out.last_hidden_state[mask])
        accuracy = (logits.argmax(-1) == target).float().mean().item()
        loss = F.cross_entropy(logits.float(), target)
        return loss, out.hidden_states, mask, {"accuracy": accuracy}

    def prepare(self, waves: list[np.ndarray], own_features: bool) -> None:
        """(Re-)make the frame labels: k-means on MFCC with deltas, or on a layer of the model itself."""
        extract = self._own_features if own_features else mfcc
        features = [extract(wave) for wave in progress(waves, "features for clustering")]
        rng = np.random.default_rng(self.recipe.seed)
        sample = np.concatenate([f[rng.random(len(f)) < 0.3] for f in features])
        kmeans = MiniBatchKMeans(
            self.recipe.clusters, random_state=self.recipe.seed, batch_size=10_000, n_init=3
        )
        kmeans.fit(sample)
        self.labels = [kmeans.predict(f).astype(np.int16) for f in features]
        if own_features:
            torch.manual_seed(self.recipe.seed)  # whether or not the run was cut just here
            self.head.reset_parameters()

    @torch.no_grad()
    def _own_features(self, wave: np.ndarray) -> np.ndarray:
        """Output [T, D] of layer ``relabel_layer`` for one 16-bit utterance."""
        training = self.encoder.training
        self.encoder.eval()
        rows = torch.from_numpy(wave.astype(np.float32) / 32768)[None]
        states = hidden_states(self.encoder, rows, keep=(self.recipe.relabel_layer,))
        self.encoder.train(training)
        return states[0, 0].numpy()


class Wav2Vec2Pretrainer(nn.Module):
    """wav2vec 2.0 with stable layer norm: tell the quantised latent of a masked frame from others.

    Source: Baevski et al. 2020, transformers' Wav2Vec2ForPreTraining; loss per masked frame.
    """

    def __init__(self, recipe: PretrainConfig) -> None:
        super().__init__()
        self.recipe = recipe
        settings = _sizes(recipe) | {
            "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True,
            "codevector_dim": 64, "proj_codevector_dim": 64, "num_codevectors_per_group": 160,
            "num_negatives": 20, "diversity_loss_weight": 0.1,
        }  # fmt: skip
        self.model = Wav2Vec2ForPreTraining(Wav2Vec2Config(**settings))

    @property
    def encoder(self) -> nn.Module:
        """The part that becomes the teacher."""
        return self.model.wav2vec2

    def forward(
        self, wave: Tensor, rows: np.ndarray, starts: np.ndarray
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor, dict]:
        """Loss, hidden states, mask [2U, T], figures to log."""
        shape = (len(wave), frame_count(self.model.config, wave.shape[1]))
        mask = _compute_mask_indices(
            shape, self.recipe.mask_prob, self.recipe.mask_span, min_masks=2
        )
        negatives = _sample_negative_indices(shape, self.model.config.num_negatives, mask)
        out = self.model(
            wave, mask_time_indices=torch.from_numpy(mask),
            sampled_negative_indices=torch.from_numpy(negatives), output_hidden_states=True,
        )  # fmt: skip
        figures = {
            "contrastive": out.contrastive_loss.item() / mask.sum(),
            "diversity": out.diversity_loss.item(),
        }
        return out.loss / mask.sum(), out.hidden_states, torch.from_numpy(mask), figures

    def prepare(self, waves: list[np.ndarray], own_features: bool) -> None:
        """Targets are learnt beside the model; nothing to do."""

    def cool(self, share: float) -> None:
        """Gumbel temperature 2 -> 0.5 over training (wav2vec 2.0)."""
        self.model.set_gumbel_temperature(max(2.0 * 0.25**share, 0.5))


def _sizes(recipe: PretrainConfig) -> dict:
    """What both families share; no dropout, because a small model on few steps underfits."""
    none = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop",
            "feat_quantizer_dropout", "final_dropout")  # fmt: skip
    return dict.fromkeys(none, 0.0) | {
        "hidden_size": recipe.width, "num_hidden_layers": recipe.layers, "num_attention_heads": recipe.heads,
        "intermediate_size": 4 * recipe.width, "conv_dim": (recipe.cnn,) * 7,
        "initializer_range": recipe.init_std,
    }  # fmt: skip


def _span(labels: np.ndarray, start: int, frames: int) -> np.ndarray:
    """Labels of a crop; a repeated short clip repeats its labels."""
    return labels[(start + np.arange(frames)) % len(labels)]


def mfcc(wave: np.ndarray, normalised: bool = True) -> np.ndarray:
    """MFCC with first and second differences of one 16-bit utterance, [T, 39].

    Args:
        normalised: to zero mean and unit deviation over time, which takes away much of the voice.
    """
    static = torch.from_numpy(cepstra(wave.astype(np.float32) / 32768))  # [13, T]
    first = torch.gradient(static, dim=1)[0]
    features = torch.cat([static, first, torch.gradient(first, dim=1)[0]])
    if normalised:
        features = features - features.mean(1, keepdim=True)
        features = features / (features.std(1, keepdim=True) + 1e-3)
    return features.T.numpy()


def utterance_contrast(hidden: Tensor, heard: Tensor, temperature: float) -> Tensor:
    """Utterance-wise contrastive loss on mean and deviation over the frames that were heard.

        -log softmax_j(cos(z_i, z_j) / temperature) at the other crop of the same utterance

    z is standardised over the batch, as the layers are when they are judged (`zero_shot_eer`):
    what all crops share says nothing about who speaks.

    Args:
        hidden: [2U, T, D]; rows u and U + u are crops of one utterance.
        heard: [2U, T], False on masked frames, which hold the model's guess and not the voice.
    Source: UniSpeech-SAT (Chen et al. 2022), here between crops of different noise.

    >>> hidden = torch.tensor([[[1.0], [3]], [[5], [5]], [[1], [3]], [[5], [5]]])
    >>> round(utterance_contrast(hidden, torch.ones(4, 2, dtype=torch.bool), 1.0).item(), 2)
    0.24
    """
    weight = heard.unsqueeze(-1) / heard.sum(1).clamp(min=1)[:, None, None]  # [2U, T, 1]
    mean = (hidden * weight).sum(1)
    deviation = ((hidden - mean[:, None]) ** 2 * weight).sum(1).add(1e-6).sqrt()
    pooled = torch.cat([mean, deviation], 1)  # [2U, 2D]
    pooled = (pooled - pooled.mean(0)) / (pooled.std(0) + 1e-4)
    pooled = F.normalize(pooled, dim=1)
    similarity = pooled @ pooled.T / temperature
    similarity.fill_diagonal_(float("-inf"))
    partner = torch.arange(len(pooled)).roll(len(pooled) // 2)
    return F.cross_entropy(similarity, partner)
