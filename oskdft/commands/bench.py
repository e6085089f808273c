"""Run the benchmarks of the source checkout, each in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"
# what the benchmarks share; a study of hours that trains and evaluates
NO_BENCHMARKS = ("measure", "peers", "scale", "student")
WRONG_USAGE = 2  # exit code


def names() -> list[str]:
    """Names of the benchmarks, sorted.

    Raises:
        FileNotFoundError: the package was installed without its source.

    >>> "scoring" in names()
    True
    """
    stems = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in NO_BENCHMARKS)
    if not stems:
        raise FileNotFoundError(f"no benchmarks in {FOLDER}; run oskdft bench in a source checkout")
    return stems


def results() -> list[dict]:
    """Every result in benchmarks/results; a file holds one result or several."""
    measured = []
    for path in sorted((FOLDER / "results").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        candidates = [content] if "benchmark" in content else content.values()
        measured += [one for one in candidates if isinstance(one, dict) and "benchmark" in one]
    return measured


def run(
    name: str = "", quick: bool = False, as_json: bool = False, options: Sequence[str] = ()
) -> dict[str, dict]:
    """Run one benchmark, or all of them one after the other.

    Args:
        name: as in `names`, "" for all. quick: tiny sizes, nothing is written.
        as_json: collect their JSON objects; else they print tables as they go.
        options: of the benchmark itself, such as "--out", "FILE".
    Returns:
        {name: its JSON object}, empty without ``as_json``.
    Raises:
        ValueError: no such benchmark, one that fails, or options without a name.
        SystemExit: options that the benchmark does not know; its own message lists them.
    """
    known = names()
    if options and not name:
        raise ValueError(f"{' '.join(options)} is for one benchmark; name it: {', '.join(known)}")
    if name and name not in known:
        raise ValueError(f"no benchmark {name!r}; there are {', '.join(known)}")
    objects = {}
    for one in [name] if name else known:
        flags = ["--quick"] * quick + ["--json"] * as_json
        command = [sys.executable, str(FOLDER / f"{one}.py"), *flags, *options]
        done = subprocess.run(command, stdout=subprocess.PIPE if as_json else None, check=False)
        if done.returncode == WRONG_USAGE:
            sys.exit(WRONG_USAGE)
        if done.returncode:
            raise ValueError(f"benchmark {one} failed with exit code {done.returncode}, see above")
        if as_json:
            objects[one] = json.loads(done.stdout)
    return objects
