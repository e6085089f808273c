"""Every setting of a run, in one place: frozen dataclasses, five presets, overrides by dotted name.

Defaults are release P of the paper (XLSR-53, ECAPA-TDNN, VoxCeleb2). A preset holds only what
differs. The places where the released code does something a reader would not expect are `Switches`.
"""

import dataclasses
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from oskdft.utils.schema import _nearest, build, read_yaml

PRESETS = Path(__file__).parent / "presets"
PROFILES = ("smoke", "classroom", "desk", "vox1", "vox2")
Mode = Literal["published", "corrected"]


@dataclass(frozen=True, slots=True)
class Switches:
    """Where the released code and the text part. An empty value follows `Config.mode`.

    Numbers are those of notebook 09. Surprises 12, 14 and 15 are plain faults of the released code
    (mixed checkpoints, crashes, labels in directory order) and are always repaired.
    """

    eval_path: Literal["", "half_batch", "all"] = ""  # 1: which rows of a test batch get adapters
    adapter_residual: Literal["", "doubled", "single"] = ""  # 2: does the adapter add its input
    adapter_init: Literal["", "normal", "zero"] = ""  # 3: up-projection N(0, 0.02) or 0
    student_init: Literal["", "random", "copied"] = ""  # 4: positions, encoder norm, mask vector
    backend_mask: Literal["", "discarded", "applied"] = (
        ""  # 5: SpecAugment before the ECAPA back-end
    )
    optimiser: Literal["", "rebuilt", "kept"] = ""  # 6: Adam's moments at the end of an epoch
    crop_start: Literal["", "whole_second", "any_sample"] = ""  # 7: where training crops start
    cosine_term: Literal["", "summed", "averaged"] = ""  # 8: over frames, in the DistilHuBERT loss
    layer_weights: Literal["", "raw", "softmax"] = ""  # 9: weighted sum over hidden states
    kd_data: Literal["", "target", "as_chosen"] = ""  # 10: corpus that distillation reads
    checkpoint: Literal["", "oracle", "dev"] = ""  # 11: trials that choose the best epoch
    student_noise: Literal["", "same_on_all_ranks", "per_rank"] = ""  # 13: LayerDrop, SpecAugment


