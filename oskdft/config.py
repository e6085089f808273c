"""Every setting of a run: meaning, unit, source and interval beside the field; presets and overrides.

The defaults are release P of the paper (XLSR-53, ECAPA-TDNN, VoxCeleb2). A preset holds only what
differs from them. `oskdft config PROFILE` prints all settings.
"""

import dataclasses
import json
import operator
import typing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml

from oskdft.utils import named_code
from oskdft.utils.named_code import NamedCode
from oskdft.utils.schema import build, choices, nearest, read_yaml, require_name

PRESETS = Path(__file__).parent / "presets"
PROFILES = ("smoke", "classroom", "desk", "vox1", "vox2")
SAMPLE_RATE = 16_000  # Hz, the rate that every encoder here was trained on
HOP = 320  # samples between frames of these encoders: 20 ms
READ_KD_LAYERS = ("distilhubert", "fithubert")  # KD losses whose teacher layers are a setting
Mode = Literal["published", "corrected"]

P, R, S = "release P", "release R", "release S"  # of the authors' code, see docs/METHOD.md
OURS = "our choice"
MANY = 10_000_000  # speakers or utterances: more than any corpus has
COUNT, SHARE, DECIBELS = f"[0, {MANY}]", "[0, 1]", "[-100, 100]"  # intervals of several settings


def setting(default: Any, meaning: str, within: str = "", unit: str = "", source: str = P) -> Any:
    """A dataclass field that carries its description and its interval.

    Args:
        default: value where a configuration does not name the setting.
        meaning: a noun phrase; an empty or zero value is explained after a semicolon.
        within: interval of the value, or of each value of a tuple: "[0, 1)" holds 0 and not 1; empty: free.
        unit: of the value; empty: none.
        source: of the default value, or of the alternative where the default turns it off.
    """
    described = {"meaning": meaning, "unit": unit, "source": source, "within": within}
    return field(default=default, metadata=described)


def switch(number: int, release: str, meaning: str) -> Any:
    """The field of surprise ``number`` (METHOD section 4): "", its value as published, as corrected."""
    return setting("", meaning, source=f"surprise {number}, {release}")


@dataclass(frozen=True, slots=True)
class Switches:
    """Where the released code and the text of the paper differ; `mode` sets those not named.

    The numbers are those of notebooks 09, 09b. Surprises 12, 14 and 15 are faults of the released code
    (mixed checkpoints, crashes, labels in directory order) and are always repaired.
    """

    eval_path: Literal["", "half_batch", "all"] = switch(
        1, P, "rows of a test batch that pass through the adapters"
    )
    adapter_residual: Literal["", "doubled", "single"] = switch(
        2, P, "how often the verification path adds the adapter's input"
    )
    adapter_init: Literal["", "normal", "zero"] = switch(
        3, P, "start of the adapter's up-projection: N(0, 0.02) or 0"
    )
    student_init: Literal["", "random", "copied"] = switch(
        4, "P and R", "start of positions, encoder norm and mask vector"
    )
    backend_mask: Literal["", "discarded", "applied"] = switch(
        5, P, "result of SpecAugment before the ECAPA back-end"
    )
    optimiser: Literal["", "rebuilt", "kept"] = switch(
        6, P, "Adam's moments at the end of an epoch"
    )
    crop_start: Literal["", "whole_second", "any_sample"] = switch(7, P, "start of a training crop")
    cosine_term: Literal["", "summed", "averaged"] = switch(
        8, R, "cosine term of the DistilHuBERT loss, over frames"
    )
    layer_weights: Literal["", "raw", "softmax"] = switch(
        9, R, "weights of the sum over hidden states"
    )
    kd_data: Literal["", "target", "as_chosen"] = switch(
        10, R, "corpus that distillation reads when data.kd_corpus is set"
    )
    checkpoint: Literal["", "oracle", "dev"] = switch(
        11, "P and R", "trials that choose the best epoch"
    )
    student_noise: Literal["", "same_on_all_ranks", "per_rank"] = switch(
        13, "P and R", "random numbers of LayerDrop and SpecAugment"
    )


