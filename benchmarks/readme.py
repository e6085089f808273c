"""The README's table of speed, from the files in results/.

    python benchmarks/readme.py [--check]

Replaces what stands between the two marks, or with --check says whether it is in step (exit code 1: not).
Nothing but a result file can put a number into the table; what no file holds is "not measured".
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass

from oskdft.commands import bench

README = bench.FOLDER.parent / "README.md"
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"
MISSING = "not measured"
Reader = Callable[[dict], str | None]  # a result -> what it says, None: nothing


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table; ``device`` is "cpu" or "cuda" where the target is for one of them."""

    what: str
    target: str
    benchmark: str
    read: Reader | None
    device: str = ""


def entry(result: dict, part: str, start: str) -> dict | None:
    """The row or comparison whose name starts so, if it was measured."""
    value = {"rows": "median_s", "comparisons": "times"}[part]
    found = [e for e in result.get(part, []) if e["name"].startswith(start)]
    return next((e for e in found if e[value] is not None), None)


def times(start: str) -> Reader:
    """Times faster, with the range over the turns."""

    def read(result: dict) -> str | None:
        found = entry(result, "comparisons", start)
        spread = f" ({found['low']:.2f} to {found['high']:.2f})" if found and "low" in found else ""
        return found and f"{found['times']:.2f}{spread}"

    return read


def less(start: str) -> Reader:
    """What is saved of the larger one [%]."""

    def read(result: dict) -> str | None:
        found = entry(result, "comparisons", start)
        return found and f"{100 / found['times'] - 100:+.0f} %"

    return read


def value(start: str, key: str, factor: float, unit: str) -> Reader:
    """A figure of a row."""

    def read(result: dict) -> str | None:
        found = entry(result, "rows", start)
        known = found is not None and found.get(key) is not None
        return f"{factor * found[key]:,.3g} {unit}" if known else None

    return read


def slowest(start: str) -> Reader:
    """Median and longest time of a row [ms]."""

    def read(result: dict) -> str | None:
        found = entry(result, "rows", start)
        return found and f"{1e3 * found['median_s']:.0f} ms (longest {1e3 * found['high_s']:.0f})"

    return read


def int8_change(result: dict) -> str | None:
    """Change of the EER by int8 weights [percentage points]."""
    found = result.get("eer") or {}
    if found.get("int8_change") is None:
        return None
    return f"{100 * found['int8_change']:+.2f} points, {found['number of trials']:,} trials"


def frozen_cnn_costs() -> str:
    """EER of os-kdft with a frozen CNN, and without, over the seeds that both have."""
    rates, trained = [], ("classroom-hubert", "all", "os-kdft")
    for name in ("evidence-frozen-cnn", "evidence"):
        path = bench.FOLDER / "results" / f"{name}.json"
        if not path.is_file():
            return MISSING
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        wanted = [
            r for r in rows if (r["teacher"], r["labelled_speakers"], r["strategy"]) == trained
        ]
        if not wanted:
            return MISSING
        rates.append(wanted[0]["seeds"])
    seeds = min(map(len, rates))
    frozen, trained = (100 * sum(r[:seeds]) / seeds for r in rates)
    return f"{frozen:.2f} % against {trained:.2f} %, seeds: {seeds}"


