"""The doctor, on a torchaudio that is really broken: a copy whose extension does not load."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oskdft.commands import doctor

EXTENSION = "_torchaudio.abi3.so"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A copy of torchaudio, to be found before the installed one, with a text file as extension."""
    original = Path(importlib.util.find_spec("torchaudio").origin).parent
    copy = tmp_path / "torchaudio"
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("*.so*", "__pycache__"))
    (copy / "lib" / EXTENSION).write_text("linked against a library that is not here")
    return copy


def python(code: str, packages: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that looks into `packages` first."""
    environment = os.environ | {"PYTHONPATH": str(packages)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.slow
def test_a_torchaudio_that_cannot_load_is_repaired(broken: Path):
    before = python("import oskdft; print('oskdft loads'); import torchaudio", broken.parent)
    assert before.stdout == "oskdft loads\n"
    assert before.returncode != 0 and "OSError" in before.stderr and EXTENSION in before.stderr

    fixed = python("from oskdft.commands import doctor; print(doctor.repair())", broken.parent)
    assert fixed.returncode == 0, fixed.stderr
    assert f"set aside {EXTENSION}" in fixed.stdout
    assert [path.name for path in (broken / "lib").glob("_torchaudio*")] == [EXTENSION + ".aside"]

    after = python(
        "import torchaudio; from transformers import HubertModel; print(torchaudio.__file__)",
        broken.parent,
    )
    assert after.returncode == 0, after.stderr
    assert after.stdout.strip() == str(broken / "__init__.py")


@pytest.mark.slow
def test_a_broken_torchaudio_is_reported_with_the_fix(broken: Path):
    (broken.parent / "transformers.py").write_text("raise ImportError('torchaudio')")  # faster
    told = python(
        "import runpy; runpy.run_module('oskdft.commands.doctor', run_name='__main__')",
        broken.parent,
    )
    assert told.returncode == 1
    text = told.stdout.splitlines()
    at = next(i for i, line in enumerate(text) if line.startswith("BROKEN  torchaudio "))
    assert "OSError" in text[at]
    assert text[at + 1].strip() == "fix: oskdft doctor --fix"
    assert any(line.startswith("ok      torch ") for line in text)


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("", "[]"),
        (
            "raise ImportError('no torch')",
            "['torchaudio does not load (ImportError: no torch); make clean setup']",
        ),
    ],
    ids=["loads", "another fault"],
)
def test_an_extension_that_is_not_at_fault_stays_where_it_is(tmp_path: Path, module, told):
    (tmp_path / "torchaudio" / "lib").mkdir(parents=True)
    (tmp_path / "torchaudio" / "__init__.py").write_text(module)
    (tmp_path / "torchaudio" / "lib" / EXTENSION).write_text("fine")
    done = python("from oskdft.commands import doctor; print(doctor.repair())", tmp_path)
    assert done.stdout == f"{told}\n", done.stderr
    assert [path.name for path in (tmp_path / "torchaudio/lib").iterdir()] == [EXTENSION]


def test_a_library_that_crashes_does_not_silence_the_others(tmp_path: Path):
    (tmp_path / "soundfile.py").write_text("import os; os.abort()")
    for name in ("torch", "torchaudio", "transformers"):  # light stand-ins: only the order matters
        (tmp_path / f"{name}.py").write_text("raise ImportError('stand-in')")
    told = python("from oskdft.commands import doctor; print(doctor._libraries())", tmp_path)
    assert "name='torch', ok=False, detail='ImportError: stand-in'" in told.stdout
    assert "name='soundfile', ok=False, detail='the test process ended" in told.stdout


def test_data_folder_is_listed(tmp_path: Path, monkeypatch):
    (tmp_path / "speechocean762").mkdir()
    monkeypatch.setenv("OSKDFT_DATA", str(tmp_path))
    assert doctor._data().detail == f"{tmp_path}: speechocean762"
    monkeypatch.setenv("OSKDFT_DATA", str(tmp_path / "gone"))
    assert doctor._data().detail.endswith("gone is not a folder") and doctor._data().fix
