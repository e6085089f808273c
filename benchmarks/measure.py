"""What the benchmarks share: taking turns, the machine's peak, random models, one form of result.

A result file is one JSON object: `rows` (median, smallest and largest time of each piece of work, its
multiply-adds, the floor they set), `comparisons` (how many times faster, beside its target), and
where it all comes from. A row or comparison that this machine cannot measure has null.

    python benchmarks/measure.py        writes the table of README.md from the files in results/
"""

import argparse
import importlib.metadata
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from oskdft import config
from oskdft.commands import bench
from oskdft.config import ModelConfig, Switches
from oskdft.method.backends import build_backend
from oskdft.method.encoder import architecture
from oskdft.method.model import SpeakerModel
from oskdft.method.student import Student, student_config
from oskdft.storage.model_folder import annotate, save_model
from oskdft.utils import provenance
from oskdft.utils.files import atomic, require_writable, write_json
from oskdft.utils.process import keep_freed_memory

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
MARKS = "<!-- results -->", "<!-- end of results -->"  # around the table in README.md
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TINY = "tiny-random-hubert"
BASE = "facebook/hubert-base-ls960"
LARGE = "facebook/wav2vec2-large-xlsr-53"
# no chance in a forward pass: nothing is dropped or masked, so that two formulations can be equal
STILL = {
    "hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0,
    "layerdrop": 0.0, "apply_spec_augment": False,
}  # fmt: skip
CLASSROOM = {  # what the shipped student differs from HuBERT base in
    "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 512, "conv_dim": (64,) * 7,
}  # fmt: skip
Work = Callable[[], object]


def main(name: str, doc: str, run: Callable[..., dict], *more: str) -> None:
    """What every benchmark does as a command: read its options, measure, publish.

    Args:
        doc: its docstring. more: its own options; ``run`` then takes all options, else `--quick`.
    """
    keep_freed_memory()  # as the commands do; without it a forward pass takes half as long again
    args = arguments(doc, *more)
    publish(name, run(args) if more else run(args.quick), args)


def arguments(doc: str, *more: str) -> argparse.Namespace:
    """--json, --quick, --out and the text options named in ``more``."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; nothing is written")
    parser.add_argument("--out", default="", help="file of the result instead of results/")
    for name in more:
        parser.add_argument(f"--{name}", default="")
    args = parser.parse_args()
    if args.out and Path(args.out).exists() and not _is_result(Path(args.out)):
        sys.exit(f"{args.out} exists and is no result of a benchmark; choose another --out")
    if args.out:
        try:
            require_writable(args.out)
        except ValueError as error:
            sys.exit(str(error))
    return args


def _is_result(path: Path) -> bool:
    """Whether a file is the result of a benchmark, which a later run replaces."""
    try:
        return "benchmark" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def once(work: Work) -> float:
    """Seconds that a call takes, whatever it left running on the GPU included."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(
    rows: dict[str, Work],
    turns: int,
    limit_s: float = 60.0,
    clock: Callable[[Work], float] = once,
) -> dict[str, list[float]]:
    """Seconds of each row in each turn; all rows take part in a turn, so a busy moment hits them all.

    Args:
        turns: at most so many, after one that is not counted.
        limit_s: no turn starts later than this, but three are always taken.
        clock: calls a row and returns its seconds.
    """
    taken: dict[str, list[float]] = {name: [] for name in rows}
    began = time.perf_counter()
    for turn in range(-1, turns):
        if turn >= 3 and time.perf_counter() - began > limit_s:
            break
        for name, work in rows.items():
            seconds = clock(work)
            if turn >= 0:
                taken[name].append(seconds)
    return taken


def peak(dtype: torch.dtype, size: int) -> float:
    """Multiply-adds per second of a square matrix product, the best of ten: what the machine can do."""
    a, b = torch.randn(2, size, size, device=DEVICE).to(dtype)
    return size**3 / min(once(lambda: a @ b) for _ in range(10))


def row(name: str, seconds: list[float], **more) -> dict:
    """A row of a result: median, range and whatever else is known; floor and share where they are."""
    made = {"name": name, "median_s": statistics.median(seconds), "low_s": min(seconds)}
    made |= {"high_s": max(seconds), "turns": len(seconds)} | more
    if more.get("multiply_adds") and more.get("peak"):
        made["floor_s"] = more["multiply_adds"] / more["peak"]
        made["share_of_peak"] = made["floor_s"] / made["median_s"]
    return made


def unmeasured(name: str, reason: str) -> dict:
    """A row that this machine cannot measure."""
    return {"name": name, "median_s": None, "reason": reason}


def limit(name: str, allowed: float, taken: list[float]) -> dict:
    """How often the work fits into what is allowed (seconds, bytes)."""
    return comparison(name, [allowed] * len(taken), taken, "at least 1")