BUNDLES: dict[str, Switches] = {
    "published": Switches(
        "half_batch", "doubled", "normal", "random", "discarded", "rebuilt", "whole_second", "summed",
        "raw", "target", "oracle", "same_on_all_ranks",
    ),
    "corrected": Switches(
        "all", "single", "zero", "copied", "applied", "kept", "any_sample", "averaged",
        "softmax", "as_chosen", "dev", "per_rank",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DataConfig:
    """What is heard: corpora, crops, the development speakers."""

    corpus: str = "voxceleb2"  # name known to `oskdft data list`, or "folder"
    root: str = ""  # empty: $OSKDFT_DATA/<corpus>, then ./data/<corpus>
    crop_s: float = 2.0  # training crop [s]
    dev_speakers: int = 60  # training speakers set aside to choose checkpoints (our choice)
    labelled_speakers: int = 0  # use the labels of so many training speakers only; 0: all
    speakers: int = 60  # synthetic voices to make when the corpus is not there yet
    utterances: int = 20  # of each
    trials: str = ""  # test list; empty: the corpus' own
    trials_root: str = ""  # folder of its recordings; empty: the corpus root
    kd_corpus: str = ""  # second corpus for distillation (OS-KDFT2: LibriSpeech); empty: none
    kd_root: str = ""  # its folder
    workers: int = 2  # processes that read and augment


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """What is done to the student's crop. Defaults: release P. The teacher hears the clean crop."""

    probability: float = 0.6  # that a crop is augmented at all
    # folder with noise/, speech/, music/, or "musan" for where that lies; empty: no additive noise
    noise_root: str = ""
    rir_root: str = ""  # folder of room impulse responses, or "rirs_noises"; empty: no rooms
    noise_snr_db: tuple[float, float] = (0.0, 15.0)
    speech_snr_db: tuple[float, float] = (13.0, 20.0)
    music_snr_db: tuple[float, float] = (5.0, 25.0)
    white_snr_db: tuple[float, float] = (0.0, 0.0)  # white noise, needs no corpus; equal ends: off
    clipping: float = 0.3  # probability inside an augmented crop
    easing: float = 0.3  # probability inside an augmented crop
    easing_curve: Literal["published", "bounded"] = "published"
    speed: tuple[float, ...] = ()  # one per crop, each a speaker of its own; empty: off


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Teacher, student, adapters, back-end."""

    teacher: str = "facebook/wav2vec2-large-xlsr-53"  # hub name, folder, or a name in assets/
    student_layers: int = 4
    adapter_units: int = 64  # bottleneck width; 0: no adapters
    adapter_layers: tuple[int, ...] = ()  # student layers with one, from 1 on; empty: all
    adapter_activation: Literal["relu", "elu"] = "relu"
    adapter_norm: bool = True  # LayerNorm before the down-projection
    adapter_scale: float = 0.1
    adapter_noise: tuple[float, float] = (0.0, 0.0)  # range of u in N(0, u mean|h|), training only
    backend: Literal["ecapa", "linear", "tft"] = "ecapa"
    backend_channels: int = 512  # ECAPA's C
    embedding: int = 192  # E


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Distillation (KD) and speaker verification (SV) losses."""

    kd: Literal["mse", "distilhubert", "fithubert"] = "mse"
    kd_weight: float = 100.0
    kd_schedule: Literal["linear", "constant"] = "linear"  # linear: x (1 - epoch / epochs)
    kd_layers: tuple[int, ...] = (4, 8, 12)  # teacher layers for distilhubert and fithubert
    kd_targets: Literal["raw", "standardised"] = "raw"  # per dimension over the batch (our choice)
    kd_cosine: float = 1.0  # weight of the cosine term (DistilHuBERT's lambda)
    kd_hint: float = 0.1  # weight of the lower layers (FitHuBERT)
    sv: Literal["aam", "cross_entropy"] = "aam"
    margin: float = 0.2  # [rad]
    scale: float = 30.0
    aam_fallback: bool = True  # linear continuation past pi - margin (release P)
    aam_topk: int = 0  # penalise the k hardest other classes (release R); 0: off
    aam_topk_margin: float = 0.06  # [rad]
    class_weights: bool = True  # total / count per speaker


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Budget and optimiser."""

    epochs: int = 100
    steps_per_epoch: int = 0  # 0: one pass over the data
    batch: int = 128  # utterances per step, over all processes together
    lr: float = 1.0e-4  # of back-end and loss (SV group)
    lr_min: float = 1.0e-6
    schedule: Literal["paper", "constant", "warmup_cosine"] = "paper"
    warmup: float = 0.05  # share of all steps, schedule warmup_cosine only
    lr_body_factor: float = 1.0  # student body relative to lr; "paper" has its own ramp
    lr_adapter_factor: float = 10.0
    body_ramp: int = 10  # epochs of the body's ramp, schedule "paper"
    body_decay: float = 0.93  # per epoch after the ramp, schedule "paper"
    weight_decay: float = 0.0
    max_grad_norm: float = 0.0  # 0: no clipping
    freeze_cnn: bool = False  # train the CNN front-end or leave it the teacher's
    precision: Literal["float32", "bf16"] = "float32"
    validate_every: int = 1  # epochs
    patience: int = 0  # validations without improvement before stopping; 0: never


@dataclass(frozen=True, slots=True)
class EvalConfig:
    """Scoring recipe: cosine of full utterances, mean cosine of crops, or both."""

    tta: Literal["both", "full", "crops"] = "both"
    crops: int = 5
    crop_s: float = 3.0
    snorm_top: int = 300  # cohort size of AS-norm
    batch_s: float = 240.0  # seconds of audio embedded at once


@dataclass(frozen=True, slots=True)
class Config:
    """A whole run. Make one with `load`, change it with `override`.

    >>> cfg = load("smoke").override({"train.lr": "1e-3", "mode": "published"})
    >>> cfg.train.lr, cfg.switches.adapter_init
    (0.001, 'normal')
    """

    name: str = "vox2"
    mode: Mode = "corrected"  # how the released code's surprises are treated, see Switches
    strategy: str = "os-kdft"
    seed: int = 0
    device: str = "auto"
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    switches: Switches = field(default_factory=Switches)

    def __post_init__(self) -> None:
        if self.mode not in BUNDLES:
            raise ValueError(f"mode is {self.mode!r}; choose published or corrected")
        bundle = BUNDLES[self.mode]
        chosen = {
            f.name: getattr(self.switches, f.name) or getattr(bundle, f.name)
            for f in fields(Switches)
        }
        object.__setattr__(self, "switches", Switches(**chosen))
        _check(self)

    def override(self, changes: dict[str, Any]) -> "Config":
        """Return a copy with dotted names changed; a new mode takes along what followed the old one.

        Args:
            changes: e.g. {"loss.kd_weight": 0.0, "data.corpus": "synthetic"}.
        Raises:
            ValueError: a name that does not exist (with the nearest ones), a value of another type,
                or a combination that cannot work.

        >>> load("smoke").override({"loss.kd_wieght": 0})
        Traceback (most recent call last):
        ValueError: unknown setting loss.kd_wieght; did you mean kd_weight, kd_hint, kd_cosine?
        """
        tree = to_dict(self)
        for name, value in changes.items():
            *parents, leaf = name.split(".")
            node = tree
            for parent in parents:
                node = node.get(parent) if isinstance(node, dict) else None
                if not isinstance(node, dict):
                    raise ValueError(f"unknown setting {name}; {_nearest(parent, tree)}")
            if leaf not in node:
                raise ValueError(f"unknown setting {name}; {_nearest(leaf, node)}")
            node[leaf] = value
        if tree["mode"] != self.mode:
            old = dataclasses.asdict(BUNDLES[self.mode])
            given = {n.removeprefix("switches.") for n in changes}
            for name, value in tree["switches"].items():
                if value == old[name] and name not in given:
                    tree["switches"][name] = ""
        return from_dict(tree)


def load(profile: str = "classroom") -> Config:
    """Read a preset by name, or any YAML file of the same form.

    >>> load("vox1").train.batch
    50
    """
    path = PRESETS / f"{profile}.yaml" if profile in PROFILES else Path(profile)
    if not path.is_file():
        raise ValueError(f"no profile {profile!r}; choose {', '.join(PROFILES)} or a YAML file")
    return read_yaml(Config, path)


def from_dict(tree: dict[str, Any]) -> Config:
    """Build a `Config` from nested plain values; what is absent keeps its default."""
    return build(Config, tree)


def to_dict(config: Config) -> dict[str, Any]:
    """Nested plain values (lists for tuples) that `from_dict` and YAML take back unchanged."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return plain(dataclasses.asdict(config))


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML text, as saved in each run folder."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def _check(cfg: Config) -> None:
    """Combinations that cannot work, each with what to change."""
    d, a, m, los, t, e = cfg.data, cfg.augment, cfg.model, cfg.loss, cfg.train, cfg.eval
    positive = {
        "data.crop_s": d.crop_s, "model.student_layers": m.student_layers, "model.embedding": m.embedding,
        "model.backend_channels": m.backend_channels, "train.epochs": t.epochs, "train.batch": t.batch,
        "train.lr": t.lr, "train.validate_every": t.validate_every, "eval.crops": e.crops,
        "eval.crop_s": e.crop_s, "eval.batch_s": e.batch_s, "loss.scale": los.scale,
        "eval.snorm_top": e.snorm_top, "train.body_ramp": t.body_ramp,
    }  # fmt: skip
    not_negative = {
        "loss.kd_weight": los.kd_weight, "train.weight_decay": t.weight_decay, "seed": cfg.seed,
        "model.adapter_units": m.adapter_units, "train.steps_per_epoch": t.steps_per_epoch,
        "data.dev_speakers": d.dev_speakers, "data.workers": d.workers, "loss.aam_topk": los.aam_topk,
        "train.patience": t.patience, "train.max_grad_norm": t.max_grad_norm, "train.lr_min": t.lr_min,
        "data.labelled_speakers": d.labelled_speakers,
    }  # fmt: skip
    for name, value in positive.items():
        if value <= 0:
            raise ValueError(f"{name} is {value}; it must be more than 0")
    for name, value in not_negative.items():
        if value < 0:
            raise ValueError(f"{name} is {value}; it must not be less than 0")
    for name in ("probability", "clipping", "easing"):
        if not 0 <= getattr(a, name) <= 1:
            raise ValueError(f"augment.{name} is {getattr(a, name)}; it is a probability, 0 to 1")
    rules = (
        (all(0.5 <= s <= 2 for s in a.speed), f"augment.speed is {a.speed}; give each 0.5 to 2"),
        (t.batch >= 2, f"train.batch is {t.batch}; batch normalisation needs at least 2"),
        (0 <= los.margin < 1.5, f"loss.margin is {los.margin}; it is an angle in [0, 1.5) rad"),
        (t.lr_min <= t.lr, f"train.lr_min is {t.lr_min}; it must not exceed train.lr ({t.lr})"),
        (0 <= t.warmup < 1, f"train.warmup is {t.warmup}; it is a share of all steps, [0, 1)"),
        (not los.aam_topk or los.sv == "aam", "loss.aam_topk needs loss.sv=aam; set one of them"),
        (
            m.backend_channels % 8 == 0,
            f"model.backend_channels is {m.backend_channels}; ECAPA splits it by 8",
        ),
        (
            all(1 <= layer <= m.student_layers for layer in m.adapter_layers),
            f"model.adapter_layers is {list(m.adapter_layers)}; the student has layers 1 to {m.student_layers}",
        ),
        (
            los.kd == "mse" or (los.kd_layers and min(los.kd_layers) >= 1),
            f"loss.kd_layers is {list(los.kd_layers)}; teacher layers count from 1",
        ),
        (
            los.kd != "fithubert" or len(los.kd_layers) == m.student_layers,
            f"loss.kd=fithubert pairs layers: loss.kd_layers {list(los.kd_layers)} must have as many "
            f"entries as model.student_layers ({m.student_layers})",
        ),
    )
    for holds, message in rules:
        if not holds:
            raise ValueError(message)


SAMPLE_RATE = 16_000  # Hz, what every encoder here was trained on


PLACES = (  # settings of a machine, not of a recipe
    "device", "data.root", "data.trials", "data.trials_root", "data.kd_root", "data.workers",
)  # fmt: skip


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name.

    >>> flat({"seed": 0, "data": {"corpus": "synthetic"}})
    {'seed': 0, 'data.corpus': 'synthetic'}
    """
    out = {}
    for key, value in tree.items():
        nested = isinstance(value, dict)
        out |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return out


def changes(cfg: Config) -> dict[str, Any]:
    """What a recipe changes in its profile, by dotted name; a profile of one's own is not known.

    >>> changes(load("smoke").override({"train.lr": 1e-3, "mode": "published", "data.root": "here"}))
    {'mode': 'published', 'train.lr': 0.001}
    """
    if cfg.name not in PROFILES:
        return {}
    base = load(cfg.name)
    followed = flat(to_dict(base.override({"mode": cfg.mode}))) | {"mode": base.mode}
    settings = flat(to_dict(cfg)).items()
    return {k: v for k, v in settings if v != followed[k] and k not in PLACES}


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Settings that two configurations do not share.

    >>> differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}})
    ['b.c is 2 there, 3 now']
    """
    found = []
    for key in old.keys() | new.keys():
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} is {a} there, {b} now")
    return sorted(found)
