"""TODO storage.model_folder."""

from pathlib import Path

from oskdft.config import Config, to_dict
from oskdft.method.backends import build_backend
from oskdft.method.model import SpeakerModel
from oskdft.method.student import Student
from oskdft.storage import tensors
from oskdft.storage.description import read_described
from oskdft.storage.pretrained import foreign_config
from oskdft.storage.tensors import load_strictly, load_tensors, refuse_misfit, shapes, shapes_of
from oskdft.utils.files import inside, read_json, write_json


def save_model(
    folder: str | Path, model: SpeakerModel, cfg: Config, speakers: list[str], facts: dict
) -> None:
    """Write a loadable model folder: safetensors and JSON.

    Args:
        folder: gets model.safetensors, encoder.json and model.json (written last).
        speakers: [K] names behind the training labels, sorted.
        facts: what else a user should know: step, development EER, calibration.
    """
    folder = Path(folder)
    tensors.save_tensors(folder / "model.safetensors", model.state_dict())
    settings = model.config.to_dict() | {"_name_or_path": ""}  # a place on this machine
    write_json(folder / "encoder.json", settings)
    described = {"config": to_dict(cfg), "speakers": speakers} | facts
    write_json(folder / "model.json", described)


def annotate(folder: str | Path, facts: dict) -> None:
    """Add facts to the model.json of a saved model."""
    path = Path(folder) / "model.json"
    write_json(path, read_json(path) | facts)


def load_model(folder: str | Path) -> tuple[SpeakerModel, Config, dict]:
    """Read what `save_model` wrote, or a run folder (its `best/`).

    Returns:
        (model in evaluation mode, config, everything in model.json).
    Raises:
        ValueError: not a model folder, or files that do not fit each other.
    """
    folder = Path(folder)
    if not (folder / "model.json").is_file():
        folder = folder / "best"
    if not (folder / "model.json").is_file():
        raise ValueError(
            f"{folder.parent} is no model: neither a run folder with best/ nor a folder with "
            "model.json, encoder.json and model.safetensors"
        )
    cfg, described = read_described(folder)
    settings, weights = (inside(folder, name) for name in ("encoder.json", "model.safetensors"))
    config = foreign_config(read_json(settings), str(settings))

    def build() -> SpeakerModel:
        student = Student(config, cfg.model, cfg.switches)
        sizes = config.hidden_size, config.num_hidden_layers
        return SpeakerModel(student, build_backend(*sizes, cfg.model, cfg.switches))

    # what the file holds bounds what is allocated, whatever the settings say
    own = shapes_of(build, str(folder))
    refuse_misfit(own, shapes(weights), str(weights))
    model, tensors = build(), load_tensors(weights)
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError(f"{weights} holds weights that are not finite; train or get it again")
    load_strictly(model, tensors, str(weights))
    return model.eval(), cfg, described