BUNDLES: dict[str, Switches] = {
    mode: Switches(**{f.name: typing.get_args(f.type)[place] for f in fields(Switches)})
    for place, mode in enumerate(typing.get_args(Mode), 1)
}


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Corpora, crops and development speakers."""

    # Settings of earlier versions; a stored configuration may hold them, they have no effect.
    RETIRED: ClassVar[tuple[str, ...]] = ("speakers", "utterances")

    corpus: str = setting("voxceleb2", 'corpus of `oskdft data list`, "folder" or "kaldi"')
    root: str = setting("", "its folder; empty: $OSKDFT_DATA/CORPUS, then data/CORPUS", source=OURS)
    crop_s: float = setting(2.0, "length of a training crop", "(0, 600]", "s")
    channel: int = setting(
        0, "channel that is read, from 1 on; 0: recordings must be mono", "[0, 1000]", source=OURS
    )
    dev_speakers: int = setting(
        60, "training speakers set aside to choose checkpoint and threshold", COUNT, source=OURS
    )
    labelled_speakers: int = setting(
        0, "training speakers whose labels are used; 0: all", COUNT, source=OURS
    )
    slice_speakers: int = setting(
        0, "a slice of the corpus: the first speakers of each split; 0: all", COUNT, source=OURS
    )
    slice_utterances: int = setting(
        0, "a slice of the corpus: the first utterances of each; 0: all", COUNT, source=OURS
    )
    trials: str = setting("", "test list; empty: the list of the corpus", source=OURS)
    trials_root: str = setting("", "folder of its recordings; empty: data.root", source=OURS)
    kd_corpus: str = setting("", "second corpus, for distillation only; empty: none", source=S)
    kd_root: str = setting("", "folder of data.kd_corpus; empty: as data.root", source=OURS)
    workers: int = setting(2, "processes that read and augment", "[0, 256]", source=OURS)


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Augmentation of the student's crop; the teacher receives the clean crop."""

    probability: float = setting(0.6, "probability that a crop is augmented", SHARE)
    noise_root: str = setting(
        "", 'folder with noise/, speech/ and music/, or "musan"; empty: no additive noise'
    )
    rir_root: str = setting(
        "", 'folder of room impulse responses, or "rirs_noises"; empty: no rooms'
    )
    noise_snr_db: tuple[float, float] = setting(
        (0.0, 15.0), "speech over noise, range", DECIBELS, "dB"
    )
    speech_snr_db: tuple[float, float] = setting(
        (13.0, 20.0), "speech over babble, range", DECIBELS, "dB"
    )
    music_snr_db: tuple[float, float] = setting(
        (5.0, 25.0), "speech over music, range", DECIBELS, "dB"
    )
    white_snr_db: tuple[float, float] = setting(
        (0.0, 0.0), "speech over white noise, range; equal ends: none", DECIBELS, "dB", source=OURS
    )
    clipping: float = setting(0.3, "probability that an augmented crop is clipped", SHARE)
    easing: float = setting(0.3, "probability that an augmented crop is faded", SHARE)
    easing_curve: Literal["published", "bounded"] = setting("published", "gain of the fade")
    speed: tuple[float, ...] = setting(
        (), "factors, one per crop, each a further speaker; empty: off", "[0.5, 2]", source=OURS
    )


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Teacher, student, adapters and back-end."""

    teacher: str = setting(
        "facebook/wav2vec2-large-xlsr-53", "name on the hub, folder, or name in oskdft/assets"
    )
    init: str = setting(
        "", "trained student to start from; empty: the teacher's first layers", source=OURS
    )
    student_layers: int = setting(4, "layers that the student takes over", "(0, 100]")
    init_layers: tuple[int, ...] = setting(
        (), "teacher layers that they start from; empty: the first ones", "[1, 200]", source=R
    )
    adapter_units: int = setting(
        64, "width of the adapter's bottleneck; 0: no adapters", "[0, 16384]"
    )
    adapter_layers: tuple[int, ...] = setting(
        (), "student layers with an adapter; empty: all", "[0, 100]"
    )
    adapter_activation: Literal["relu", "elu"] = setting(
        "relu", "activation of the bottleneck; elu: WavLM in release R"
    )
    adapter_norm: bool = setting(True, "LayerNorm before the down-projection")
    adapter_scale: float = setting(0.1, "factor on the adapter's output", "[0, 1000]")
    adapter_noise: tuple[float, float] = setting(
        (0.0, 0.0),
        "range of u in the training noise N(0, u mean|h|) on the bottleneck",
        "[0, 100]",
        source=R,
    )
    backend: Literal["ecapa", "linear", "tft"] | NamedCode = setting(
        "ecapa", "speaker back-end; linear: release R, tft: release S, or package.module:Class"
    )
    backend_channels: int = setting(512, "channels C of ECAPA-TDNN, a multiple of 8", "(0, 16384]")
    embedding: int = setting(192, "size E of the speaker embedding", "(0, 16384]")


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Losses of distillation (KD) and speaker verification (SV)."""

    kd: Literal["mse", "distilhubert", "fithubert"] | NamedCode = setting(
        "mse",
        "KD loss; distilhubert: release R, fithubert: Lee et al. 2022, or package.module:Class",
    )
    kd_weight: float = setting(100.0, "weight of the KD loss", "[0, 1e36]")
    kd_schedule: Literal["linear", "constant"] = setting(
        "linear", "course of the weight; linear: times (1 - epoch / epochs)"
    )
    kd_layers: tuple[int, ...] = setting(
        (4, 8, 12), "teacher layers of distilhubert and fithubert, from 1", "[0, 100]", source=R
    )
    kd_targets: Literal["raw", "standardised"] = setting(
        "raw", "teacher states; standardised: per dimension over the batch (our choice)"
    )
    kd_cosine: float = setting(
        1.0, "weight lambda of the cosine term of distilhubert", "[0, 1e6]", source=R
    )
    kd_hint: float = setting(
        0.1,
        "weight of the lower layers of fithubert",
        "[0, 1e6]",
        source="FitHuBERT, Lee et al. 2022",
    )
    sv: Literal["aam", "cross_entropy"] | NamedCode = setting(
        "aam", "SV loss; cross_entropy: release R, or package.module:Class"
    )
    margin: float = setting(0.2, "margin of AAM-softmax", "[0, 1.5)", "rad")
    scale: float = setting(30.0, "scale of AAM-softmax", "(0, 10000]")
    aam_fallback: bool = setting(True, "linear continuation past pi - margin")
    aam_topk: int = setting(0, "hardest other classes to penalise; 0: none", COUNT, source=R)
    aam_topk_margin: float = setting(0.06, "margin of those classes", "[0, 1.5)", "rad", source=R)
    class_weights: bool = setting(True, "weights total / count per speaker")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Budget and optimiser."""

    epochs: int = setting(100, "epochs", "(0, 100000]")
    steps_per_epoch: int = setting(
        0, "updates per epoch; 0: one pass over the data", "[0, 100000000]", source=OURS
    )
    batch: int = setting(
        128, "crops per update, over all processes; batch normalisation needs two", "[2, 65536]"
    )
    accumulate: int = setting(
        1,
        "parts of a batch, computed one after the other; each has its own batch statistics",
        "(0, 65536]",
        source=OURS,
    )
    checkpointing: bool = setting(
        False, "compute encoder layers again in the backward pass, to save memory", source=OURS
    )
    compile: bool = setting(False, "compile the training step with torch.compile", source=OURS)
    lr: float = setting(1.0e-4, "learning rate of back-end and SV loss", "(0, 1000]")
    lr_min: float = setting(1.0e-6, "lowest learning rate, at most train.lr", "[0, 1000]")
    schedule: Literal["paper", "constant", "warmup_cosine"] = setting(
        "paper", "course of the learning rates; constant: release R, warmup_cosine: our choice"
    )
    warmup: float = setting(
        0.05, "share of all updates, schedule warmup_cosine", "[0, 1)", source=OURS
    )
    lr_body_factor: float = setting(
        1.0,
        'learning rate of the student body over train.lr; "paper" has a ramp of its own',
        "[0, 1e6]",
    )
    lr_adapter_factor: float = setting(
        10.0, "learning rate of the adapters over train.lr", "[0, 1e6]"
    )
    body_ramp: int = setting(
        10, "length of the body's ramp, schedule paper", "(0, 100000]", "epochs"
    )
    body_decay: float = setting(0.93, "factor per epoch after the ramp, schedule paper", SHARE)
    weight_decay: float = setting(0.0, "weight decay", "[0, 1000]")
    max_grad_norm: float = setting(
        0.0, "norm at which gradients are clipped; 0: never", "[0, 1e9]", source=OURS
    )
    freeze_cnn: bool = setting(False, "keep the CNN front-end as the teacher's", source=OURS)
    precision: Literal["float32", "bf16"] = setting("float32", "arithmetic; bf16: autocast")
    validate_every: int = setting(1, "distance of validations", "(0, 100000]", "epochs")
    patience: int = setting(
        0,
        "validations without improvement before the run stops; 0: never",
        "[0, 100000]",
        source=OURS,
    )
    average: int = setting(
        0,
        "last epochs whose weights are averaged into average/; 0: none",
        "[0, 100000]",
        source=OURS,
    )
    tracker: Literal["auto", "tensorboard", "wandb", "mlflow", "none"] = setting(
        "auto", "where the log goes too; auto: tensorboard if it is installed", source=OURS
    )


@dataclass(frozen=True, slots=True)
class EvalConfig:
    """Scoring recipe."""

    tta: Literal["both", "full", "crops"] = setting(
        "both", "cosine of full utterances, mean cosine of crops, or the mean of both"
    )
    crops: int = setting(5, "crops per utterance, evenly spaced", "(0, 1000]")
    crop_s: float = setting(3.0, "length of a crop", "(0, 600]", "s")
    snorm_top: int = setting(300, "nearest cohort speakers of AS-norm", f"(0, {MANY}]", source=OURS)
    batch_s: float = setting(240.0, "audio embedded at once", "(0, 100000]", "s", source=OURS)


@dataclass(frozen=True, slots=True)
class Config:
    """A whole run. `load` reads one, `override` changes it.

    >>> cfg = load("smoke").override({"train.lr": "1e-3", "mode": "published"})
    >>> cfg.train.lr, cfg.switches.adapter_init
    (0.001, 'normal')
    """

    name: str = setting("vox2", "profile", source=OURS)
    mode: Mode = setting("corrected", "value of the switches that are not named", source=OURS)
    strategy: str = setting(
        "os-kdft",
        "os-kdft, one of its rivals, see oskdft/method/strategies.py, or package.module:Name",
    )
    seed: int = setting(0, "seed of all random numbers", "[0, 9223372036854775807]", source=OURS)
    device: str = setting("auto", "auto, cpu, cuda or cuda:1", source=OURS)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    switches: Switches = field(default_factory=Switches)

    def __post_init__(self) -> None:
        bundle = BUNDLES[self.mode]
        switches = {
            f.name: getattr(self.switches, f.name) or getattr(bundle, f.name)
            for f in fields(Switches)
        }
        object.__setattr__(self, "switches", Switches(**switches))
        require_name(self.name, "name")
        _check_bounds(self)
        _check_combinations(self)

    def override(self, changes: dict[str, Any]) -> "Config":
        """Return a copy with settings changed; under a new mode, switches follow it.

        Args:
            changes: by dotted name, such as {"loss.kd_weight": 0.0, "data.corpus": "folder"}.
        Raises:
            ValueError: an unknown name (the nearest ones are listed), a value of another type or
                out of bounds, or a combination that cannot work.

        >>> load("smoke").override({"loss.kd_wieght": 0})
        Traceback (most recent call last):
        ValueError: unknown setting loss.kd_wieght; did you mean kd_weight, kd_hint, kd_cosine?
        """
        tree = to_dict(self)
        for name, value in changes.items():
            section, _, leaf = str(name).rpartition(".")  # YAML has names that are no words
            node = tree.get(section) if section else tree
            if not isinstance(node, dict):
                raise ValueError(f"unknown setting {name}; {nearest(section, tree)}")
            if leaf not in node:
                raise ValueError(f"unknown setting {name}; {nearest(leaf, node)}")
            node[leaf] = value
        if tree["mode"] != self.mode:
            old = dataclasses.asdict(BUNDLES[self.mode])
            for name, value in tree["switches"].items():
                if value == old[name] and f"switches.{name}" not in changes:
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
    """Build a `Config` from nested plain values; an absent setting has its default."""
    return build(Config, tree)


def to_dict(config: Config) -> dict[str, Any]:
    """Nested plain values (lists for tuples) that `from_dict` and YAML take back unchanged."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def to_yaml(config: Config) -> str:
    """The configuration as YAML text, as saved in each run folder."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def _described(cls: type, prefix: str = "") -> dict[str, tuple[dataclasses.Field, Any]]:
    """Field and type of every setting of a dataclass, by dotted name."""
    hints = typing.get_type_hints(cls)
    settings = {}
    for f in fields(cls):
        if dataclasses.is_dataclass(hints[f.name]):
            settings |= _described(hints[f.name], f"{prefix}{f.name}.")
        else:
            settings[f"{prefix}{f.name}"] = f, hints[f.name]
    return settings


def _check_bounds(cfg: Config) -> None:
    """Refuse a value outside the interval of its field."""
    values = flat(to_dict(cfg))
    for name, (f, _) in SETTINGS.items():
        within, value = f.metadata["within"], values[name]
        if not within:
            continue
        low, high = json.loads(f"[{within[1:-1]}]")
        from_, over = ("more than", operator.gt) if within[0] == "(" else ("at least", operator.ge)
        to, under = ("less than", operator.lt) if within[-1] == ")" else ("at most", operator.le)
        each = value if isinstance(value, list) else [value]
        if not all(over(one, low) and under(one, high) for one in each):
            limits = f"{from_} {low} and {to} {high} {f.metadata['unit']}".rstrip()
            raise ValueError(f"{name} is {value}; it must be {limits}")


def _check_combinations(cfg: Config) -> None:
    """Refuse settings that cannot work together; each message names what to change."""
    model, loss, train = cfg.model, cfg.loss, cfg.train
    if train.lr_min > train.lr:
        raise ValueError(
            f"train.lr_min is {train.lr_min}; it must not exceed train.lr ({train.lr})"
        )
    if train.batch % train.accumulate or train.batch < 2 * train.accumulate:
        raise ValueError(
            f"train.accumulate is {train.accumulate}; train.batch ({train.batch}) must be a multiple of "
            "it, with two crops or more in a part"
        )
    if loss.aam_topk and loss.sv != "aam":
        raise ValueError("loss.aam_topk needs loss.sv=aam; set one of them")
    if model.backend_channels % 8:
        raise ValueError(
            f"model.backend_channels is {model.backend_channels}; ECAPA-TDNN needs a multiple of 8"
        )
    if model.init_layers and len(model.init_layers) != model.student_layers:
        raise ValueError(
            f"model.init_layers {list(model.init_layers)} must have as many entries as "
            f"model.student_layers ({model.student_layers})"
        )
    if not all(1 <= layer <= model.student_layers for layer in model.adapter_layers):
        raise ValueError(
            f"model.adapter_layers is {list(model.adapter_layers)}; "
            f"the student has layers 1 to {model.student_layers}"
        )
    if loss.kd in READ_KD_LAYERS and not (loss.kd_layers and min(loss.kd_layers) >= 1):
        raise ValueError(
            f"loss.kd_layers is {list(loss.kd_layers)}; name teacher layers, which count from 1"
        )
    if loss.kd == "fithubert" and len(loss.kd_layers) != model.student_layers:
        raise ValueError(
            f"loss.kd=fithubert pairs layers: loss.kd_layers {list(loss.kd_layers)} must have as many "
            f"entries as model.student_layers ({model.student_layers})"
        )


SETTINGS = _described(Config)
# each a known name or a path
FOLDERS = ("augment.noise_root", "augment.rir_root", "model.teacher", "model.init")
NAMED_CODE = (
    "strategy",
    "model.backend",
    "loss.kd",
    "loss.sv",
)  # may name code outside the package

PLACES = (  # settings of a machine, not of a recipe
    "device",
    "data.root",
    "data.trials",
    "data.trials_root",
    "data.kd_root",
    "data.workers",
)


def consent(cfg: "Config") -> None:
    """Consent to the code outside the package that a configuration names: its user starts a run with it."""
    values = flat(to_dict(cfg))
    named_code.consent(*(values[name] for name in NAMED_CODE))


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name.

    >>> flat({"seed": 0, "data": {"corpus": "speechbox"}})
    {'seed': 0, 'data.corpus': 'speechbox'}
    """
    settings = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        settings |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return settings


