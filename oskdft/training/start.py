"""Start of a training from a trained student: what must fit, and what is taken over."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from oskdft.config import SETTINGS, Config, differences, to_dict
from oskdft.method.library import PretrainedConfig
from oskdft.method.model import SpeakerModel
from oskdft.method.objective import Objective
from oskdft.method.strategies import Stage, stage_config
from oskdft.method.student import student_config
from oskdft.storage.description import require_own
from oskdft.storage.model_folder import HEADS, load_model, model_folder
from oskdft.storage.tensors import load_strictly, load_tensors, save_tensors
from oskdft.training import run_folder
from oskdft.utils.files import sha256

# Settings that decide what the weights of a student mean: of the model all but the origin of its weights
# and the noise of a training.
FORM = {"switches.adapter_residual", "switches.layer_weights"}
FORM |= {name for name in SETTINGS if name.startswith("model.")}
FORM -= {"model.teacher", "model.init", "model.init_layers", "model.adapter_noise"}
KD = {"model.teacher", "loss.kd", "loss.kd_layers"}  # settings that decide what a KD head imitates
ENCODER = (  # the same of the encoder, in its configuration
    "model_type",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "conv_dim",
    "conv_kernel",
    "conv_stride",
    "feat_extract_norm",
    "do_stable_layer_norm",
    "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups",
)


def save_heads(folder: Path, objective: Objective) -> None:
    """Write speaker classifier and KD heads beside the model that they were trained with."""
    around = {k: t for k, t in objective.state_dict().items() if not k.startswith("model.")}
    save_tensors(folder / HEADS, around)


def find(name: str) -> Path:
    """Folder of the trained student that ``model.init`` names.

    Args:
        name: run folder, exported folder, or the name of a shipped student.
    Raises:
        ValueError: it holds no model.

    >>> find("classroom").name
    'classroom'
    """
    return model_folder(name)


def starting_stage(cfg: Config, plan: Sequence[Stage]) -> int:
    """Number of the stage that starts from the trained student: the last that would start from the teacher.

    >>> from oskdft.method.strategies import STRATEGIES
    >>> [starting_stage(Config(), STRATEGIES[name]) for name in ("os-kdft", "precomp", "postcomp")]
    [0, 0, 1]
    """
    numbers = [number for number, stage in enumerate(plan) if stage.start == "teacher"]
    if not numbers:
        raise ValueError(f"strategy {cfg.strategy} starts from random weights; leave out --init")
    return numbers[-1]


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """A trained student that a stage starts from.

    Attributes:
        stage: number of the stage. name: as ``model.init`` has it. sha256: of its weights.
        model, cfg: the student and its configuration. speakers: its training speakers.
        heads: speaker classifier and KD heads; {} where the folder has none.
    """

    stage: int
    name: str
    sha256: str
    model: SpeakerModel
    cfg: Config
    speakers: list[str]
    heads: dict[str, Tensor]

    def hand_over(self, objective: Objective, cfg: Config, speakers: list[str]) -> str:
        """Put the weights into the objective of the stage; return a line that says which.

        Encoder, adapters and back-end are taken. The speaker classifier is taken where the speakers are
        the same, the KD heads where they imitate the same layers of the same teacher; else they stay new.
        """
        load_strictly(objective.model, self.model.state_dict(), self.name)
        same = {"speaker classifier": self.speakers == speakers}
        changed = differences(to_dict(self.cfg), to_dict(cfg)).keys()
        same["KD heads"] = not changed & KD
        taken = ["encoder, adapters and back-end"]
        parts = ((objective.sv, "sv.", "speaker classifier"), (objective.kd, "kd.", "KD heads"))
        for module, prefix, what in parts:
            own = {} if module is None else module.state_dict()
            found = run_folder.select(self.heads, prefix)
            fits = {k: t.shape for k, t in own.items()} == {k: t.shape for k, t in found.items()}
            if own and fits and same[what]:
                module.load_state_dict(found)
                taken.append(what)
            elif own:
                taken.append(f"a new {what}" if what.endswith("r") else f"new {what}")
        return f"start from {self.name}: {', '.join(taken)}"


def load_start(cfg: Config, plan: Sequence[Stage], teacher: PretrainedConfig) -> Start | None:
    """Read the trained student that ``model.init`` names, and compare its form with that of the run.

    Args:
        plan: stages of the strategy. teacher: architecture of ``cfg.model.teacher``.
    Returns:
        None where ``model.init`` is empty.
    Raises:
        ValueError: no model, a strategy that starts from random weights, or another form; names the
            settings.
    """
    if not cfg.model.init:
        return None
    name, number = cfg.model.init, starting_stage(cfg, plan)
    folder = find(name)
    model, own, described = load_model(folder)
    staged = stage_config(cfg, plan[number], teacher.num_hidden_layers)
    changed = differences(to_dict(own), to_dict(staged))
    unlike = [
        f"{setting} is {there} there, {here} here"
        for setting, (there, here) in changed.items()
        if setting in FORM and matters(setting, own, staged)
    ]
    expected = _form(student_config(teacher, staged.model.student_layers))
    unlike += [
        f"{field} of model.teacher is {there} there, {expected[field]} here"
        for field, there in _form(model.config).items()
        if there != expected[field]
    ]
    if unlike:
        raise ValueError(
            f"{name} is a student of another form: {'; '.join(unlike)}; take its settings (and its "
            f"strategy, {own.strategy}, and teacher, {own.model.teacher})"
        )
    heads = {}
    if (folder / HEADS).is_file():  # an export has none
        require_own(folder, described, HEADS)
        heads = load_tensors(folder / HEADS)
    speakers, digest = described.get("speakers", []), sha256(folder / "model.safetensors")
    return Start(number, name, digest, model, own, speakers, heads)


def _form(config: PretrainedConfig) -> dict[str, object]:
    values = {field: getattr(config, field) for field in ENCODER}
    return {f: tuple(v) if isinstance(v, list) else v for f, v in values.items()}


def matters(setting: str, one: Config, other: Config) -> bool:
    """Whether a setting has an effect on either of two models.

    >>> from oskdft.config import load
    >>> matters("model.backend_channels", load("smoke"), load("smoke"))  # linear back-ends
    False
    """
    models = (one.model, other.model)
    if "adapter_" in setting and setting != "model.adapter_units":
        return any(model.adapter_units for model in models)
    if setting == "model.backend_channels":
        return any(model.backend == "ecapa" for model in models)
    if setting == "switches.layer_weights":
        return any(model.backend == "linear" for model in models)
    return True