def comparison(name: str, slow: list[float] | None, fast: list[float] | None, target: str) -> dict:
    """How many times faster: median and range of the ratios within each turn."""
    if not slow or not fast:
        return {"name": name, "times": None, "target": target}
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    found = {"times": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
    return {"name": name} | found | {"target": target}


def pairs(
    cases: dict[str, tuple], works_of: Callable[..., dict[str, Work]], turns: int
) -> dict[str, list[dict]]:
    """Rows of two works in each case, and how many times faster the second is.

    Args:
        cases: name -> arguments of ``works_of``, which returns the slow and the fast work by name.
    """
    rows, comparisons = [], []
    for name, case in cases.items():
        taken = interleaved(works_of(name, *case), turns, 20.0)
        rows += [row(key, seconds) for key, seconds in taken.items()]
        comparisons.append(comparison(list(taken)[1], *taken.values(), "reported"))
    return {"rows": rows, "comparisons": comparisons}


def random_student(name: str, layers: int, backend: str, **changes) -> SpeakerModel:
    """A student of a known architecture with random weights, in evaluation mode on the device."""
    settings = ModelConfig(student_layers=layers, backend=backend)
    config = student_config(architecture(name, **STILL, **changes), layers)
    torch.manual_seed(0)
    parts = build_backend(config.hidden_size, layers, settings, Switches())
    return SpeakerModel(Student(config, settings, Switches()), parts).eval().to(DEVICE)


def write_student(folder: Path, **changes) -> str:
    """Write a student of two layers of the base size, or with ``changes``, as `oskdft export` does."""
    model = random_student(BASE, 2, "linear", **changes).cpu()
    settings = {"model.adapter_units": 64, "model.adapter_norm": True, "model.adapter_scale": 0.1}
    save_model(folder, model, config.load("classroom").override(settings), [], {})
    fitted = {"threshold": 0.5, "llr_scale": 1.0, "llr_offset": 0.0}
    annotate(folder, {"calibration": {"full": fitted}})
    return str(folder)


def megabytes(module: nn.Module) -> float:
    """Size of the weights [MB]."""
    return sum(p.numel() * p.element_size() for p in module.parameters()) / 1e6


def publish(name: str, found: dict, args: argparse.Namespace) -> None:
    """Print a result, as a table or as JSON; a full run also writes results/NAME-DEVICE.json, or --out."""
    facts = dict(provenance.facts())  # the other is kept for all
    for package in ("onnx", "onnxruntime"):
        try:
            facts["versions"] = facts["versions"] | {package: importlib.metadata.version(package)}
        except importlib.metadata.PackageNotFoundError:
            continue
    facts["threads"] = torch.get_num_threads()
    result = {"benchmark": name, "quick": args.quick, "kind": DEVICE} | found | facts
    if args.out or not args.quick:
        write_json(place(name, args), result)
    print(json.dumps(result) if args.json else text(result))


def place(name: str, args: argparse.Namespace) -> Path:
    """The file of a result: --out, else results/NAME-DEVICE.json."""
    return Path(args.out or RESULTS / f"{name}-{slug(provenance.device_name())}.json")


def slug(device: str) -> str:
    """A device's name as part of a file's name.

    >>> slug("NVIDIA H100 80GB HBM3")
    'nvidia-h100-80gb-hbm3'
    """
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def text(result: dict) -> str:
    """A result as a table."""
    width = max(len(entry["name"]) for entry in result["rows"] + result["comparisons"]) + 2
    lines = [f"{result['benchmark']} on {result['device']}, {result['threads']} threads"]
    lines += [
        f"{'':{width}}{'median':>11}{'smallest':>11}{'largest':>11}{'floor':>11}{'of peak':>9}"
    ]
    lines += [_row_text(entry, width) for entry in result["rows"]]
    for entry in result["comparisons"]:
        known = entry["times"] is not None
        times = f"{entry['times']:.2f} times" if known else "not measured"
        spread = f" ({entry['low']:.2f} to {entry['high']:.2f})" if known and "low" in entry else ""
        lines.append(f"{entry['name']:{width}}{times}{spread}, wanted {entry['target']}")
    for key, value in result.get("eer", {}).items():
        lines.append(f"EER, {key}: {'not measured' if value is None else value}")
    if result["quick"]:
        lines.append("tiny sizes: these times mean nothing")
    return "\n".join(lines)


def _row_text(entry: dict, width: int) -> str:
    if entry["median_s"] is None:
        return f"{entry['name']:{width}}not measured: {entry['reason']}"
    cells = [f"{entry[key] * 1e3:8,.1f} ms" for key in ("median_s", "low_s", "high_s")]
    if "floor_s" in entry:
        cells += [f"{entry['floor_s'] * 1e3:8,.1f} ms", f"{entry['share_of_peak']:9.0%}"]
    known = {
        "seconds_of_audio": "s of audio", "megabytes": "MB", "real_time_factor": "x real time",
        "per_s": "per s",
    }  # fmt: skip
    notes = [f"{entry[key]:,.3g} {unit}" for key, unit in known.items() if key in entry]
    return f"{entry['name']:{width}}{''.join(cells)}  {', '.join(notes)}".rstrip()


def summary() -> str:
    """Every comparison of every result in results/, as a Markdown table."""
    lines = ["| benchmark | comparison | times | wanted | device |", "|---|---|---|---|---|"]
    for result in bench.results():
        for entry in result["comparisons"]:
            times = "not measured"
            if entry["times"] is not None:
                times = f"{entry['times']:,.2f}"
                times += f" ({entry['low']:,.2f} to {entry['high']:,.2f})" if "low" in entry else ""
            cells = (result["benchmark"], entry["name"], times, entry["target"], result["device"])
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def updated(page: str) -> str:
    """The page with today's table between its marks."""
    before, begin, rest = page.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        raise ValueError(f"{README.name} lacks {' and '.join(MARKS)}; put them back")
    return f"{before}{begin}\n{summary()}\n{end}{after}"


if __name__ == "__main__":
    page = updated(README.read_text(encoding="utf-8"))
    with atomic(README) as file:
        file.write(page)
