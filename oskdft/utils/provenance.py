"""Origin of a result: versions, commit, device and date, saved beside every number."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path

PACKAGES = ("torch", "torchaudio", "transformers", "accelerate", "numpy", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on, without importing them.

    >>> versions()["oskdft"]
    '0.1.0'
    """
    return {name: importlib.metadata.version(name) for name in (*PACKAGES, "oskdft")}


def listed(versions: dict[str, str]) -> str:
    """Versions in one line.

    >>> listed({"torch": "2.9.0", "oskdft": "0.1.0"})
    'torch 2.9.0, oskdft 0.1.0'
    """
    return ", ".join(f"{name} {version}" for name, version in versions.items())


@functools.cache
def facts() -> dict:
    """Package versions, git commit, device, cores, date.

    >>> sorted(facts())
    ['commit', 'cores', 'date', 'device', 'python', 'versions']
    """
    return {
        "versions": versions(),
        "python": platform.python_version(),
        "commit": commit(),
        "device": device_name(),
        "cores": cores(),
        "date": time.strftime("%Y-%m-%d"),
    }


def cores() -> int:
    """Cores that this process may use.

    >>> cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def commit() -> str:
    """Short hash of the checkout this package runs from, with "+" for local changes; "" outside git."""
    folder = Path(__file__).parents[1]

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True
        ).stdout.strip()

    try:
        short = git("rev-parse", "--short", "HEAD")
        return short + ("+" if short and git("status", "--porcelain", "--", ".") else "")
    except OSError:
        return ""


def device_name() -> str:
    """Name of the GPU, or of the processor with its vector instructions, which the name leaves open."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def digest(text: str) -> str:
    """First eight hexadecimal digits of the SHA-256 of a text.

    >>> digest("oskdft")
    'fec90e2c'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:8]
