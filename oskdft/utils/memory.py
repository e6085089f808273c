"""Memory that this process may still take, asked before work that would be killed without it."""

from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # limits of a container or of a batch system, version 2


def available() -> int | None:
    """Memory that processes of this machine may still take [bytes]; None where the system does not say.

    The smaller of what the system can free and what a container leaves.

    >>> available() is None or available() > 0
    True
    """
    try:
        rows = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = 1024 * int(rows["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit = int((CGROUP / "memory.max").read_text())  # "max": none
        free = min(free, max(limit - int((CGROUP / "memory.current").read_text()), 1))
    except (OSError, ValueError):
        pass
    return free


def require(need: int, what: str, fix: str) -> None:
    """Refuse work that does not fit into the memory that is left.

    Args:
        need: bytes. what: subject and verb, such as "the run needs". fix: the end of the message.
    Raises:
        ValueError: less is left; states both sizes.

    >>> require(0, "nothing needs", "go on")
    """
    free = available()
    if free is not None and free < need:
        raise ValueError(
            f"{free / 1e9:.1f} GB of memory are free, {what} {need / 1e9:.1f} GB; {fix}"
        )