def differences(old: dict, new: dict) -> dict[str, tuple[Any, Any]]:
    """Settings that two nested configurations do not share: (old, new) value by dotted name.

    >>> differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}})
    {'b.c': (2, 3)}
    """
    old, new = flat(old), flat(new)
    pairs = {name: (old.get(name), new.get(name)) for name in old | new}
    return {name: (before, now) for name, (before, now) in pairs.items() if before != now}


def without_places(cfg: Config) -> Config:
    """Return a configuration without paths of this machine, as an exported model keeps it.

    Settings of the machine get their defaults. Of a path to noise, rooms, teacher or student to start from
    the last name stays.

    >>> cfg = load("smoke").override({"data.root": "/data/ada/x", "model.teacher": "/data/ada/xlsr"})
    >>> without_places(cfg).data.root, without_places(cfg).model.teacher
    ('', 'xlsr')
    """
    defaults, values = flat(to_dict(Config())), flat(to_dict(cfg))
    changed = {name: defaults[name] for name in PLACES}
    for name in FOLDERS:
        path = Path(values[name])
        if path.is_absolute() or values[name].startswith((".", "~")):
            changed[name] = path.name
    return cfg.override(changed)


def _reference(base: Config, mode: str) -> dict[str, Any]:
    """Settings of ``base`` as a dict; its switches follow ``mode`` instead of its own mode."""
    return to_dict(base.override({"mode": mode})) | {"mode": base.mode}


