"""The wings of `oskdft` import each other in one direction; the method imports torch alone.

Every import counts: at the head of a module, inside a function, and in the examples of docstrings.
"""

import ast
import doctest
import graphlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "oskdft"
# a module imports from its own wing and from wings of a lower rank; of equal rank: strangers
RANKS = {
    "utils": 0,
    "config": 1,
    "method": 2,
    "speech": 2,
    "storage": 3,
    "evaluation": 4,
    "training": 5,
    "lessons": 6,
    "commands": 7,
}
ROOT_NAMES = {"load": "evaluation", "__version__": "utils"}  # `from oskdft import load`
METHOD_LIBRARIES = {"torch", "transformers", "numpy"}  # beside the standard library
TREE = {  # a package without faults
    "__init__": "def load():\n    from oskdft.evaluation import verifier\n",
    "utils/files": "import json\n",
    "config": "from oskdft.utils import files\n",
    "method/model": "import torch\nfrom oskdft.config import Config\n",
    "speech/audio": "import soundfile\nimport oskdft.utils.files\n",
    "storage/export": "from oskdft.method import model\nfrom oskdft.speech.audio import read\n",
    "evaluation/verifier": "from oskdft.storage import export\n",
    "lessons/lesson": "import oskdft\nfrom oskdft import load, __version__\n",
}


@dataclass(frozen=True)
class Import:
    """One imported module, with the module and the line that import it."""

    module: str  # importing, dotted: oskdft.method.model
    line: int
    name: str  # imported, dotted: oskdft.config, torch
    example: bool = False  # in a docstring


def modules(package: Path) -> dict[str, Path]:
    """Dotted name -> file of every module below a package."""
    paths = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    if not paths:
        raise ValueError(f"no module below {package}")
    return paths


def examples(tree: ast.Module) -> Iterator[tuple[int, ast.Module]]:
    """Line and code of each doctest example."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        text = ast.get_docstring(node) if isinstance(node, documented) else None
        if text:
            for example in doctest.DocTestParser().get_examples(text):
                yield node.body[0].lineno + example.lineno, ast.parse(example.source)


def imports_of(package: Path) -> list[Import]:
    """All imports of all modules of a package."""
    paths = modules(package)
    found = []
    for module, path in paths.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for line, name in imported_names(tree, paths):
            found.append(Import(module, line, name))
        for start, code in examples(tree):
            for line, name in imported_names(code, paths):
                found.append(Import(module, start + line - 1, name, example=True))
    return found


def imported_names(tree: ast.Module, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import; `from package import module` names the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield node.lineno, inner if inner in known or origin == "oskdft" else origin


def wing(name: str) -> str:
    """The wing of a dotted name, "" for the package itself."""
    part = (name.split(".") + [""])[1]
    return ROOT_NAMES.get(part, part)


def faults(package: Path) -> list[str]:
    """Every import that the rules refuse, and the first cycle, a line each."""
    found, graph = [], {}
    for one in imports_of(package):
        place = f"{one.module}, line {one.line}"
        if one.name.startswith("."):
            found.append(f"{place}: relative import; name the module from oskdft on")
        elif one.name.split(".")[0] == "oskdft":
            found += [f"{place}: {why}" for why in refusals(one.module, one.name)]
            if not one.example:
                graph.setdefault(one.module, set()).add(one.name)
        elif wing(one.module) == "method":
            library = one.name.split(".")[0]
            if library not in METHOD_LIBRARIES | sys.stdlib_module_names:
                found.append(f"{place}: method/ imports {library}; it may import torch alone")
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found.append(f"modules import each other: {' <- '.join(error.args[1])}")
    return found


def refusals(module: str, name: str) -> list[str]:
    """What is wrong with an import inside the package."""
    importer, imported = wing(module), wing(name)
    if importer in ("", "__main__"):
        return []  # the way in may import every wing
    if importer not in RANKS:
        return [f"{importer} is no wing; move the module into one of {', '.join(RANKS)}"]
    if imported == "":
        imported = ROOT_NAMES["load"]  # `import oskdft`
    if imported not in RANKS:
        return [f"imports {name}, which is in no wing"]
    if importer != imported and RANKS[imported] >= RANKS[importer]:
        return [f"{importer} imports {name}; the arrow runs up"]
    return []


def test_imports_run_in_one_direction():
    assert faults(PACKAGE) == []


def test_the_walk_reaches_every_wing_and_every_kind_of_import():
    assert {wing(name) for name in modules(PACKAGE)} == {"", "__main__", *RANKS}
    found = imports_of(PACKAGE)
    assert any(one.example for one in found)
    heads = {
        (name, node.lineno)
        for name, path in modules(PACKAGE).items()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    }
    assert any((one.module, one.line) not in heads for one in found if not one.example)


def test_a_tree_without_modules_is_an_error(tmp_path):
    (tmp_path / "oskdft").mkdir()
    with pytest.raises(ValueError, match="no module below"):
        faults(tmp_path / "oskdft")


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("utils/files", "from oskdft import config\n", "line 1: utils imports oskdft.config"),
        ("config", "import oskdft.method.model\n", "config imports oskdft.method.model"),
        ("method/model", "from oskdft.speech import audio\n", "method imports oskdft.speech.audio"),
        ("speech/audio", "from oskdft.method.model import A\n", "speech imports oskdft.method.model"),
        (
            "storage/export",
            "def f():\n    from oskdft.evaluation import verifier\n",
            "line 2: storage imports oskdft.evaluation.verifier",
        ),
        (
            "method/losses",
            'class A:\n    """A.\n\n    >>> 1\n    1\n    >>> from oskdft.storage import export\n    """\n',
            "line 6: method imports oskdft.storage.export",
        ),
        ("storage/export", "import oskdft\n", "storage imports oskdft; the arrow runs up"),
        ("storage/export", "from oskdft import load\n", "storage imports oskdft.load"),
        ("method/model", "import soundfile\n", "method/ imports soundfile"),
        ("method/model", "import scipy.signal as s\n", "method/ imports scipy"),
        ("method/model", "from . import losses\n", "relative import"),
        ("speech/deep/er/audio", "from oskdft.lessons import lesson\n", "speech imports oskdft.lessons"),
        ("attic/old", "from oskdft.utils import files\n", "attic is no wing"),
        ("lessons/lesson", "from oskdft.attic import old\n", "imports oskdft.attic, which is in no wing"),
    ],
)  # fmt: skip
def test_a_planted_import_is_refused(tmp_path, module, source, fault):
    plant(tmp_path, TREE)
    assert faults(tmp_path / "oskdft") == []
    plant(tmp_path, {module: source})
    assert fault in faults(tmp_path / "oskdft")[0]  # an arrow that runs up may close a cycle, too


def test_a_planted_cycle_is_refused(tmp_path):
    plant(tmp_path, TREE)
    plant(tmp_path, {"utils/files": "def f():\n    from oskdft.utils import console\n"})
    assert faults(tmp_path / "oskdft") == []
    plant(tmp_path, {"utils/console": "from oskdft.utils import files\n"})
    [line] = faults(tmp_path / "oskdft")
    assert "modules import each other: oskdft.utils." in line


def plant(folder: Path, sources: dict[str, str]) -> None:
    """Write modules of a package."""
    for name, source in sources.items():
        path = folder / "oskdft" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
