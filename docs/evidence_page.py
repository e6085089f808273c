"""Write the tables of the kept runs into the pages: ``python docs/evidence_page.py``.

A table stands between ``<!-- name -->`` and ``<!-- end -->``; the rest of a page is written by hand.
"""

import json
import re
from pathlib import Path

from oskdft.config import load
from oskdft.lessons import costs, evidence
from oskdft.lessons.kept import EVIDENCE, read

ROOT = Path(__file__).parent.parent
SWEEPS = (
    "strategies", "few-labels", "strategies-hubert", "raw-targets", "longer", "later-start", "rivals",
    "ablations",
)  # fmt: skip
ALL_SPEECH = "os-kdft, imitates all speech"  # a row of few-labels
BETTER, START = "One step beats fine-tuning alone", "The start in the teacher's layers helps"
FIRST, LAST = (
    "One step beats compressing first (PreComp)",
    "One step beats compressing last (PostComp)",
)
PATHS, TUNER = "Two paths beat one", "Adapters beat the successor's attention tuner"
LARGE = "The student beats the fine-tuned teacher"
# claim, letter of the quotation or "", sweep, the row that the claim says is better, and its rival
CLAIMS = (
    (BETTER, "b", "strategies", "os-kdft", "student-ft"),
    (BETTER, "b", "strategies-hubert", "os-kdft", "student-ft"),
    (BETTER, "b", "ablations", "baseline", "no KD, no adapters"),
    (BETTER, "b", "few-labels", "os-kdft", "student-ft"),
    (BETTER, "b", "few-labels", ALL_SPEECH, "student-ft"),
    (BETTER, "b", "longer", "os-kdft", "student-ft"),
    (BETTER, "b", "later-start", "os-kdft", "student-ft"),
    ("Speech without labels helps OS-KDFT", "", "few-labels", ALL_SPEECH, "os-kdft"),
    (FIRST, "a", "strategies", "os-kdft", "precomp"),
    (FIRST, "a", "strategies-hubert", "os-kdft", "precomp"),
    (FIRST, "a", "raw-targets", "os-kdft", "precomp"),
    (FIRST, "a", "longer", "os-kdft", "precomp"),
    (LAST, "", "strategies", "os-kdft", "postcomp"),
    (LAST, "", "strategies-hubert", "os-kdft", "postcomp"),
    (LAST, "", "raw-targets", "os-kdft", "postcomp"),
    (LAST, "", "longer", "os-kdft", "postcomp"),
    (PATHS, "b", "strategies", "os-kdft", "joint-no-adapter"),
    (PATHS, "b", "strategies-hubert", "os-kdft", "joint-no-adapter"),
    (PATHS, "b", "raw-targets", "os-kdft", "joint-no-adapter"),
    (PATHS, "b", "ablations", "baseline", "no adapters (one path)"),
    (PATHS, "b", "few-labels", "os-kdft", "joint-no-adapter"),
    (PATHS, "b", "longer", "os-kdft", "joint-no-adapter"),
    (PATHS, "b", "later-start", "os-kdft", "joint-no-adapter"),
    (TUNER, "", "strategies", "os-kdft", "os-kdft2"),
    (TUNER, "", "strategies-hubert", "os-kdft", "os-kdft2"),
    (TUNER, "", "raw-targets", "os-kdft", "os-kdft2"),
    ("Wide adapters beat narrow ones", "", "ablations", "baseline", "narrow adapters"),
    (
        "Adapters are needed in each layer",
        "",
        "ablations",
        "baseline",
        "adapter in the last layer only",
    ),
    ("Imitation helps", "b", "ablations", "baseline", "no KD, adapters stay"),
    ("Imitation needs its full weight", "", "ablations", "baseline", "KD weight x 0.1"),
    (
        "The weight of imitation needs its schedule",
        "",
        "ablations",
        "baseline",
        "KD weight, other schedule",
    ),
    (START, "", "strategies", "student-ft", "scratch"),
    (START, "", "strategies-hubert", "student-ft", "scratch"),
    (START, "", "few-labels", "student-ft", "scratch"),
    (START, "", "ablations", "no KD, no adapters", "no KD, from scratch"),
    (START, "", "rivals", "student-ft", "scratch"),
    (LARGE, "", "strategies", "os-kdft", "teacher-ft"),
    (LARGE, "", "strategies-hubert", "os-kdft", "teacher-ft"),
    (LARGE, "", "few-labels", "os-kdft", "teacher-ft"),
)
# what a rival's difference says of the claim
SAID = {"worse": "holds", "better": "the opposite holds", "not told apart": "not shown"}
LISTS = ("speechbox, 80 test speakers", "LibriSpeech excerpts, 22 test speakers")


