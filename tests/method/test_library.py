"""transformers is imported in one place, without garbage collection."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "oskdft"
OTHERS = {  # what these import besides is light, or they import the library before
    "storage/pretrained.py": {"transformers.utils"},
    "training/pretraining/objectives.py": {
        "transformers", "transformers.models.wav2vec2.modeling_wav2vec2",
    },
}  # fmt: skip
START = """
import gc
import {module}
print(gc.isenabled(), gc.get_freeze_count())
"""


def test_no_other_module_imports_transformers_at_its_head():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        body += [inner for node in body if isinstance(node, ast.Try) for inner in node.body]
        names = {node.module for node in body if isinstance(node, ast.ImportFrom)}
        names |= {a.name for node in body if isinstance(node, ast.Import) for a in node.names}
        if taken := {name for name in names if name and name.split(".")[0] == "transformers"}:
            found[path.relative_to(PACKAGE).as_posix()] = taken
    assert found.pop("method/library.py") == {"transformers", "transformers.modeling_utils"}
    assert found == OTHERS


@pytest.mark.parametrize("module", ["oskdft.training.train", "oskdft.storage.export"])
@pytest.mark.slow
def test_what_stays_is_frozen_and_garbage_is_collected(module):
    words = [sys.executable, "-c", START.format(module=module)]
    enabled, frozen = subprocess.check_output(words, text=True).split()
    assert enabled == "True" and int(frozen) > 100_000