EMBEDDING = [
    Line(f"embedding in exact batches, {student}, files of {lengths}, times faster than one by one",
         target, "embedding", times(f"{student}, {lengths}, batches"), device)
    for device, target, students in (
        ("cpu", ">= 1.5 (CPU)", ("shipped size", "base/2")),
        ("cuda", ">= 10 (GPU)", ("shipped size", "base/2", "XLSR/4")),
    )
    for student in students for lengths in ("2 to 10 s", "4 to 20 s")
]  # fmt: skip
MOVES = [
    Line(f"widget, {move} to picture", "< 100 ms", "widgets", slowest(f"{move}, to"), "cpu")
    for move in ("who, noise", "who, echoes", "who, threshold", "DET, threshold", "DET, prior",
                 "map, clip", "paths, layer")
]  # fmt: skip
GPU_STEP = "two paths, bf16, fused, compiled teacher, prefetched"
LINES = [
    Line("training step, R (base/2), shared part once, times faster", ">= 1.4", "training",
         times("base/2 shared part once")),
    Line("the same, P (XLSR/4)", ">= 1.2", "training", times("XLSR/4 shared part once")),
    Line("positional convolution by spectra, shipped size, forward and backward, times faster", "reported",
         "positions", times("shipped size, 32 x 2 s, spectra"), "cpu"),
    Line("the same, base", "reported", "positions", times("base, 8 x 3 s, spectra"), "cpu"),
    Line("the same, XLSR", "reported", "positions", times("XLSR, 8 x 2 s, spectra"), "cpu"),
    Line("R, everything together, times faster", ">= 4 (GPU)", "training",
         times("base/2 everything, on a GPU"), "cuda"),
    Line("P, everything together, times faster", ">= 4 (GPU)", "training",
         times("XLSR/4 everything, on a GPU"), "cuda"),
    Line("R, model FLOP utilisation", ">= 40 % (GPU)", "training",
         value(f"base/2 {GPU_STEP}", "share_of_peak", 100, "%"), "cuda"),
    Line("P, model FLOP utilisation", ">= 40 % (GPU)", "training",
         value(f"XLSR/4 {GPU_STEP}", "share_of_peak", 100, "%"), "cuda"),
    Line("R, bf16 and fused on a CPU, times faster", "reported", "training",
         times("base/2 bf16 and fused"), "cpu"),
    Line("P, bf16 and fused on a CPU, times faster", "reported", "training",
         times("XLSR/4 bf16 and fused"), "cpu"),
    Line("frozen CNN run once, R, times faster", "reported", "training",
         times("base/2 frozen shared CNN")),
    Line("the same, P", "reported", "training", times("XLSR/4 frozen shared CNN")),
    Line("EER of a frozen CNN against a trained one, os-kdft, speechocean762", "reported", "", None),
    Line("memory of a training step, XLSR-53/4 layers, ECAPA, 8 x 2 s", "<= 16 GB", "memory",
         value("XLSR/4, batch 8", "megabytes", 1e-3, "GB")),
    *EMBEDDING,
    Line("memory added by embedding 5,000 s", "bounded", "growth",
         value("embedding, batches, 5,000 ", "added_mb", 1, "MB")),
    Line("37,611 trials with TTA", "< 50 ms", "scoring",
         value("Vox1-O cleaned, TTA", "median_s", 1e3, "ms")),
    Line("579,818 trials with TTA", "< 500 ms", "scoring",
         value("Vox1-E cleaned, TTA", "median_s", 1e3, "ms")),
    Line("AS-norm, 6,000 cohort speakers, 4,708 utterances", "< 3 s", "scoring",
         value("AS-norm, 6,000", "median_s", 1, "s")),
    Line("37,611 trials, times faster than pair by pair", ">= 100", "scoring",
         times("Vox1-O cleaned, against")),
    Line("579,818 trials, times faster than pair by pair", ">= 100", "scoring",
         times("Vox1-E cleaned, against")),
    Line("AS-norm, times faster than pair by pair", ">= 100", "scoring", times("AS-norm, against")),
    Line("XLSR-53/4 layers against its teacher, like for like, time", "-79 % (GPU)", "deployment",
         less("XLSR/4 student, like for like"), "cuda"),
    Line("the same on a CPU", "reported", "deployment", less("XLSR/4 student, like for like"), "cpu"),
    Line("best XLSR-53 student against the released teacher, time", "-85 % (CPU)", "deployment",
         less("XLSR/4 best student"), "cpu"),
    Line("base/2 against its teacher, like for like, time", "reported", "deployment",
         less("base/2 student, like for like")),
    Line("size of the int8 student against float32, XLSR/4", "-70 %", "deployment",
         less("XLSR/4 ONNX float32 size over int8 size")),
    Line("the same, base/2", "-70 %", "deployment", less("base/2 ONNX float32 size over int8 size")),
    Line("EER change by int8, speechocean762", "<= 0.2 points", "deployment", int8_change),
    Line("loader with every augmentation on every crop, times the step of profile desk",
         ">= 2 (GPU, 16 cores)", "pipeline",
         times("loader, all on every crop, 16 workers, over step, desk"), "cuda"),
    Line("one worker of the loader, release P's augmentation (p = 0.6)", "reported", "pipeline",
         value("loader, release P, 1 worker", "per_s", 1, "utterances/s")),
    Line("training step of desk", "reported", "pipeline",
         value("step, desk", "per_s", 1, "utterances/s")),
    Line("training step of classroom", "reported", "pipeline",
         value("step, classroom", "per_s", 1, "utterances/s")),
    Line("`oskdft verify`, cold", "< 4 s (CPU)", "startup",
         value("oskdft verify", "median_s", 1, "s"), "cpu"),
    Line("a further pair of 3 s", "30 ms (CPU)", "startup",
         value("a further pair", "median_s", 1e3, "ms"), "cpu"),
    *MOVES,
    Line("first score after choosing a clip", "< 3 s", "widgets",
         slowest("first score after choosing a clip"), "cpu"),
    Line("app of `make demo`, from the command to its page", "< 15 s", "widgets",
         value("start of the app", "median_s", 1, "s"), "cpu"),
    Line("embedding, exponent of time over seconds of audio", "about 1", "growth",
         times("embedding, batches, slope")),
    Line("scoring, exponent of time over trials", "about 1", "growth",
         times("scoring, mean embeddings, slope")),
    Line("memory added by scoring 1,000,000 trials", "flat", "growth",
         value("scoring, mean embeddings, 1,000,000 ", "added_mb", 1, "MB")),
]  # fmt: skip


def measured(line: Line, results: list[dict]) -> tuple[str, str]:
    """(figure, device), one per result that has it."""
    if line.read is None:
        return frozen_cnn_costs(), ""
    found = []
    for result in results:
        kind = result.get("kind", "cpu")
        if result["benchmark"] == line.benchmark and line.device in ("", kind):
            text = line.read(result)
            device = result["device"] + f", {result['cores']} cores" * (kind == "cpu")
            found += [(text, device)] * (text is not None)
    figures, devices = (
        ("<br>".join(part) for part in zip(*found, strict=True)) if found else ("", "")
    )
    return figures or MISSING, devices


def table() -> str:
    """The table as Markdown."""
    results = [result for result in bench.results() if not result["quick"]]
    lines = ["| what | target | measured | device |", "|---|---|---|---|"]
    for line in LINES:
        lines.append(f"| {line.what} | {line.target} | {' | '.join(measured(line, results))} |")
    return "\n".join(lines)


def updated(text: str) -> str:
    """The README with the table of today."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{README.name} lacks the marks {BEGIN} and {END}; put them back")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1: not in step"
    )
    check = parser.parse_args().check
    text = README.read_text(encoding="utf-8")
    if check and updated(text) != text:
        sys.exit("README.md is not in step with benchmarks/results; python benchmarks/readme.py")
    if not check:
        README.write_text(updated(text), encoding="utf-8")


if __name__ == "__main__":
    main()
