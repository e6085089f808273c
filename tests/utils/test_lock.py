"""One writer of a folder: other processes and this one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oskdft.utils.lock import Lock

OTHER = "import sys\nfrom pathlib import Path\nfrom oskdft.utils.lock import Lock\nLock(Path(sys.argv[1]))"


def others_may_write(folder: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", OTHER, str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0 or "is being written by process" in done.stderr
    return done.returncode == 0


def test_a_process_gets_a_lock_once(tmp_path):
    with Lock(tmp_path / "r"):
        for same in (tmp_path / "r", tmp_path / "x" / ".." / "r"):
            (tmp_path / "x").mkdir(exist_ok=True)
            with pytest.raises(ValueError, match="is being written by this process"):
                Lock(same)
        assert not others_may_write(tmp_path / "r")
    lock = Lock(tmp_path / "r")
    del lock  # forgotten, as after an exception in a notebook
    Lock(tmp_path / "r").release()


def test_a_lock_that_a_copy_of_the_folder_has_freed_is_taken_again(tmp_path):
    with Lock(tmp_path / "r") as lock:
        shutil.copytree(
            tmp_path / "r", tmp_path / "copy"
        )  # closes a file: the system frees the lock
        lock.check()
        assert not others_may_write(tmp_path / "r")
        Lock(tmp_path / "copy").release()  # another folder