def changes(cfg: Config) -> dict[str, Any]:
    """Settings of a recipe that differ from its profile, by dotted name; {} for an unknown profile.

    >>> changes(load("smoke").override({"train.lr": 1e-3, "mode": "published", "data.root": "here"}))
    {'mode': 'published', 'train.lr': 0.001}
    """
    if cfg.name not in PROFILES:
        return {}
    changed = differences(_reference(load(cfg.name), cfg.mode), to_dict(cfg))
    return {name: new for name, (_, new) in changed.items() if name not in PLACES}


def describe(cfg: Config) -> list[dict[str, Any]]:
    """Every setting of a configuration, in the order of the dataclasses.

    Returns:
        one dict per setting: name (dotted), value, unit, meaning, source, choices (empty: free),
        changed (whether the value differs from the default; switches may follow the mode).

    >>> next(row for row in describe(load("vox1")) if row["name"] == "data.crop_s")["changed"]
    True
    """
    changed = differences(_reference(Config(), cfg.mode), to_dict(cfg))
    rows = []
    for name, value in flat(to_dict(cfg)).items():
        f, kind = SETTINGS[name]
        rows.append(
            {"name": name, "value": value}
            | {key: f.metadata[key] for key in ("unit", "meaning", "source")}
            | {"choices": [word for word in choices(kind) if word], "changed": name in changed}
        )
    return rows
