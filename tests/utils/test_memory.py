"""Work that does not fit into memory is refused before it starts."""

import multiprocessing

import pytest

from oskdft import config
from oskdft.commands import reproduce
from oskdft.training import train
from oskdft.utils import memory


def machine(tmp_path, monkeypatch, total: int, limit: str = "max", taken: int = 0) -> None:
    """A machine with so much memory left [bytes], in a container with that limit."""
    meminfo = f"MemTotal: 99 kB\nMemAvailable:   {total // 1024} kB"
    for name, text in {"meminfo": meminfo, "memory.max": limit, "memory.current": taken}.items():
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)


@pytest.mark.parametrize(
    ("limit", "taken", "left"),
    [("max", 0, 4_096_000), ("3000000", 1_000_000, 2_000_000), ("9000000", 0, 4_096_000)],
)
def test_the_smaller_of_machine_and_container_counts(tmp_path, monkeypatch, limit, taken, left):
    machine(tmp_path, monkeypatch, 4_096_000, limit, taken)
    assert memory.available() == left
    (tmp_path / "meminfo").unlink()  # as on a system without it
    assert memory.available() is None
    memory.require(1 << 60, "all needs", "nothing is refused where nothing is known")


@pytest.mark.parametrize(("start", "own"), [("fork", 30_000_000), ("forkserver", 181_000_000)])
def test_data_workers_that_do_not_fit_are_refused_with_the_number_that_does(
    start, own, tmp_path, monkeypatch
):
    """Room for five and a half workers, whose batches read ahead are small in profile smoke."""
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: start)
    machine(tmp_path, monkeypatch, round(5.5 * own))
    cfg = config.load("smoke").override({"data.workers": 16, "device": "cpu"})
    ahead = 2 * 2 * cfg.train.batch * cfg.data.crop_s * 16_000 * 4  # bytes
    fit = int(5.5 * own / (own + ahead))
    message = rf"GB of memory are free, data\.workers=16 need .*; set data\.workers={fit},"
    with pytest.raises(ValueError, match=message):
        train.train(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists() and fit >= 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # each process has its own workers
    with pytest.raises(ValueError, match=rf"set data\.workers={fit // 2},"):
        train.train(cfg, tmp_path / "run")


def test_a_batch_of_notebooks_says_at_once_that_memory_is_short(tmp_path, monkeypatch):
    """A machine with 4 GB on which other programs take half."""
    machine(tmp_path, monkeypatch, 2_000_000_000)
    with pytest.raises(ValueError, match=r"2\.0 GB of memory are free, the notebooks need 2\.4 GB"):
        reproduce.reproduce("smoke", ["00"], tmp_path / "batch")
    assert not (tmp_path / "batch").exists()
