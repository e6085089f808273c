"""All strategies on real speech: several seeds, one recipe, the test list read once per run.

    python benchmarks/evidence.py run --out runs/evidence [--teachers classroom-hubert] [--seeds 3]
        [--strategies os-kdft scratch] [--labelled 0] [--jobs 2] [--set KEY=VALUE ...]
    python benchmarks/evidence.py table --out runs/evidence [--name evidence] [--figure]
    python benchmarks/evidence.py tried --out runs/tried [--name evidence-tried]
    python benchmarks/evidence.py teachers
    python benchmarks/evidence.py states

`run` trains and evaluates what is missing and may be stopped at any time. Development speakers choose
the checkpoint; the test speakers' list is scored once per run. `table` gathers what is there into
benchmarks/results/NAME.json, beside rows of the same recipe that other machines have left there, and,
with --figure, into figures/. `tried` gathers run folders of any
settings, with their development EER only, into benchmarks/results/evidence-tried.json. `teachers`
draws the zero-shot EER that the pre-training of the shipped teachers has measured (pretrain.json).
`states` measures how much of their states differs between the utterances of the development speakers.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
CORPUS, LIST = "speechocean762", "trials_test_samegender.txt"
FEW = 40  # labelled speakers of the second table
RIVAL = "os-kdft"  # the strategy that the others are held against


def plan(
    teachers: list[str], strategies: list[str], seeds: int, labelled: list[int]
) -> list[tuple[str, str, int, int]]:
    """(teacher, strategy, labelled speakers or 0 for all, seed), whole tables first.

    With few labels: the first teacher, and the strategies that distil nothing beforehand.
    """
    few = [s for s in ("os-kdft", "student-ft", "scratch", "teacher-ft") if s in strategies]
    return [
        (teacher, strategy, speakers, seed)
        for speakers in labelled
        for teacher in (teachers[:1] if speakers else teachers)
        for seed in range(seeds)
        for strategy in (few if speakers else strategies)
    ]


def one(out: Path, job: tuple[str, str, int, int], changes: list[str], threads: int) -> None:
    """Train and evaluate one run, unless that has been done."""
    teacher, strategy, labelled, seed = job
    folder = out / f"{teacher}_{strategy}_{labelled or 'all'}_{seed}"
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "oskdft"]

    def call(*words: str) -> str:
        with open(folder.with_suffix(".log"), "a", encoding="utf-8") as log:
            done = subprocess.run(
                [*command, *words], env=environment, stderr=log, stdout=subprocess.PIPE, text=True
            )
        if done.returncode:
            raise RuntimeError(f"{folder.name} stopped; see {folder.with_suffix('.log')}")
        return done.stdout

    if (folder / "test.json").is_file():
        return
    if not (folder / "report.json").is_file():
        settings = [f"data.corpus={CORPUS}", f"model.teacher={teacher}", f"seed={seed}"]
        settings += [f"data.labelled_speakers={labelled}", *changes]
        resume = ["--resume"] if (folder / "config.yaml").is_file() else []
        where = ["--profile", "classroom", "--strategy", strategy, "--out", str(folder)]
        call("train", *where, *resume, *settings)
    corpus = Path(os.environ["OSKDFT_DATA"]) / CORPUS
    (folder / "scores.txt").unlink(missing_ok=True)
    made = call(
        "evaluate", "--model", str(folder), "--trials", str(corpus / LIST), "--root", str(corpus),
        "--no-tta", "--scores", str(folder / "scores.txt"), "--json",
    )  # fmt: skip
    (folder / "test.json").write_text(made, encoding="utf-8")
    print(f"{folder.name}: {100 * json.loads(made)['eer']:.2f} %", flush=True)


def gather(out: Path, before: dict | None = None) -> dict:
    """Mean, seeds and interval of each (teacher, labelled speakers, strategy) that has been run.

    Args:
        out: folder of the runs. before: an earlier result, whose rows stay where ``out`` has none.
    Raises:
        ValueError: the earlier result has another recipe.
    """
    from oskdft.config import flat
    from oskdft.utils.files import read_json

    groups: dict[tuple[str, str, str], list[Path]] = {}
    for path in sorted(out.glob("*/test.json")):
        teacher, strategy, labelled, _ = path.parent.name.rsplit("_", 3)
        groups.setdefault((teacher, labelled, strategy), []).append(path.parent)
    drawn = draws(path for folders in groups.values() for path in folders)
    spent = latencies({group: folders[0] for group, folders in groups.items()})
    rows = []
    for (teacher, labelled, strategy), folders in groups.items():
        rival = [] if strategy == RIVAL else groups.get((teacher, labelled, RIVAL), [])
        reports = [read_json(folder / "report.json") for folder in folders]
        rates = [read_json(folder / "test.json")["eer"] for folder in folders]
        rows.append({
            "teacher": teacher, "labelled_speakers": labelled, "strategy": strategy,
            "mean": statistics.mean(rates), "seeds": rates,
            **middle(sum(drawn[path] for path in folders) / len(folders)),
            "minus_os_kdft": minus(folders, rival, drawn),
            "dev_eer": [r["validations"][-1]["dev_eer"] for r in reports],
            "parameters": reports[0]["parameters"], "ms_per_utterance": spent[teacher, labelled, strategy],
            "train_s": [r["seconds"] for r in reports],
            "precision": reports[0]["config"]["train"]["precision"],
            **{fact: reports[0][fact] for fact in ("versions", "python", "commit", "device", "cores", "date")},
        })  # fmt: skip
    first = next(iter(groups.values()))[0]
    test, settings = read_json(first / "test.json"), read_json(first / "report.json")["config"]
    result = {
        "corpus": CORPUS, "trials": test["trials"], "targets": test["targets"],
        "recipe": test["recipe"] | {"model": "best checkpoint by development EER", "strategy": "per row"},
        "interval": "95 %, speakers resampled together for all seeds, mean over seeds",
        "config": same_in_all(settings), "mfcc": untrained(), "rows": rows,
    }  # fmt: skip
    if before:
        old, new = flat(before["config"]), flat(result["config"])
        if other := sorted(name for name in old.keys() & new.keys() if old[name] != new[name]):
            raise ValueError(
                f"the earlier result has other {', '.join(other)}; give this one a --name"
            )
        result["rows"] += [row for row in before["rows"] if key(row) not in map(key, rows)]
    return result


def key(row: dict) -> tuple[str, str, str]:
    """What a row is about."""
    return row["teacher"], row["labelled_speakers"], row["strategy"]


def same_in_all(settings: dict) -> dict:
    """The settings that all rows share: without what a row has of its own and what is of the machine."""
    from oskdft.config import PLACES

    own = {"train.precision", "model.teacher", "model.adapter_units", "data.labelled_speakers"}
    own |= set(PLACES)
    shared = {"mode": settings["mode"]}
    for part in ("train", "augment", "loss", "model", "data"):
        shared[part] = {k: v for k, v in settings[part].items() if f"{part}.{k}" not in own}
    return shared


def tried(out: Path) -> dict:
    """What each run folder in ``out`` changed in profile classroom, and its development EER."""
    from oskdft import config
    from oskdft.utils import provenance
    from oskdft.utils.files import read_json

    rows = []
    for path in sorted(out.glob("*/report.json")):
        report = read_json(path)
        changes = config.changes(config.from_dict(report["config"]))
        rates = [validation["dev_eer"] for validation in report["validations"]]
        rows.append({
            "changes": changes, "dev_eer": min(rates), "dev_speakers": report["dev_speakers"],
            "dev_trials": report["dev_trials"], "train_s": report["seconds"],
        })  # fmt: skip
    same = {
        k: v for k, v in rows[0]["changes"].items() if all(r["changes"].get(k) == v for r in rows)
    }
    for row in rows:
        row["changes"] = {k: v for k, v in row["changes"].items() if k not in same}
    rows.sort(key=lambda row: (row["changes"].get("model.teacher", ""), row["dev_eer"]))
    return {"changed in all": same, "rows": rows} | provenance.facts()


def draws(folders: Iterable[Path]) -> dict[Path, np.ndarray]:
    """EER of each run over draws of the test speakers, the same draws for all of them."""
    from oskdft.evaluation import bootstrap, score_file
    from oskdft.speech.corpora import trials

    corpus = Path(os.environ["OSKDFT_DATA"]) / CORPUS
    speakers = bootstrap.trial_speakers(trials.read_trials(corpus / LIST))
    return {
        folder: bootstrap.bootstrap(*score_file.read_scores(folder / "scores.txt"), speakers)
        for folder in folders
    }


def middle(drawn: np.ndarray) -> dict[str, float]:
    """The central 95 % of draws."""
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"low": float(low), "high": float(high)}


def minus(folders: list[Path], others: list[Path], drawn: dict[Path, np.ndarray]) -> dict | None:
    """Difference of two strategies, seed by seed and draw by draw, of the seeds that both have."""
    from oskdft.utils.files import read_json

    of = {path.name.rsplit("_", 1)[1]: path for path in others}
    pairs = [(path, of[n]) for path in folders if (n := path.name.rsplit("_", 1)[1]) in of]
    if not pairs:
        return None
    rates = [[read_json(path / "test.json")["eer"] for path in pair] for pair in pairs]
    apart = np.mean([drawn[one] - drawn[other] for one, other in pairs], 0)
    return {"seeds": [one - other for one, other in rates]} | middle(apart)


def untrained() -> dict[str, float]:
    """EER of mean and deviation of 13 MFCC, standardised, on the development and the test list."""
    from oskdft import config
    from oskdft.evaluation import probes
    from oskdft.speech import audio, protocol
    from oskdft.training.pretraining import objectives

    made = protocol.prepare(config.load("classroom").override({"data.corpus": CORPUS}))
    lists = {
        "development": (made.dev_trials, made.dev.root),
        "test": (made.test_trials, made.test_root),
    }
    rates = {}
    for name, (trials, root) in lists.items():
        waves = [
            np.int16(np.clip(audio.read(root / p) * 32768, -32768, 32767)) for p in trials.paths
        ]
        features = [objectives.mfcc(w, normalised=False)[:, :13] for w in waves]
        table = np.stack([np.concatenate([f.mean(0), f.std(0)]) for f in features])
        pairs = np.stack([trials.enrol, trials.test], 1)
        rates[name] = probes.speaker_eer(table, pairs, trials.label)
    return rates


def latencies(runs: dict[tuple, Path], seconds: float = 3.0, turns: int = 15) -> dict[tuple, float]:
    """Median time [ms] of each to embed one utterance, one thread, float32; they take turns."""
    import torch

    from oskdft import load
    from oskdft.lessons import costs

    torch.set_num_threads(1)
    wave = np.random.default_rng(0).normal(0, 0.1, int(16000 * seconds)).astype(np.float32)
    loaded = [load(folder) for folder in runs.values()]
    calls = {str(n): lambda v=verifier: v.embed(wave) for n, verifier in enumerate(loaded)}
    spent = costs.median_seconds(calls, turns)
    return {name: 1000 * spent[str(n)] for n, name in enumerate(runs)}


def show(result: dict) -> str:
    """Markdown table of the gathered rows."""
    head = ("teacher", "labelled speakers", "strategy", "EER % (mean)", "seeds", "95 % interval",
            "minus os-kdft (95 %)", "parameters", "ms per 3 s")  # fmt: skip
    lines = [head, ("---",) * len(head)]
    for row in sorted(
        result["rows"], key=lambda r: (r["teacher"], r["labelled_speakers"], r["mean"])
    ):
        lines.append((
            row["teacher"], row["labelled_speakers"], row["strategy"], f"{100 * row['mean']:.2f}",
            ", ".join(f"{100 * rate:.2f}" for rate in row["seeds"]),
            f"{100 * row['low']:.2f} to {100 * row['high']:.2f}", against(row), f"{row['parameters']:,}",
            f"{row['ms_per_utterance']:.0f}",
        ))  # fmt: skip
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def against(row: dict) -> str:
    """Difference to os-kdft in points, where it was measured."""
    if not (found := row.get("minus_os_kdft")):
        return ""
    mean = 100 * statistics.mean(found["seeds"])
    return f"{mean:+.2f} ({100 * found['low']:+.2f} to {100 * found['high']:+.2f})"


def figure(result: dict) -> None:
    """figures/05_strategies_speechocean762; few labels, the other teacher, other targets: with a suffix."""
    from oskdft.lessons.figures import store

    targets = result["config"]["loss"].get("kd_targets", "raw")
    kind, told = ("", "") if targets == "raw" else (f"_{targets}", f", targets {targets}")
    drawn = {
        ("classroom-hubert", "all"): "",
        ("classroom-hubert", str(FEW)): "_few_labels",
        ("classroom-wav2vec2", "all"): "_wav2vec2",
    }
    for (teacher, labelled), suffix in drawn.items():
        chosen = {
            r["strategy"]: {k: r[k] for k in ("mean", "low", "high", "seeds")}
            for r in result["rows"]
            if key(r)[:2] == (teacher, labelled)
        }
        if chosen:
            who = "all labelled speakers" if labelled == "all" else f"{FEW} labelled speakers"
            caption = (
                f"EER on {result['trials']:,} same-gender trials of {CORPUS} test, {who}, teacher {teacher}"
                f"{told}, equal student updates; interval: bootstrap over speakers"
            )
            store.save(
                f"05_strategies_{CORPUS}{suffix}{kind}", ROOT / "figures", "intervals",
                {"results": chosen}, caption, config=result["config"], replace=True,
            )  # fmt: skip


def teachers() -> None:
    """figures/02_zero_shot_speechocean762: EER of each layer of the shipped teachers, before any label."""
    from oskdft.lessons.figures import store
    from oskdft.utils.files import ASSETS, read_json

    made = {path.parent.name: read_json(path) for path in sorted(ASSETS.glob("*/pretrain.json"))}
    recipes = {name: report["recipe"] for name, report in made.items()}
    rates = {name: report["log"][-1]["zero_shot_eer"] for name, report in made.items()}
    lines = {n: [of[layer] for layer in of if layer.isdigit()] for n, of in rates.items()}
    first = next(iter(made))
    plain = {"MFCC (no model)": rates[first]["mfcc"]}
    caption = (
        f"Zero-shot EER of each hidden state of the shipped teachers, on {recipes[first]['dev_speakers']} "
        f"development speakers of {CORPUS} train: mean and deviation over time, standardised, cosine."
    )
    store.save(
        f"02_zero_shot_{CORPUS}", ROOT / "figures", "layers",
        {"probes": lines, "ylabel": "EER", "best": "min", "baselines": plain}, caption,
        config=recipes, seed=recipes[first]["seed"], replace=True,
    )  # fmt: skip


def states() -> dict:
    """Share of each layer's energy that differs between utterances, development speakers."""
    from oskdft import config
    from oskdft.evaluation import probes
    from oskdft.speech import audio, protocol
    from oskdft.storage.pretrained import load_encoder
    from oskdft.utils import provenance
    from oskdft.utils.files import ASSETS

    cfg = config.load("classroom").override({"data.corpus": CORPUS})
    table = protocol.prepare(cfg).dev
    waves = [audio.read(table.path(i)) for i in range(len(table))]
    shares = {}
    for path in sorted(ASSETS.glob("*/pretrain.json")):
        encoder = load_encoder(path.parent.name)
        tables = probes.pooled(lambda wave, e=encoder: probes.states_of(e, wave)[1:], waves)
        shares[path.parent.name] = [probes.told_apart(table) for table in tables]
    return {"corpus": CORPUS, "utterances": len(waves), "shares": shares} | provenance.facts()