def apart(ours: tuple[float, float], other: tuple[float, float]) -> str:
    """What two separate 95 % intervals say of the claim that ours is lower.

    >>> apart((0.05, 0.09), (0.11, 0.15)), apart((0.05, 0.09), (0.07, 0.12))
    ('holds', 'the intervals overlap')
    """
    if ours[1] < other[0]:
        return "holds"
    return "the opposite holds" if other[1] < ours[0] else "the intervals overlap"


def rows_of(lines: list[tuple[str, ...]]) -> str:
    """A Markdown table; the first line is its head."""
    head, *rows = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ("---",) * len(head), *rows])


def sweep_block(result: dict) -> str:
    """Table and verdict of a sweep, as docs/results.md shows them."""
    return f"{evidence.markdown(result)}\n\n```\n{evidence.verdict(result)}\n```"


def about(result: dict) -> str:
    """Teacher, targets, updates and seeds of a sweep; labelled speakers and first layers if set."""
    reference = next(row for row in result["rows"] if row["row"] == result["reference"])
    cfg = load(result["profile"]).override(result["changes"])
    told = [reference["teacher"], f"{cfg.loss.kd_targets} targets"]
    if cfg.data.labelled_speakers:
        told.append(f"{cfg.data.labelled_speakers} labelled speakers")
    if cfg.model.init_layers:
        told.append(f"start in layers {' and '.join(map(str, cfg.model.init_layers))}")
    seeds = result["seeds"]
    told.append(f"{reference['updates']['student']:,} updates")
    return ", ".join(told + [f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"])


def claims_block(results: dict[tuple[str, str], dict]) -> str:
    """Claim x data x interval x verdict.

    Args:
        results: (sweep, its reference) -> of `evidence.gather`.
    """
    lines = [("claim", "paper", "data", "ours", "rival", "rival minus ours [points]", "verdict")]
    found = []
    for claim, letter, sweep, ours, rival in CLAIMS:
        result = results[sweep, ours]
        [row] = [row for row in result["rows"] if row["row"] == rival]
        difference = evidence.difference(row["minus"])
        found.append(SAID[evidence.kind(row["minus"])])
        quoted = f"({letter})" if letter else ""
        lines.append((claim, quoted, about(result), ours, rival, difference, found[-1]))
    counts = {word: found.count(word) for word in ("holds", "the opposite holds", "not shown")}
    told = ", ".join(f"*{word}* {count}" for word, count in counts.items())
    return f"{rows_of(lines)}\n\nOf {len(found)} comparisons: {told}."


def seeds_block() -> str:
    """Which seeds of each sweep are kept for all rows, and which are not yet."""
    lines = [
        ("sweep", "runs kept", "runs planned", "seeds kept of every row", "seeds not yet there")
    ]
    for name in SWEEPS:
        sweep = read(EVIDENCE / name)
        rows, seeds = len(sweep.grid.rows), sweep.grid.seeds
        kept = [run.cfg.seed for run in sweep.runs]
        whole = [str(seed) for seed in seeds if kept.count(seed) == rows]
        waiting = [str(seed) for seed in seeds if kept.count(seed) < rows]
        told = ", ".join(whole) or "none", ", ".join(waiting) or "none"
        lines.append((name, str(len(kept)), str(rows * len(seeds)), *told))
    return rows_of(lines)


def saved(times: float) -> str:
    """ "-50.0 %" for what is twice as fast or half as large."""
    return f"{100 * (1 / times - 1):+.1f} %"


def costs_block(strategies: dict) -> str:
    """Size and time: the abstract's figures beside what was counted and measured here."""
    [counted] = [
        r["reduction"] for r in costs.sizes()["reductions"] if r["name"] == "XLSR-53 + ECAPA"
    ]
    measured = _numbers("benchmarks/results/deployment-amd-epyc.json")
    times = {entry["name"]: entry for entry in measured["comparisons"]}
    work = {entry["name"]: entry.get("multiply_adds") for entry in measured["rows"]}
    where = f"{measured['device']}, {measured['cores']} cores, 3 s"

    def timed(name: str) -> str:
        low, high = saved(times[name]["low"]), saved(times[name]["high"])
        return f"{saved(times[name]['times'])} ({low} to {high})"

    same = timed("XLSR/4 student, like for like")
    eight = timed("XLSR/4 best student (ONNX int8, CPU), released teacher")
    adds = saved(work["XLSR/4 teacher, as released"] / work["XLSR/4 student, as released"])
    by_row = {row["row"]: row for row in strategies["rows"]}
    small, large = by_row["os-kdft"], by_row["teacher-ft"]
    own = [saved(large[key] / small[key]) for key in ("parameters", "multiply_adds")]
    lines = [
        ("claim", "paper", "here", "how", "verdict"),
        (
            "Size of XLSR-53 with ECAPA-TDNN",
            "-76.2 % (c)",
            f"{-100 * counted:+.1f} %",
            "counted, no weights needed",
            f"close: {abs(76.2 - 100 * counted):.1f} points apart",
        ),
        ("Time of the SSL part, float32", "-79 % (c)", same, where, _reached(same, -79)),
        ("... student in 8 bits", "-79 % (c)", eight, where, _reached(eight, -79)),
        ("Multiply-adds of the SSL part", "", adds, "counted, 3 s", "no claim of the paper"),
        ("Size of the classroom system", "", own[0], "counted", "no claim of the paper"),
        ("Its multiply-adds", "", own[1], "counted, 3 s", "no claim of the paper"),
        ("EER of the VoxCeleb2 system", "0.98 % (c)", "not measured", "needs VoxCeleb", "open"),
    ]
    return rows_of(lines)


def _reached(told: str, wanted: float) -> str:
    """Whether a saving with its range "-67.6 % (-63.7 % to -72.3 %)" reaches the wanted one.

    >>> _reached("-67.6 % (-63.7 % to -72.3 %)", -79), _reached("-81.1 % (-78.3 % to -82.9 %)", -79)
    ('not reached', 'reached in the median')
    """
    return "reached in the median" if float(told.split()[0]) <= wanted else "not reached"


def own_block() -> str:
    """The shipped student beside what a user could take instead, and trained beside untrained."""
    peers = _numbers("benchmarks/results/peers.json")["systems"]
    [other] = [name for name in peers if name.startswith("resemblyzer")]
    lines = [("claim", "data", "ours", "other", "verdict")]

    def add(claim: str, data: str, ours: tuple, rival: tuple) -> None:
        told = [f"{100 * x[0]:.2f} % ({100 * x[1]:.2f} to {100 * x[2]:.2f})" for x in (ours, rival)]
        lines.append((claim, data, *told, apart(ours[1:], rival[1:])))

    for name in LISTS:
        found = [peers[who]["lists"][name] for who in ("oskdft classroom", other)]
        ends = [(rates["eer"], *rates["interval"]) for rates in found]
        add("The shipped student beats Resemblyzer 0.1.4", name, *ends)
    student = peers["oskdft classroom"]["lists"][LISTS[0]]
    trained = _numbers("figures/05_strategies_classroom.json")["data"]
    kept = trained["results"]["os-kdft"]
    systems = {
        "The shipped student": (
            (student["eer"], *student["interval"]),
            _numbers("figures/07_det_classroom.json")["data"]["baselines"],
        ),
        "OS-KDFT of the strategies": (
            (kept["mean"], kept["low"], kept["high"]),
            trained["baselines"],
        ),
    }
    for system, (ours, baselines) in systems.items():
        for name, rates in baselines.items():
            if "low" in rates:  # chance has no interval
                rival = (rates["mean"], rates["low"], rates["high"])
                told = name.removesuffix(", no training").removesuffix(", no model")
                without = "the " * told.startswith("teacher") + f"{told} without training"
                add(f"{system} beats {without}", LISTS[0], ours, rival)
    return rows_of(lines)


def _numbers(file: str) -> dict:
    return json.loads((ROOT / file).read_text(encoding="utf-8"))


def blocks() -> dict[str, str]:
    """Name of a marker -> what stands below it."""
    results = {name: evidence.gather(EVIDENCE / name) for name in SWEEPS}
    judged = {
        (name, ours): evidence.gather(EVIDENCE / name, ours)
        for name, ours in sorted({(claim[2], claim[3]) for claim in CLAIMS})
    }
    return {name: sweep_block(result) for name, result in results.items()} | {
        "claims": claims_block(judged),
        "seeds": seeds_block(),
        "costs": costs_block(results["strategies"]),
        "own": own_block(),
    }


def filled(page: str, made: dict[str, str]) -> str:
    """The page with every marked part replaced.

    Raises:
        ValueError: a marker that nothing is made for.

    >>> filled("a\\n<!-- x -->\\nold\\n<!-- end -->\\nb", {"x": "new"})
    'a\\n<!-- x -->\\nnew\\n<!-- end -->\\nb'
    """

    def new(match: re.Match) -> str:
        if match[1] not in made:
            raise ValueError(f"nothing is made for <!-- {match[1]} -->; it has {', '.join(made)}")
        return f"<!-- {match[1]} -->\n{made[match[1]]}\n<!-- end -->"

    return re.sub(r"<!-- (?!end )([\w-]+) -->\n.*?\n<!-- end -->", new, page, flags=re.DOTALL)


def main() -> None:
    """Rewrite the tables of docs/results.md and docs/evidence.md; says what changed."""
    made = blocks()
    for name in ("results.md", "evidence.md"):
        path = ROOT / "docs" / name
        page = path.read_text(encoding="utf-8")
        new = filled(page, made)
        path.write_text(new, encoding="utf-8")
        print(f"docs/{name}: {'as before' if new == page else 'rewritten'}")


if __name__ == "__main__":
    main()
