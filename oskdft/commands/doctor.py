"""Check of the installation, and repair of torchaudio beside a CPU-only torch.

The wheel of torchaudio for Linux is linked against CUDA. Beside a torch without CUDA its native
extension fails to load, `import torchaudio` raises OSError, and transformers fails with it.
torchaudio runs in pure Python when the extension's files are absent, so the repair renames them.

Only the standard library is imported here, and a child process tries every other library: the
doctor reports libraries that fail to import, even those that crash the interpreter.
"""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ASIDE = ".aside"
EXTRAS = {"notebooks": ("papermill", "ipywidgets"), "export": ("onnx", "onnxruntime")}
AUDIO_FORMATS = ("WAV", "FLAC", "OGG", "MP3")
REINSTALL = "make clean setup"
REPAIR = "oskdft doctor --fix"
GIB = 2**30
# below the home folder, written by the package (first) and by libraries; all may be deleted
CACHES = (
    ".cache/oskdft", ".cache/huggingface", ".cache/matplotlib", ".config/matplotlib", ".cache/numba",
    ".cache/torch", ".cache/fontconfig", ".ipython", ".jupyter", ".local/share/jupyter",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    >>> lines([Finding("torch", True, "2.13.0+cpu")])
    ['ok      torch           2.13.0+cpu']
    """

    name: str
    ok: bool  # False: something that is required does not work
    detail: str
    fix: str = ""  # what to do; empty: nothing


def diagnose() -> list[Finding]:
    """Check Python, the libraries, the devices, the machine, the data and the offline switch.

    Returns:
        One `Finding` per subject.
    """
    python = Finding("python", True, f"{platform.python_version()} in {sys.prefix}")
    return [python, *_libraries(), _extras(), _machine(), _data(), _caches(), _offline()]


def repair() -> list[str]:
    """Set torchaudio's native extension aside if, and only if, loading it fails.

    Returns:
        A line about what was done, or about why nothing could be done; empty if torchaudio loads.
    Raises:
        OSError: the package folder cannot be written.

    >>> repair()  # nothing to do where torchaudio loads
    []
    """
    reason = _import_error("torchaudio")
    if not reason:
        return []
    spec = importlib.util.find_spec("torchaudio")  # finds the package without importing it
    files = _extension_files(Path(spec.origin).parent) if spec and spec.origin else []
    moved = [path.replace(path.with_name(path.name + ASIDE)) for path in files]
    if moved and not _import_error("torchaudio"):
        names = ", ".join(path.name.removesuffix(ASIDE) for path in moved)
        return [f"torchaudio: set aside {names} (as *{ASIDE}); it now runs in pure Python"]
    for path in moved:  # they were not the reason
        path.replace(path.with_name(path.name.removesuffix(ASIDE)))
    return [f"torchaudio does not load ({reason}); {REINSTALL}"]


def lines(findings: list[Finding]) -> list[str]:
    """Findings as text: `ok`, `note` (works, could be better) or `BROKEN`, and the fix below.

    >>> print(*lines([Finding("torch", False, "not installed", "make setup")]), sep="\\n")
    BROKEN  torch           not installed
            fix: make setup
    """
    text = []
    for finding in findings:
        mark = "BROKEN" if not finding.ok else "note" if finding.fix else "ok"
        text.append(f"{mark:7} {finding.name:15} {finding.detail}")
        if finding.fix:
            text.append(f"{'':8}fix: {finding.fix}")
    return text


def _extension_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("lib/*") if path.suffix in {".so", ".pyd"})


def _import_error(module: str) -> str:
    """The error of `import module` in a fresh interpreter, one line; empty if it works."""
    child = _child(f"import {module}")
    if child.returncode == 0:
        return ""
    return (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]


def _child(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, errors="replace"
    )


def _libraries() -> list[Finding]:
    child = _child("from oskdft.commands.doctor import _try_libraries; _try_libraries()")
    results = dict(json.loads(line) for line in child.stdout.splitlines())
    reason = f"the test process ended with status {child.returncode}"
    findings = []
    for name, (_, fix) in LIBRARIES.items():
        ok, detail = results.get(name, (False, reason))
        findings.append(Finding(name, ok, detail, "" if ok else fix))
    return findings


def _try_libraries() -> None:
    """In the child process: print one JSON line per library; a crash leaves the lines before it."""
    for name, (attempt, _) in LIBRARIES.items():
        try:
            with contextlib.redirect_stdout(sys.stderr):
                detail = attempt()
            ok = True
        except Exception as error:  # every failure is a finding
            text = " ".join(str(error).split()) or "no message"
            detail = f"{type(error).__name__}: {text[:200]}"
            ok = False
        print(json.dumps([name, [ok, detail]]), flush=True)


def _torch() -> str:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    return f"{torch.__version__} ({build})"


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none; everything runs on the CPU"
    devices = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return ", ".join(f"{device.name} {device.total_memory / GIB:.0f} GiB" for device in devices)


def _torchaudio() -> str:
    import torchaudio

    folder = Path(torchaudio.__file__).parent
    native = "with" if _extension_files(folder) else "without"
    return f"{torchaudio.__version__} ({native} native extension)"


def _transformers() -> str:
    import transformers
    from transformers import HubertModel, Wav2Vec2Model, WavLMModel  # noqa: F401 (loads lazily)

    return transformers.__version__


def _soundfile() -> str:
    import soundfile

    missing = set(AUDIO_FORMATS) - set(soundfile.available_formats())
    if missing:
        raise ValueError(f"libsndfile cannot read {', '.join(sorted(missing))}")
    return f"{soundfile.__version__} ({', '.join(AUDIO_FORMATS)})"


LIBRARIES: dict[str, tuple[Callable[[], str], str]] = {
    "torch": (_torch, REINSTALL),
    "GPU": (_gpu, REINSTALL),
    "torchaudio": (_torchaudio, REPAIR),
    "transformers": (_transformers, f"{REPAIR}; if that changes nothing, {REINSTALL}"),
    "soundfile": (_soundfile, REINSTALL),
}


def _extras() -> Finding:
    missing = [
        name for name, needs in EXTRAS.items() if not all(map(importlib.util.find_spec, needs))
    ]
    if missing:
        names = ",".join(missing)
        return Finding("extras", True, f"not installed: {names}", f"pip install -e '.[{names}]'")
    return Finding("extras", True, ", ".join(EXTRAS))


def _machine() -> Finding:
    allowed = getattr(os, "sched_getaffinity", None)  # Linux only: cores this process may use
    cores = len(allowed(0)) if allowed else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    disk = shutil.disk_usage(".").free / GIB
    detail = f"{cores} cores, {memory:.0f} GiB of memory, {disk:.0f} GiB of disk free here"
    return Finding("machine", True, detail)


def _data() -> Finding:
    root = os.environ.get("OSKDFT_DATA", "")
    advice = "export OSKDFT_DATA=/path/to/the/folder/that/holds/the/corpora"
    if not root:
        return Finding(
            "OSKDFT_DATA", True, "not set; the speech in the package needs no folder", advice
        )
    if not Path(root).is_dir():
        return Finding("OSKDFT_DATA", True, f"{root} is not a folder", advice)
    here = sorted(entry.name for entry in Path(root).iterdir() if entry.is_dir())
    return Finding("OSKDFT_DATA", True, f"{root}: {', '.join(here) or 'empty'}")


def _caches() -> Finding:
    """What lies in caches, so that a person can empty them."""
    home = Path(os.path.expanduser("~"))
    found = []
    for name in CACHES:
        files = [path for path in (home / name).rglob("*") if path.is_file()]
        if files:
            size = sum(path.lstat().st_size for path in files) / 2**20
            found.append(f"~/{name} {size:.1f} MB")
    if not found:
        return Finding("caches", True, f"none in {home}")
    return Finding("caches", True, f"{', '.join(found)}; delete any of them to empty it")


def _offline() -> Finding:
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    detail = "offline (HF_HUB_OFFLINE)" if offline else "may be asked for weights"
    return Finding("hub", True, detail)


if __name__ == "__main__":  # works where the command's own packages are missing
    if "--fix" in sys.argv:
        print(*repair(), sep="\n", file=sys.stderr)
    findings = diagnose()
    print(*lines(findings), sep="\n")
    sys.exit(not all(finding.ok for finding in findings))
