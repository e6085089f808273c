"""Strike trainings and every other command that writes, many times; write benchmarks/reliability.md.

    python -m tests.system.faults.campaign [--trainings 60] [--writers 66] [--records FILE] [--only PART]

Also runs the long version of `tests/system/test_rubbish.py`. Each outcome is appended to a file of
records, so that a campaign that was interrupted goes on where it stopped.
"""

import argparse
import datetime
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).parents[1])
)  # for the forked processes: `faults` is a package
from faults import harness, inject, writers
from oskdft import config
from oskdft.utils import provenance
from oskdft.utils.console import say

TABLE = Path(__file__).parents[3] / "benchmarks" / "reliability.md"
PARTS = ("rubbish", "trainings", "two", "writers")


class Records:
    """What became of the faults, one JSON object a line in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        self.all = [json.loads(line) for line in lines]

    def add(self, part: str, outcomes: list[harness.Outcome]) -> None:
        """Append outcomes, and say them."""
        for outcome in outcomes:
            self.append({"part": part} | asdict(outcome))
            end = "; ".join(outcome.lost) or "nothing was lost"
            say(f"{len(self.all)}: {outcome.what}, {outcome.fault}: {end}")

    def append(self, record: dict) -> None:
        """Append one record; it is on the disk when this returns."""
        self.all.append(record)
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def of(self, part: str) -> list[dict]:
        """The records of one part."""
        return [record for record in self.all if record["part"] == part]


def rubbish(records: Records) -> None:
    """Run the long version of test_rubbish.py in its own process."""
    if records.of("rubbish"):
        return
    command = [sys.executable, "-m", "pytest", "-q", "--hypothesis-show-statistics"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, Path(__file__).parents[1] / "test_rubbish.py"],
        env=os.environ | {"OSKDFT_LONG": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    peak = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # no child before this one
    counts = list(map(int, re.findall(r"- (\d+) passing, 0 failing", done.stdout)))
    record = {
        "part": "rubbish",
        "cases": sum(counts),
        "properties": len(counts),
        "seconds": round(time.monotonic() - began),
        "peak": peak,
        "date": str(datetime.date.today()),
        "passed": not done.returncode and bool(counts),
        "failed": re.findall(r"^FAILED .*", done.stdout, re.MULTILINE),
        "said": done.stdout.splitlines()[-1],
    }
    records.append(record)


def trainings(records: Records, folder: Path, faults: int, seed: int) -> None:
    """Faults of all kinds on trainings of all strategies."""
    before = Counter(record["fault"] for record in records.of("trainings"))
    kinds = list(inject.ENDS)
    wanted = Counter((kinds * (faults // len(kinds) + 1))[:faults])
    runs = harness.Runs(folder, seed + sum(before.values()), lambda o: records.add("trainings", o))
    left = list((wanted - before).elements())
    runs.campaign([str(kind) for kind in runs.rng.permutation(left)], harness.LONG)


def two(records: Records, folder: Path, kills: int, seed: int) -> None:
    """Kills of one of two processes."""
    if missing := kills - len(records.of("two")):
        runs = harness.Runs(folder, seed, lambda outcomes: records.add("two", outcomes))
        harness.two_processes(runs, missing)


def strike_writers(records: Records, folder: Path, faults: int, seed: int) -> None:
    """Faults of all kinds on the other commands that write."""
    before = Counter((record["what"], record["fault"]) for record in records.of("writers"))
    runs = harness.Runs(folder, seed)
    struck = writers.Struck(folder, seed + sum(before.values()), runs.reference("os-kdft") / "best")
    cases = [(name, kind) for kind in writers.KINDS for name in struck.writers]
    wanted = Counter((cases * (faults // len(cases) + 1))[:faults])
    for name, kind in (wanted - before).elements():
        try:
            records.add("writers", [struck.suffer(name, kind)])
        except PermissionError as error:
            say(f"{name}, {kind}: not tried, {error}")


def rows(records: list[dict], keys: tuple[str, ...]) -> list[str]:
    """Rows of a table: how often, survived, lost, slowest stop, for each value of the keys."""
    made = []
    for key in sorted({tuple(record[k] for k in keys) for record in records}):
        own = [record for record in records if tuple(record[k] for k in keys) == key]
        stops = [r["stop_s"] for r in own if "TERM" in r["fault"] or "Ctrl" in r["fault"]]
        slowest = f"{max(stops):.1f}" if stops else ""
        survived, lost = sum(r["survived"] for r in own), sum(bool(r["lost"]) for r in own)
        made.append(f"| {' | '.join(key)} | {len(own)} | {survived} | {lost} | {slowest} |")
    return made


def table(records: Records) -> str:
    """All records as Markdown."""
    facts = provenance.facts()
    struck = [r for part in PARTS[1:] for r in records.of(part)]
    lost = [f"- {r['what']}, {r['fault']}: {line}" for r in struck for line in r["lost"]]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    steps = config.load("smoke").override({"train.epochs": 4, "train.steps_per_epoch": 13}).train
    trained = records.of("trainings") + records.of("two")
    about_rubbish = [
        f"Rubbish in files (`tests/system/test_rubbish.py`, long version): {r['cases']:,} cases of "
        f"{r['properties']} properties in {r['seconds']} s, {r['peak'] / 1e9:.1f} GB at most with all "
        f"libraries, {r['date']}; pytest said: {r['said']}."
        for r in records.of("rubbish")
    ]
    return "\n".join(
        [
            "# Faults injected into commands",
            "",
            "Written by `make test-long` (`python -m tests.system.faults.campaign`). Each fault strikes at a",
            "random moment. A fault is counted only if it ended the process, or if the process is to go on",
            "(stopped and continued, the clock goes back a day). Lost: wrong results, an earlier checkpoint",
            "gone, no end within 10 s of a signal, another exit code than documented, a message that is no",
            "message of the command, or a file left behind.",
            "",
            f"{len(struck)} faults, {sum(r['survived'] for r in struck)} survived.",
            "",
            *(lost or ["Nothing was lost."]),
            "",
            "## Training",
            "",
            "A run is struck, resumed, struck again (up to "
            f"{harness.PER_RUN} times), resumed and finished. It survived when the",
            "weights of `last/` and `best/`, `metrics.csv` without timings, validations and calibration are",
            "those of an untouched run: bit by bit with one process, within 1e-5 with two.",
            "",
            "| fault | injected | survived | lost | slowest stop [s] |",
            "|---|---|---|---|---|",
            *rows(trained, ("fault",)),
            "",
            "| training | injected | survived | lost | slowest stop [s] |",
            "|---|---|---|---|---|",
            *rows(trained, ("what",)),
            "",
            f"Model: profile smoke, {steps.epochs} epochs of {steps.steps_per_epoch} steps.",
            "",
            "## The other commands that write",
            "",
            "A call is struck, and the command is called again. It survived when the results are those of an",
            "untouched call, byte by byte, without what a clock says. A full disk and a disk without inodes",
            "are real file systems of too small a size, which are enlarged before the second call.",
            "",
            "| command | fault | injected | survived | lost | slowest stop [s] |",
            "|---|---|---|---|---|---|",
            *rows(records.of("writers"), ("what", "fault")),
            "",
            "## Rubbish",
            "",
            *(about_rubbish or ["Not run."]),
            "",
            f"{facts['cores']} cores, {facts['device']}, {facts['date']}, Python {facts['python']}, "
            f"{versions}.",
            "",
        ]
    )


def main() -> None:
    """The long versions."""
    parser = argparse.ArgumentParser(description="Inject faults; write the table.")
    parser.add_argument("--trainings", type=int, default=60, help="faults, with one process")
    parser.add_argument("--two", type=int, default=4, help="kills, with two processes")
    parser.add_argument("--writers", type=int, default=66, help="faults of the other commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--records", default="runs/faults.jsonl", help="file of the outcomes")
    parser.add_argument("--only", choices=PARTS, help="one part")
    given = parser.parse_args()
    file = Path(given.records)
    file.parent.mkdir(parents=True, exist_ok=True)
    records = Records(file)
    parts = [given.only] if given.only else list(PARTS)
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            own = Path(folder, part)
            own.mkdir()
            if part == "rubbish":
                rubbish(records)
            elif part == "trainings":
                trainings(records, own, given.trainings, given.seed)
            elif part == "two":
                two(records, own, given.two, given.seed)
            else:
                strike_writers(records, own, given.writers, given.seed)
    TABLE.write_text(table(records), encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"))
    sys.exit(any(r.get("lost") or not r.get("passed", True) for r in records.all))


if __name__ == "__main__":
    main()
