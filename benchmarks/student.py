"""The shipped student: its corpus, its measurement on two kinds of speakers, its folder.

    python benchmarks/student.py corpus --out runs/student/corpus
    oskdft train --profile classroom --out runs/student/all data.corpus=kaldi \\
           data.root=runs/student/corpus ...
    python benchmarks/student.py measure runs/student/all [...] [--json FILE]
    python benchmarks/student.py ship runs/student/all --out runs/student/classroom

`corpus` joins the training speakers of speechbox with the LibriSpeech excerpts of $OSKDFT_DATA, cut into
pieces of 3 s, as Kaldi tables: train/, dev/ and test/ with no speaker in two of them. dev/ holds the 15
development speakers of speechbox and every tenth speaker of the excerpts, test/ every tenth from the fifth
on; neither is heard in pre-training. `measure` prints EERs on the development speakers of each kind and on
both test lists. `ship` calibrates a run on the development trials of both kinds, pooled, and exports it
with its ONNX form.
"""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

import oskdft
from oskdft.evaluation import bootstrap, metrics
from oskdft.evaluation.calibration import a_sample, fit, fit_domain
from oskdft.evaluation.embedding import embed_files, embed_trials, scores_by_policy
from oskdft.evaluation.groups import by_group
from oskdft.speech import audio, protocol
from oskdft.speech.corpora.catalogue import SPEECHBOX
from oskdft.speech.corpora.drawn_trials import make_trials
from oskdft.speech.corpora.people import groups_of
from oskdft.speech.corpora.tables import Utterances, dev_split, load_corpus
from oskdft.speech.corpora.trials import Trials, read_trials, write_trials
from oskdft.storage.description import digests
from oskdft.storage.domain import FILE as DOMAIN
from oskdft.storage.export import export
from oskdft.storage.model_folder import annotate, load_model
from oskdft.training.pretraining.pretrain import COHORT_DEV
from oskdft.utils import provenance
from oskdft.utils.console import progress
from oskdft.utils.files import read_json, write_json

PIECE_S = 3.0  # of a LibriSpeech excerpt, which is one recording of about 13 s
LISTS = "trials_dev_speechbox.txt", "trials_dev_excerpts.txt", "trials_test_excerpts.txt"
SPEECH = "speechbox (Apache-2.0) and excerpts of LibriSpeech (CC BY 4.0)"
TITLES = {  # of the lists in the model card
    "trials_dev_speechbox.txt": "speechbox, 15 development speakers",
    "trials_dev_excerpts.txt": "LibriSpeech excerpts, 23 development speakers, pieces of one recording",
    "trials_test_excerpts.txt": "LibriSpeech excerpts, 22 test speakers, pieces of one recording",
    "trials_test_speechbox.txt": "speechbox, 80 test speakers",
}
EXCERPTS = "excerpts"  # folder of the pieces, below it a folder per speaker


