"""The `oskdft` command: each subcommand is one call into a module, imported when it is used."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="One-step knowledge distillation and fine-tuning for speaker verification.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Corpora: what is here, get, make, check.", no_args_is_help=True)
app.add_typer(data, name="data")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Root = Annotated[
    Path | None,
    typer.Option(help="Folder of the corpus; default $OSKDFT_DATA/NAME, then data/NAME."),
]


def show(value: Any, as_json: bool, text: str) -> None:
    """Print a result for a person, or as one JSON object."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False) if as_json else text)


@app.command()
def doctor(
    fix: Annotated[bool, typer.Option(help="Repair what can be repaired.")] = False,
    as_json: Json = False,
) -> None:
    """What is installed, what works, what to do."""
    from oskdft import doctor as module

    if fix:
        for line in module.repair():
            print(line, file=sys.stderr)
    findings = module.diagnose()
    show(
        [f.__dict__ if hasattr(f, "__dict__") else f._asdict() for f in findings],
        as_json,
        "\n".join(module.lines(findings)),
    )
    if not all(f.ok for f in findings):
        raise typer.Exit(1)


@app.command()
def score(file: Path, as_json: Json = False) -> None:
    """Metrics of a score file: "label score" or "label id id score" lines."""
    from oskdft import metrics

    result = metrics.score_file(file)
    show(result, as_json, metrics.summary_text(result))


@app.command()
def sizes(as_json: Json = False) -> None:
    """Parameters and reductions at published sizes, random weights."""
    from oskdft import analysis

    result = analysis.sizes()
    show(result, as_json, analysis.sizes_table(result))


def main() -> None:
    """Run a command; a refusal is one line on stderr and exit code 1."""
    try:
        app()
    except (ValueError, OSError, ImportError) as error:
        print(f"oskdft: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("oskdft: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
