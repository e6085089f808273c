"""Model folders: a speaker model as safetensors and JSON."""

from pathlib import Path

from oskdft.config import Config, to_dict
from oskdft.method.backends import build_backend
from oskdft.method.library import PretrainedConfig
from oskdft.method.model import SpeakerModel
from oskdft.method.student import Student
from oskdft.storage import tensors
from oskdft.storage.description import digests, read_described, require_own
from oskdft.storage.pretrained import foreign_config
from oskdft.storage.tensors import load_strictly, load_tensors, refuse_misfit, shapes, shapes_of
from oskdft.utils import named_code
from oskdft.utils.files import ASSETS, inside, read_json, write_json

PROGRAM = "model.pt2"  # file of torch.export, which other programs read
HEADS = "heads.safetensors"  # beside a model of a run: what was trained around it


def save_model(
    folder: str | Path, model: SpeakerModel, cfg: Config, speakers: list[str], facts: dict
) -> None:
    """Write a model folder that `load_model` reads.

    Args:
        folder: receives model.safetensors, encoder.json and, last, model.json, which binds them, and the
            heads that lie there.
        model: on any device. cfg: its configuration.
        speakers: [K] names of the training labels, sorted.
        facts: further entries of model.json: step, development EER, calibration.
    """
    folder = Path(folder)
    digest = tensors.save_tensors(folder / "model.safetensors", model.state_dict())
    settings = model.config.to_dict() | {"_name_or_path": ""}  # no path of the author's
    write_json(folder / "encoder.json", settings)
    described = {"config": to_dict(cfg), "speakers": speakers} | facts | {"weights_sha256": digest}
    described |= digests(folder, "encoder.json", HEADS)
    write_json(folder / "model.json", described)


def annotate(folder: str | Path, facts: dict) -> None:
    """Add facts to the model.json of a saved model; a fact of the same name is replaced.

    Digests of further files (`description.digests`) join those that it has.
    """
    path = Path(folder) / "model.json"
    stored = read_json(path)
    both = stored.get("files_sha256", {}) | facts.get("files_sha256", {})
    write_json(path, stored | facts | ({"files_sha256": both} if both else {}))


def model_folder(folder: str | Path) -> Path:
    """The folder of a shipped student by its name, the folder itself, or the `best/` of a run folder.

    Raises:
        ValueError: neither holds a model.
    """
    for candidate in (ASSETS / folder, Path(folder), Path(folder) / "best"):
        if (candidate / "model.json").is_file():
            return candidate
    raise ValueError(
        f"{folder} is no model: neither a run folder with best/ nor a folder with "
        "model.json, encoder.json and model.safetensors"
    )


def unfinished_run(folder: Path) -> str:
    """What to do about a model whose run has not ended: it has no calibration yet. "" for others.

    Args:
        folder: of `model_folder`.

    >>> unfinished_run(ASSETS / "classroom")
    ''
    """
    run = folder.parent
    of_run = folder.name == "best" and (run / "config.yaml").is_file()
    if not of_run or (run / "report.json").is_file():
        return ""
    return f"{run} is not finished; wait for its training, or go on with --resume"


def load_model(folder: str | Path) -> tuple[SpeakerModel, Config, dict]:
    """Read a folder that `save_model` wrote, or the `best/` of a run folder.

    Returns:
        (model in evaluation mode, on the CPU; configuration; whole content of model.json).
    Raises:
        ValueError: no model folder, files that do not fit each other, weights that are not finite or not
            those that model.json was written with, or a back-end outside the package without consent
            (`utils.named_code`).

    >>> from oskdft.utils.files import ASSETS
    >>> model, cfg, described = load_model(ASSETS / "classroom")
    >>> model.training, cfg.strategy
    (False, 'os-kdft')
    """
    folder = model_folder(folder)
    cfg, described = read_described(folder)
    if (folder / PROGRAM).is_file():
        raise ValueError(
            f"{folder} holds a torch program for other programs; use the model that it was exported from"
        )
    settings = inside(folder, "encoder.json")
    weights = inside(folder, "model.safetensors")
    config = foreign_config(read_json(settings), str(settings))
    if named_code.is_named(cfg.model.backend):  # refuse before anything of it is imported
        named_code.load(cfg.model.backend, f"{folder / 'model.json'}: model.backend")
    # compare shapes before memory is allocated: the settings may ask for any size
    own = shapes_of(lambda: build_model(config, cfg), str(folder))
    refuse_misfit(own, shapes(weights), str(weights))
    model = build_model(config, cfg)
    for name in ("encoder.json", "model.safetensors"):
        require_own(folder, described, name)
    load_strictly(model, load_tensors(weights), str(weights))
    return model.eval(), cfg, described


def build_model(encoder: PretrainedConfig, cfg: Config) -> SpeakerModel:
    """A speaker model without trained weights: the encoder of a configuration, adapters, back-end."""
    student = Student(encoder, cfg.model, cfg.switches)
    sizes = encoder.hidden_size, encoder.num_hidden_layers
    return SpeakerModel(student, build_backend(*sizes, cfg.model, cfg.switches))