def write_corpus(out: Path) -> None:
    """Write tables, pieces and trial lists; the shards of speechbox are linked."""
    out.mkdir(parents=True)
    for shard in sorted(SPEECHBOX.glob("*.tar")):
        (out / shard.name).symlink_to(shard)
    train, dev = dev_split(load_corpus("speechbox", split="train"), 15, protocol.DEV_SEED)
    rows = {"train": _rows(train), "dev": _rows(dev), "test": []}
    cohort = Path(os.environ["OSKDFT_DATA"]) / "librispeech_cohort"
    recordings = sorted(cohort.glob("*/*.*"))
    for number, path in enumerate(progress(recordings, "cutting excerpts")):
        part = "train" if number % COHORT_DEV else ("dev", "test")[number // COHORT_DEV % 2]
        wave, samples = audio.read(path), int(PIECE_S * oskdft.config.SAMPLE_RATE)
        speaker = f"LIBRI{path.parent.name}"
        (out / EXCERPTS / speaker).mkdir(parents=True)
        for piece in range(len(wave) // samples):
            name = f"{EXCERPTS}/{speaker}/{path.stem}-{piece}.flac"
            audio.write(out / name, wave[piece * samples : (piece + 1) * samples])
            rows[part].append((name, speaker))
    for part, entries in rows.items():
        (out / part).mkdir()
        entries = sorted(entries, key=lambda row: (row[1], row[0]))
        keys = [Path(name).stem for name, _ in entries]
        for table, column in (("wav.scp", 0), ("utt2spk", 1)):
            lines = [f"{key}\t{row[column]}\n" for key, row in zip(keys, entries, strict=True)]
            (out / part / table).write_text("".join(lines))
    for table in ("spk2gender", "spk2age"):  # of speechbox; the excerpts come without
        for part in ("train", "dev"):
            shutil.copyfile(SPEECHBOX / "train" / table, out / part / table)
    for name, trials in zip(LISTS, _lists(out), strict=True):
        write_trials(out / name, trials)


def _rows(utterances: Utterances) -> list[tuple[str, str]]:
    speakers = [utterances.speakers[label] for label in utterances.speaker]
    return list(zip(utterances.names(), speakers, strict=True))


def _lists(out: Path) -> list[Trials]:
    """Development trials of each kind, and test trials of the excerpts."""
    lists = []
    for part, excerpts in (("dev", False), ("dev", True), ("test", True)):
        table = load_corpus("kaldi", out, part)
        inside = [name.startswith(EXCERPTS) == excerpts for name in table.names()]
        table = table.select(np.array(inside))
        alike = protocol.groups("kaldi", table)
        lists.append(make_trials(table, protocol.DEV_SEED, protocol.DEV_TRIALS, alike))
    return lists


def measure(folder: Path, corpus: Path) -> dict:
    """EER with its interval on the lists of both kinds, and errors at the model's own threshold."""
    model, cfg, described = load_model(folder)
    threshold = described["calibration"]["full"]["threshold"]
    lists = [read_trials(corpus / name, corpus) for name in LISTS]
    roots = [corpus] * len(LISTS)
    lists.append(read_trials(SPEECHBOX / protocol.TEST_LISTS["speechbox"], SPEECHBOX))
    roots.append(SPEECHBOX)
    results: dict = {"model": folder.name, "step": described.get("step"), "threshold": threshold}
    for trials, root, name in zip(lists, roots, (*LISTS, "trials_test_speechbox.txt"), strict=True):
        scores = scores_by_policy(embed_trials(cfg, model, trials, root), trials)["full"]
        speakers = bootstrap.trial_speakers(trials)
        low, high = bootstrap.bootstrap_ci(scores, trials.label, speakers)
        target = trials.label == 1
        results[name] = {
            "eer": metrics.eer(scores, trials.label)[0],
            "interval": [low, high],
            "misses": float((scores[target] < threshold).mean()),
            "false_alarms": float((scores[~target] >= threshold).mean()),
            "trials": len(trials),
        }
        if root == SPEECHBOX:
            results["groups"] = {
                column: by_group(scores, trials, groups_of(trials.paths, root, column), threshold)
                for column in ("gender", "age")
            }
        print(name, json.dumps(results[name]), flush=True)
    return results


def ship(run: Path, corpus: Path, out: Path) -> None:
    """Export a run, calibrated on the development trials of both kinds, pooled."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "best"
        shutil.copytree(run / "best", folder)
        model, cfg, _ = load_model(folder)
        scores, labels, embeddings = {}, [], []
        lists = [read_trials(corpus / name, corpus) for name in LISTS[:2]]
        for trials in lists:
            paths = [corpus / path for path in trials.paths]
            recordings = embed_files(model, paths, cfg.eval)
            for policy, values in scores_by_policy(recordings, trials).items():
                scores.setdefault(policy, []).append(values)
            labels.append(trials.label)
            embeddings.append(recordings.single())
        labels = np.concatenate(labels)
        fitted = {name: fit(np.concatenate(parts), labels) for name, parts in scores.items()}
        stored = read_json(folder / "model.json")
        stored["config"]["data"]["root"] = ""  # a folder of this machine
        write_json(folder / "model.json", stored | {"calibration": fitted, "speech": SPEECH})
        heard = embed_files(model, a_sample(load_corpus("kaldi", corpus, "train")), cfg.eval)
        fit_domain(heard.single(), np.concatenate(embeddings)).save(folder)
        annotate(folder, digests(folder, DOMAIN))
        annotate(folder, {"measured": _lines(measure(folder, corpus))})
        export(folder, "hf", out)
        export(folder, "onnx", Path(temporary) / "onnx")
        shutil.copyfile(Path(temporary) / "onnx" / "model.onnx", out / "model.onnx")
        annotate(out, digests(out, "model.onnx"))  # made from the weights beside it


def _lines(results: dict) -> list[str]:
    """One line of the model card for each list."""
    lines = []
    for name, title in TITLES.items():
        row = results[name]
        low, high = (100 * end for end in row["interval"])
        lines.append(
            f"{title}, {row['trials']:,} trials, whole recordings: EER {100 * row['eer']:.2f} % (95 % over "
            f"speakers: {low:.2f} to {high:.2f} %); at the threshold {100 * row['misses']:.1f} % misses, "
            f"{100 * row['false_alarms']:.1f} % false alarms"
        )
    for column, groups in results["groups"].items():
        rates = (
            f"{group} ({row['speakers']} speakers) EER {100 * row['eer']:.1f} %, "
            f"{100 * row['miss']:.1f} % misses, {100 * row['false_alarm']:.1f} % false alarms"
            for group, row in groups.items()
        )
        lines.append(f"... of these by {column}, at the same threshold: {'; '.join(rates)}")
    return lines


def main() -> None:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("corpus")
    command.add_argument("--out", type=Path, required=True)
    command = commands.add_parser("measure")
    command.add_argument("models", nargs="+", type=Path)
    command.add_argument("--corpus", type=Path, default=Path("runs/student/corpus"))
    command.add_argument("--json", type=Path)
    command = commands.add_parser("ship")
    command.add_argument("run", type=Path)
    command.add_argument("--corpus", type=Path, default=Path("runs/student/corpus"))
    command.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.command == "corpus":
        write_corpus(options.out)
    elif options.command == "ship":
        ship(options.run, options.corpus, options.out)
    else:
        results = [measure(model, options.corpus) for model in options.models]
        if options.json:
            write_json(options.json, {"models": results} | provenance.facts())


if __name__ == "__main__":
    main()
