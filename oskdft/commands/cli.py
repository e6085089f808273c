"""The `oskdft` command: each subcommand calls one module, which it imports itself."""

import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from oskdft import __version__
from oskdft.utils.process import HUNG_UP, STOPPED, Interrupts, keep_freed_memory

app = typer.Typer(
    help="One-step knowledge distillation and fine-tuning for speaker verification.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # markup would swallow brackets such as "[n, E]"
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
data = typer.Typer(help="Corpora: list, get, check, pack.", no_args_is_help=True)
app.add_typer(data, name="data")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Root = Annotated[str, typer.Option(help="Folder of the corpus; else $OSKDFT_DATA/NAME, data/NAME.")]
Model = Annotated[str, typer.Option(help='Run folder, exported folder, or "classroom".')]
Channel = Annotated[
    int, typer.Option(help="Read this channel, from 1 on; 0: recordings must be mono.", min=0)
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]


def show(value: Any, as_json: bool, text: str) -> None:
    """Print a result for a person, or as one JSON object."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False) if as_json else text)


def settings(words: list[str]) -> dict[str, Any]:
    """KEY=VALUE words as a dictionary, values read as YAML.

    >>> settings(["train.lr=1e-4", "data.corpus=folder", "loss.kd_layers=[1, 2]"])
    {'train.lr': '1e-4', 'data.corpus': 'folder', 'loss.kd_layers': [1, 2]}
    """
    changes = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise ValueError(f"{word!r} is no setting; write KEY=VALUE, such as train.lr=1.0e-4")
        changes[key] = _value(value, repr(word[:200]))
    return changes


def parameters(words: list[str]) -> dict[str, Any]:
    """Words -p NAME VALUE as a dictionary, values read as YAML.

    >>> parameters(["-p", "seed", "1", "-p", "device", "cpu"])
    {'seed': 1, 'device': 'cpu'}
    """
    if len(words) % 3 or any(flag != "-p" for flag in words[::3]):
        raise ValueError(f"{' '.join(words)!r} is not understood; write -p NAME VALUE")
    pairs = zip(words[1::3], words[2::3], strict=True)
    return {name: _value(value, f"-p {name[:200]}") for name, value in pairs}


def _value(text: str, what: str) -> Any:
    from oskdft.utils.schema import plain_yaml

    try:
        return plain_yaml(text) if text else ""
    except ValueError as error:
        reason = str(error)[:200]
        raise ValueError(
            f"{what}: the value cannot be read; put text in quotes ({reason})"
        ) from None


def print_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        print(f"oskdft {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be repaired.")] = False,
    as_json: Json = False,
) -> None:
    """Check the installation: what works, and how to repair the rest."""
    from oskdft.commands import doctor as module

    if fix:
        for line in module.repair():
            print(line, file=sys.stderr)
    findings = module.diagnose()
    ok = all(finding.ok for finding in findings)
    report = {"ok": ok, "findings": [asdict(finding) for finding in findings]}
    show(report, as_json, "\n".join(module.lines(findings)))
    if not ok:
        raise typer.Exit(1)


@app.command()
def config(
    profile: Annotated[str, typer.Argument(help="Preset or YAML file.")] = "classroom",
    as_json: Json = False,
) -> None:
    """Print every setting of a profile.

    A star marks a value that differs from the default; the source is that of the default.
    """
    from oskdft import config as module

    rows = module.describe(module.load(profile))
    show({"profile": profile, "settings": rows}, as_json, setting_table(rows))


def setting_table(settings: list[dict[str, Any]]) -> str:
    """Settings as an aligned table.

    >>> row = {"name": "data.crop_s", "value": 2.0, "unit": "s", "meaning": "length", "source": "P"}
    >>> print(setting_table([row | {"choices": [], "changed": True}]))
      | setting     | value | unit | source | meaning
    --+-------------+-------+------+--------+--------
    * | data.crop_s | 2.0   | s    | P      | length
    """
    from oskdft.utils.console import table

    rows = [("", "setting", "value", "unit", "source", "meaning")]
    for row in settings:
        text = row["value"] if row["value"] and isinstance(row["value"], str) else None
        value = text or json.dumps(row["value"])
        choices = f" ({', '.join(row['choices'])})" if row["choices"] else ""
        mark = "*" if row["changed"] else ""
        meaning = f"{row['meaning']}{choices}"
        rows.append((mark, row["name"], value, row["unit"], row["source"], meaning))
    return table(rows)


@data.command("list")
def data_list(as_json: Json = False) -> None:
    """Known corpora: licence, size, and whether they are here."""
    from oskdft.speech.corpora import catalogue

    rows = catalogue.list_corpora()
    lines = [
        f"{row['name']:16} {'here' if row['here'] else '-':5} {row['size']:24} {row['licence']}\n"
        f"{'':16} {row['title']}: {row['root'] or row['how_to']}"
        for row in rows
    ]
    show({"corpora": rows}, as_json, "\n".join(lines))


@data.command("get")
def data_get(
    name: str, dest: Annotated[str, typer.Option(help="Folder for it; else data/NAME.")] = ""
) -> None:
    """Download a corpus whose licence permits it, or resume an interrupted download."""
    from oskdft.speech.corpora import download

    print(download.get(name, dest))


@data.command("check")
def data_check(
    name: str,
    root: Root = "",
    full: Annotated[bool, typer.Option("--full", help="Decode every file.")] = False,
    as_json: Json = False,
) -> None:
    """Find missing, extra and unusable files; compare counts and trial lists with the published ones."""
    from oskdft.speech.corpora import check
    from oskdft.utils import provenance

    report = check.check(name, root, full)
    versions = provenance.versions()
    result = asdict(report) | {"ok": report.ok, "versions": versions}
    show(result, as_json, "\n".join([*report.lines(), provenance.listed(versions)]))
    if not report.ok:
        raise typer.Exit(1)


@data.command("pack")
def data_pack(
    name: str,
    out: Annotated[Path, typer.Option(help="Folder for the shards; an interrupted call goes on.")],
    root: Root = "",
    codec: Annotated[str, typer.Option(help="flac, opus or copy (bytes as they are).")] = "flac",
    kbit: Annotated[int, typer.Option(help="Bit rate of opus [kbit/s]; 0: 18.")] = 0,
    shard_mb: Annotated[float, typer.Option(help="About how large a shard is [MB].")] = 256.0,
    processes: Annotated[int, typer.Option(help="That encode; 0: one per core.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Put a corpus into tar shards, with its tables and a manifest; m4a is decoded as well."""
    from oskdft.speech.corpora import pack

    manifest = pack.pack(name, root, out, codec, kbit, shard_mb, processes)
    show(pack.summary(manifest), as_json, "\n".join(pack.lines(out, manifest)))


@app.command()
def pretrain(
    config: Annotated[str, typer.Option(help="classroom-hubert, classroom-wav2vec2 or a file.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the teacher; an interrupted run is resumed.")
    ],
) -> None:
    """Pre-train a small teacher without labels."""
    from oskdft.training.pretraining import objectives
    from oskdft.training.pretraining import pretrain as module

    module.run(objectives.load_recipe(config), out)


@app.command()
def train(
    out: Annotated[
        Path | None, typer.Option(help="Run folder; new, or with --resume an interrupted one.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    profile: Annotated[str, typer.Option(help="Preset or YAML file.")] = "classroom",
    strategy: Annotated[str, typer.Option(help="os-kdft or one of its rivals.")] = "",
    init: Annotated[
        str,
        typer.Option(
            help='Trained student to start from: run folder, exported folder, "classroom".'
        ),
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")] = False,
    check: Annotated[
        str,
        typer.Option(
            help="Recordings decoded before the first step: validation (those that it needs) or full."
        ),
    ] = "validation",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do all checks, time a few updates, keep nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a speaker model."""
    from oskdft import config

    if check not in ("validation", "full"):
        raise ValueError(f"--check is {check!r}; choose validation or full")
    changes = settings(overrides or []) | ({"strategy": strategy} if strategy else {})
    changes |= {"model.init": init} if init else {}
    cfg = config.load(profile).override(changes)
    if dry_run:
        from oskdft.training import plan

        found = plan.plan(cfg, check == "full")
        show(found, as_json, plan.plan_text(found))
        return
    if out is None:
        raise typer.BadParameter("name the run folder", param_hint="--out")
    from oskdft.training import train as module

    report = module.train(cfg, out, resume, full_check=check == "full")
    last = report["validations"][-1] if report.get("validations") else {}
    eer = f", development EER {100 * last['dev_eer']:.2f} %" if last else ""
    show(report, as_json, f"{out}: {report.get('seconds', 0):.0f} s{eer}")


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(help="Checkpoint of fairseq, unilm or s3prl, folder, or hub name.")
    ],
    out: Annotated[Path, typer.Option(help="New folder.")],
    backend: Annotated[
        str, typer.Option(help="Back-end of a student that the authors published; else beside it.")
    ] = "",
) -> None:
    """Turn weights of other projects into a folder: a teacher, or a student that the authors published."""
    from oskdft.storage import authors, foreign, pretrained

    if Path(source).is_file() and authors.is_student(foreign.load_pickle(source)):
        print(authors.import_student(source, out, backend))
    else:
        print(pretrained.import_encoder(source, out))


@app.command()
def evaluate(
    trials: Annotated[Path, typer.Option(help="Trial list.")],
    model: Model = "",
    root: Annotated[
        Path | None, typer.Option(help="Folder that the list's paths are relative to.")
    ] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="Folder of oskdft embed, in place of --model and --root.")
    ] = None,
    scores: Annotated[Path | None, typer.Option(help="Write the scores to this file.")] = None,
    enrol: Annotated[
        Path | None,
        typer.Option(help='Lines "model file file ...": the trials name these models first.'),
    ] = None,
    snorm: Annotated[Path | None, typer.Option(help="AS-norm with this cohort folder.")] = None,
    no_tta: Annotated[bool, typer.Option("--no-tta", help="Full utterances only.")] = False,
    groups: Annotated[
        str, typer.Option(help="Columns of the table of speakers, such as gender,age.")
    ] = "",
    channel: Channel = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure EER, minDCF and Cllr on a trial list, and who pays for the errors.

    A list without labels gives scores only. The processes of torchrun share the recordings; the first
    one prints and writes.
    """
    from oskdft.evaluation import evaluate as module
    from oskdft.utils import torchrun

    if embeddings:
        if model or root or snorm or groups or channel:
            raise ValueError("with --embeddings give --trials, --enrol and --scores alone")
        if torchrun.rank():
            return  # there are no recordings to share
        result = module.evaluate_embedded(embeddings, trials, scores, enrol)
        show(result, as_json, module.report_text(result))
        return
    if not model or root is None:
        raise ValueError("give --model and --root, or --embeddings")
    columns = [column.strip() for column in groups.split(",") if column.strip()]
    with torchrun.together():
        device = torchrun.device(device)
        result = module.evaluate(
            model, trials, root, scores, snorm, not no_tta, device, columns, channel, enrol
        )
    if result is not None:
        show(result, as_json, module.report_text(result))


@app.command()
def score(
    file: Path,
    columns: Annotated[
        str, typer.Option(help="What the columns are, such as id,id,label,score.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Compute the metrics of a score file.

    Its lines have the form "label score", "label id id score" or "id id label score".
    """
    from oskdft.evaluation import metrics, score_file
    from oskdft.utils import provenance

    names = [name.strip() for name in columns.split(",")] if columns else []
    result = score_file.score_file(file, names) | {"versions": provenance.versions()}
    trial_list = f"list          {result['list']}; a score file does not name it"
    text = [metrics.summary_text(result), trial_list, provenance.listed(result["versions"])]
    show(result, as_json, "\n".join(text))


@app.command()
def embed(
    files: Annotated[list[Path] | None, typer.Argument(help="Recordings.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With FILES: NumPy archive of embeddings [n, E] and paths [n]; else a folder."
        ),
    ] = None,
    root: Annotated[str, typer.Option(help="All recordings below this folder.")] = "",
    listed: Annotated[
        str, typer.Option("--list", help='File of lines "path", or "id path" with a tab between.')
    ] = "",
    scp: Annotated[str, typer.Option(help="wav.scp of Kaldi.")] = "",
    ark: Annotated[str, typer.Option(help="Also write PREFIX.ark and PREFIX.scp of Kaldi.")] = "",
    model: Model = "classroom",
    channel: Channel = 0,
    device: Device = "auto",
) -> None:
    """Write the embeddings of recordings; a folder is resumed, and torchrun shares the work.

    Recordings that are not fit for use are left out of a folder; the exit code is then 1.
    """
    from oskdft.utils import torchrun

    if out is None:
        raise ValueError("name where the embeddings go: --out")
    if files:
        from oskdft.evaluation import evaluate as module

        if root or listed or scp or ark:
            raise ValueError("give files, or one of --root, --list and --scp, not both")
        with torchrun.together():
            module.embed_to(files, out, model, torchrun.device(device), channel)
        return
    from oskdft.evaluation import embed_many
    from oskdft.utils.console import say
    from oskdft.utils.files import require_new

    for suffix in (".ark", ".scp") if ark else ():
        require_new(f"{ark}{suffix}", "--ark")

    found = embed_many.recordings(root, listed, scp)
    done = embed_many.embed_many(found, out, model, device, channel)
    say(f"{done.embedded} embeddings in {out}, {done.bad} recordings left out")
    for name, reason in done.reasons():
        say(f"left out: {name}: {reason}")
    if ark:
        embed_many.write_ark(out, ark)
    if done.bad:
        raise typer.Exit(1)


@app.command()
def verify(
    a: Path,
    b: Path,
    model: Model = "classroom",
    channel: Channel = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Decide whether two recordings have the same speaker."""
    from oskdft.evaluation import verifier

    result = verifier.load(model, device, quick=True).verify(a, b, channel=channel)
    word = "same speaker" if result["same"] else "different speakers"
    line = f"{word}: score {result['score']:.4f}, threshold {result['threshold']:.4f}, "
    if result["probability"] is None:
        line += "no probability: outside what this model knows"
    else:
        line += f"probability of the same speaker {100 * result['probability']:.1f} % (even odds)"
    show(result, as_json, line)


@app.command()
def sizes(as_json: Json = False) -> None:
    """Count parameters and reductions at published sizes."""
    from oskdft.lessons import costs

    result = costs.sizes()
    show(result, as_json, costs.sizes_table(result))


@app.command()
def sweep(
    grid: Annotated[
        str, typer.Argument(help="YAML file of a grid; table or keep: act on a finished sweep.")
    ],
    folder: Annotated[
        str, typer.Argument(help="With table or keep: the folder of the sweep.")
    ] = "",
    out: Annotated[str, typer.Option(help="Folder of the runs, or of what is kept.")] = "",
    on: Annotated[str, typer.Option(help="local, local:N, ray or ray:ADDRESS.")] = "local",
    resume: Annotated[bool, typer.Option("--resume", help="Resume a sweep.")] = False,
    add: Annotated[
        bool, typer.Option("--add", help="With keep: join the runs that --out keeps.")
    ] = False,
    reference: Annotated[str, typer.Option(help="Row that others are compared with.")] = "",
    figure: Annotated[
        str, typer.Option(help="Save a figure under this path, without suffix.")
    ] = "",
    form: Annotated[str, typer.Option(help="With table: text, markdown, csv or json.")] = "text",
) -> None:
    """Train and evaluate every run of a grid, print its table, or keep it without the weights."""
    if grid == "table":
        from oskdft.lessons import evidence

        print(evidence.printed(folder, reference, form, figure))
        return
    from oskdft.training import sweep as module
    from oskdft.training.grid import read_grid

    if not out:
        raise ValueError("name the folder to be written: --out DIR")
    if grid == "keep":
        from oskdft.lessons import kept

        print(kept.keep(folder, out, add))
        return
    result = module.sweep(read_grid(grid), out, on, resume)
    if failed := result["failed"]:
        count, (name, reason) = len(failed) + len(result["done"]), next(iter(failed.items()))
        raise ValueError(
            f"{len(failed)} of {count} runs failed, the first {name}: {reason}; mend the cause, then add "
            "--resume"
        )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def reproduce(
    rest: typer.Context,
    profile: Annotated[str, typer.Option(help="Preset or YAML file.")] = "classroom",
    only: Annotated[str, typer.Option(help='Numbers such as "04,05"; else all.')] = "",
    out: Annotated[str, typer.Option(help="Folder of the batch; else runs/PROFILE.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted batch.")] = False,
) -> None:
    """Run the notebooks in order and write a report.

    -p NAME VALUE sets a parameter of the notebooks and may be repeated.
    """
    from oskdft.commands import reproduce as module

    numbers = [number.strip() for number in only.split(",") if number.strip()]
    report = module.reproduce(profile, numbers, out, resume, parameters(rest.args))
    print(report)


@app.command()
def figures(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; compare with the stored pictures.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Folder with NAME.json beside NAME.png.")] = Path(
        "figures"
    ),
    as_json: Json = False,
) -> None:
    """Redraw stored figures from their numbers."""
    from oskdft.lessons.figures import store as module

    if not check:
        written = [str(path) for path in module.redraw_all(folder)]
        show(written, as_json, "\n".join(written))
        return
    results = module.check(folder)
    show(results, as_json, "\n".join(map(module.result_line, results)))
    if bad := [result for result in results if not result["ok"]]:
        raise ValueError(f"{folder}/{bad[0]['name']}: {bad[0]['why']}")


@app.command()
def grade(
    files: Annotated[list[Path], typer.Argument(help="Notebooks that a class hands in.")],
    as_json: Json = False,
) -> None:
    """Print which exercises of notebooks are right, from their stored outputs; runs nothing."""
    from oskdft.lessons import grade as module

    rows = module.grade(files)
    show({"notebooks": rows}, as_json, module.text(rows))
    if any(row["problem"] for row in rows):
        raise typer.Exit(1)


@app.command()
def export(
    to: Annotated[str, typer.Option(help="hf (safetensors and JSON), onnx, int8 or torch.")],
    out: Annotated[Path, typer.Option(help="New folder for the export.")],
    model: Model = "classroom",
    push: Annotated[
        str, typer.Option(help="USER/NAME: also send it to a new private repository of the hub.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Export a model, checked against the original."""
    from oskdft.storage import export as module

    report = module.export(model, to, out, push)
    sizes = ", ".join(f"{name} {size:,} bytes" for name, size in report["files"].items())
    sent = f"; sent to {report['address']}" if push else ""
    show(report, as_json, f"{out}: {sizes}{sent}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="One benchmark; without a name, all of them.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes: shows that it runs.")] = False,
    as_json: Json = False,
) -> None:
    """Measure speed and memory; results go to benchmarks/results.

    Further options go to the benchmark: --out FILE; deployment also --model M --trials LIST --root DIR.
    """
    from oskdft.commands import bench as module

    results = module.run(name, quick, as_json, context.args)
    if as_json:
        show(results, True, "")


def require_utf8() -> None:
    """Start Python again in its UTF-8 mode where names of files would be ASCII (LC_ALL=C)."""
    if sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"  # for its children too
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def main() -> None:
    """Run a command. An error is one line on stderr and exit code 1; SIGTERM gives 143."""
    require_utf8()
    keep_freed_memory()
    # --option=~/path: a shell expands ~ behind a blank only
    home = os.path.expanduser("~")
    words = [re.sub(r"^(--[\w-]+=)~(?=/)", rf"\1{home}", word) for word in sys.argv[1:]]
    try:
        with Interrupts():
            app(words)
    except SystemExit as stop:
        if stop.code in (STOPPED, HUNG_UP):
            name = "SIGTERM" if stop.code == STOPPED else "SIGHUP"
            print(f"oskdft: stopped by {name}", file=sys.stderr)
        raise
    except (ValueError, OSError, ImportError) as error:
        line = " ".join(str(error).split())
        if "torchaudio" in line:
            line += " (run oskdft doctor --fix)"
        elif isinstance(error, OSError) and error.errno and ";" not in line:
            line += "; check the path"  # the message of the system names no fix
        print(f"oskdft: {line}", file=sys.stderr)
        sys.exit(1)
