"""A grid: the runs of a comparison, as rows and seeds, read from one YAML file."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from oskdft import config
from oskdft.config import Config
from oskdft.utils.schema import yaml_file

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .,()=+-]{0,60}")  # of a row, and so of a folder
ENTRIES = {"profile", "changes", "rows", "seeds", "reference"}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a grid: its row, its folder below the sweep's, its configuration."""

    row: str
    folder: str
    cfg: Config


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows times seeds.

    Attributes:
        profile: preset or YAML file of all runs. changes: of all runs, by dotted name.
        rows: name -> further changes. seeds: one run each. reference: the row that the others are
            compared with.
    """

    profile: str
    changes: dict[str, Any]
    rows: dict[str, dict[str, Any]]
    seeds: tuple[int, ...]
    reference: str

    def text(self) -> str:
        """The grid as the text of a grid file.

        >>> print(Grid("smoke", {}, {"a": {}}, (0,), "a").text(), end="")
        profile: smoke
        changes: {}
        rows:
          a: {}
        seeds: [0]
        reference: a
        """
        tree = asdict(self) | {"seeds": list(self.seeds)}
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None)

    def runs(self) -> list[Run]:
        """The runs, all rows of the first seed first: an interrupted sweep still compares.

        Raises:
            ValueError: an unknown setting or value, a row name that is no folder name, or two rows of
                one configuration.

        >>> grid = Grid("smoke", {}, {"a": {}, "b": {"strategy": "scratch"}}, (0, 1), "a")
        >>> [run.folder for run in grid.runs()]
        ['a_0', 'b_0', 'a_1', 'b_1']
        """
        base = config.load(self.profile).override(self.changes)
        configs = {}
        for row, changes in self.rows.items():
            if not NAME.fullmatch(row):
                raise ValueError(f"row {row!r} of the grid names a folder; use plain characters")
            try:
                configs[row] = base.override(changes)
            except ValueError as error:
                raise ValueError(f"row {row!r} of the grid: {error}") from None
            for other, cfg in configs.items():
                if other != row and cfg == configs[row]:
                    raise ValueError(
                        f"rows {other!r} and {row!r} of the grid are one configuration; remove one"
                    )
        return [
            Run(row, f"{row}_{seed}", cfg.override({"seed": seed}))
            for seed in self.seeds
            for row, cfg in configs.items()
        ]


def read_grid(path: str | Path) -> Grid:
    """Read a grid.

    A grid file has `profile`, `rows` (name -> changes), and where wanted `changes` (of all rows), `seeds`
    (default [0]) and `reference` (default: the first row).

    Raises:
        FileNotFoundError: no such file.
        ValueError: no grid; names the file and the entry.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "grid.yaml"
    >>> _ = path.write_text("profile: smoke\\nrows: {os-kdft: {}, scratch: {strategy: scratch}}")
    >>> read_grid(path).reference
    'os-kdft'
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; give the YAML file of a grid")
    tree = yaml_file(path)
    try:
        return _grid(tree if isinstance(tree, dict) else {})
    except ValueError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())[:300]}") from None


def _grid(tree: dict[str, Any]) -> Grid:
    """Check the entries of a grid file."""
    unknown = [name for name in tree if name not in ENTRIES]
    if unknown:
        raise ValueError(f"unknown entry {unknown[0]!r}; a grid has {', '.join(sorted(ENTRIES))}")
    rows, changes = tree.get("rows"), tree.get("changes") or {}
    if not isinstance(rows, dict) or not rows or not isinstance(changes, dict):
        raise ValueError("write `rows:` and below it `NAME: {setting: value}` lines")
    for row, of_row in rows.items():
        if not isinstance(of_row, dict | None):
            raise ValueError(f"row {row!r} is no `NAME: {{setting: value}}`")
    seeds = tree.get("seeds", [0])
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds) or not seeds:
        raise ValueError(f"seeds is {seeds!r}; write a list of whole numbers")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds is {seeds!r}; write each seed once")
    reference = str(tree.get("reference", next(iter(rows))))
    if reference not in map(str, rows):
        raise ValueError(f"reference is {reference!r}; choose one of the rows")
    named = {str(row): of_row or {} for row, of_row in rows.items()}
    return Grid(str(tree.get("profile", "classroom")), changes, named, tuple(seeds), reference)
