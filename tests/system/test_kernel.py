"""A kernel that is killed in a batch: the cause, what is kept and how to go on, in one line."""

import nbformat
import pytest

from oskdft.commands import reproduce
from oskdft.utils.files import read_json
from tests.system.test_reproduce import write

pytestmark = pytest.mark.slow


def test_a_notebook_whose_kernel_is_killed_is_done_again(tmp_path, monkeypatch):
    folder, out = tmp_path / "notebooks", tmp_path / "batch"
    folder.mkdir()
    monkeypatch.setattr(reproduce, "NOTEBOOKS", folder)
    write(folder, "01_one", "print(1)")
    write(folder, "02_two", "import os", "os.kill(os.getpid(), 9)")
    with pytest.raises(
        ValueError, match=r"^02_two: its kernel has died, .*memory was full"
    ) as dead:
        reproduce.reproduce("smoke", out=out)
    line = str(dead.value)
    assert "\n" not in line and "add --resume" in line and " GB are free" in line
    assert list(read_json(out / "reproduce.json")) == ["01_one"]
    write(folder, "02_two", "print(2)")
    assert reproduce.reproduce("smoke", out=out, resume=True).is_file()
    executed = nbformat.read(out / "notebooks" / "02_two.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "2\n"
