"""The model card of an export: what the model is, how it was trained and measured, how to use it."""

import re

from oskdft.config import Config, changes
from oskdft.method.model import SpeakerModel
from oskdft.utils import provenance
from oskdft.utils.named_code import is_named

LONGEST_LINE = 500  # characters of a value


def escaped(value: object) -> str:
    """A value of unknown origin as one line of Markdown that is shown as it is.

    >>> print(escaped("<b>two\\nlines</b> [x](y)"))
    \\<b\\>two lines\\</b\\> \\[x\\](y)
    """
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", line[:LONGEST_LINE])


VERIFIER = (
    "```python", "import oskdft", "", 'verifier = oskdft.load("this/folder")',
    'print(verifier.verify("a.wav", "b.wav"))', "```", "",
)  # fmt: skip
USE = {  # lines of the card by format
    "hf": (
        *VERIFIER,
        "## The encoder alone",
        "`encoder/` is the student's encoder without adapters and back-end, as plain transformers opens it. "
        "It is the distillation path, which imitates the teacher: hidden states of speech for other tasks. "
        "It gives no speaker embeddings; these need adapters and back-end, and so this package.", "",
        "```python", "from transformers import AutoModel", "",
        'encoder = AutoModel.from_pretrained("this/folder/encoder")',
        'encoder = AutoModel.from_pretrained("user/name", subfolder="encoder")  # from the hub',
        "output = encoder(wave, output_hidden_states=True)  # wave [B, N], as above, not normalised",
        "```", "",
    ),
    "onnx": VERIFIER,
    "int8": VERIFIER,
    "torch": (
        "```python", "import torch", "", 'program = torch.export.load("this/folder/model.pt2").module()',
        "embedding = program(wave)  # wave [1, N]: one recording", "```", "",
        "It needs torch alone. `oskdft.load` does not read it: evaluate the run folder.", "",
    ),
}  # fmt: skip


def card(cfg: Config, model: SpeakerModel, facts: dict, report: dict, files: dict) -> str:
    """The model card in Markdown: architecture, recipe, measurements, sizes, provenance, intended use.

    Args:
        cfg, model: exported. facts: of its model.json. report: of `export`. files: name -> bytes.
    """
    config = model.config
    settings = cfg.model
    changed = ", ".join(f"{key}={value}" for key, value in changes(cfg).items())
    recipe = {
        "strategy": cfg.strategy,
        "mode": cfg.mode,
        "profile": cfg.name,
        "seed": cfg.seed,
        "teacher": settings.teacher,
        "speech": facts.get("speech", cfg.data.corpus),
        "training speakers": facts["training_speakers"],
        "steps": facts.get("step", "not recorded"),
        "distillation loss": cfg.loss.kd,
        "speaker loss": cfg.loss.sv,
        "changed in the profile": changed or "nothing known; model.json has all settings",
    }
    shape = (
        f"{config.model_type}, {config.num_hidden_layers} layers of width {config.hidden_size}, adapters "
        f"of {settings.adapter_units} units, back-end {escaped(settings.backend)}, embedding "
        f"{settings.embedding}"
    )
    named = []
    if report["format"] == "hf" and is_named(settings.backend):
        module = settings.backend.partition(":")[0]  # its form allows no markup
        named = [
            f"The back-end is code that this folder does not hold: `{settings.backend}`. Get it from its "
            f"author, read it, and set `OSKDFT_TRUST={module}`.",
            "",
        ]
    eer = facts.get("dev_eer")
    threshold = facts.get("calibration", {}).get("full", {}).get("threshold")
    origin = provenance.facts()
    rate = "not recorded" if eer is None else f"{100 * eer:.2f} %"
    limit = "none" if threshold is None else f"{threshold:.4f}"
    measured = [
        f"- development EER: {rate}",
        f"- threshold on the cosine of whole recordings: {limit}",
        *(f"- {escaped(line)}" for line in facts.get("measured", [])),
    ]
    if "cosine_to_torch" in report:
        measured.append(
            f"- smallest cosine to the torch model on noise: {report['cosine_to_torch']:.6f}"
        )
    if "float32_bytes" in report:
        measured.append(
            f"- size: {report['bytes'] / report['float32_bytes']:.1%} of the float32 ONNX file"
        )
    return "\n".join([
        "---", "library_name: oskdft", "tags: [speaker-verification, knowledge-distillation]", "---",
        f"# Speaker verification, {escaped(cfg.strategy)}, {report['format']}", "",
        f"{shape}; {report['parameters']:,} parameters. Takes a waveform [B, N] at 16 kHz in [-1, 1], "
        "gives embeddings; compare two with the cosine.", "",
        *USE[report["format"]], *named,
        "## Recipe", *(f"- {key}: {escaped(value)}" for key, value in recipe.items()), "",
        "## Measured", *measured, "",
        "## Sizes", *(f"- {name}: {size:,} bytes" for name, size in files.items()), "",
        "## Provenance",
        f"- exported {origin['date']} by commit {origin['commit'] or 'unknown'}, Python {origin['python']}",
        f"- {provenance.listed(origin['versions'])}", "",
        "## Intended use",
        "Teaching and research on compressing speech models. Not for decisions about people: error rates "
        "differ between languages, ages, microphones and rooms, and were measured on the speech named "
        "above only. Licence: the code is MIT; weights also carry the terms of the teacher and the speech "
        "they learnt from.", "",
    ])  # fmt: skip