def main() -> None:
    """Train and evaluate, or gather."""
    from oskdft.method.strategies import STRATEGIES
    from oskdft.utils.files import write_json
    from oskdft.utils.process import keep_freed_memory

    keep_freed_memory()  # as the commands do; without it a forward pass takes half as long again

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "table", "tried", "teachers", "states"))
    parser.add_argument("--out", type=Path, default=ROOT / "runs/evidence")
    parser.add_argument("--teachers", nargs="+", default=["classroom-hubert", "classroom-wav2vec2"])
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labelled", nargs="+", type=int, default=[0, FEW], help="0: all")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--name", help="of the file in benchmarks/results")
    parser.add_argument("--figure", action="store_true")
    parser.add_argument("--set", dest="changes", nargs="+", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    if given.what == "teachers":
        return teachers()
    results = ROOT / "benchmarks/results"
    results.mkdir(exist_ok=True)
    if given.what == "states":
        made = states()
        write_json(results / f"{given.name or 'evidence-states'}.json", made)
        for name, shares in made["shares"].items():
            print(name, *(f"{100 * share:.2f}" for share in shares), "%")
        return
    given.out.mkdir(parents=True, exist_ok=True)
    if given.what == "run":
        threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or max(os.cpu_count() // given.jobs, 1)
        jobs = plan(given.teachers, given.strategies, given.seeds, given.labelled)
        with ThreadPoolExecutor(given.jobs) as pool:
            list(pool.map(lambda job: one(given.out, job, given.changes, threads), jobs))
        return
    if given.what == "tried":
        made = tried(given.out)
        write_json(results / f"{given.name or 'evidence-tried'}.json", made)
        for row in made["rows"]:
            print(f"{100 * row['dev_eer']:6.2f} %  {row['changes']}")
        return
    path = results / f"{given.name or 'evidence'}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    result = gather(given.out, before)
    write_json(path, result)
    print(show(result))
    if given.figure:
        figure(result)


if __name__ == "__main__":
    main()
