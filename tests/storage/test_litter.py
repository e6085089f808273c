"""What a process leaves in the system's temporary folder when it is killed: nothing, voices least of all."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from oskdft.lessons.widgets import uploads
from oskdft.storage import export
from oskdft.storage.new_folder import new_folder
from oskdft.utils.lock import scratch_folder

KILLED = """
import os, sys
import onnx
from oskdft.storage import export
onnx.load = lambda path: os.kill(os.getpid(), 9)  # the model is quantised and not yet read again
export.export(sys.argv[1], "int8", sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_int8_export_leaves_nothing_in_the_temporary_folder(model_folder, tmp_path):
    (tmp_path / "temporary").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    out = tmp_path / "exports" / "student"
    command = [sys.executable, "-c", KILLED, str(model_folder), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert list((tmp_path / "temporary").iterdir()) == []
    (left,) = (tmp_path / "exports").iterdir()
    assert [path for path in left.rglob("*.onnx")], "it was killed in the middle"
    export.export(model_folder, "int8", out)
    assert [path.name for path in (tmp_path / "exports").iterdir()] == ["student"]
    assert tempfile.tempdir != str(out), "the place of temporary files is the system's again"


def test_an_upload_is_never_written_to_a_disk(tmp_path, monkeypatch):
    """Nor does the message about a bad one name another file than the user's."""

    def refused(*_, **__):
        raise AssertionError("an upload was written")

    wave = np.random.default_rng(0).normal(0, 0.1, 32_000)
    contents = {}
    for suffix, subtype in (
        ("wav", "PCM_16"),
        ("flac", "PCM_16"),
        ("ogg", "VORBIS"),
        ("mp3", None),
    ):
        path = tmp_path / f"a.{suffix}"
        soundfile.write(path, wave, 16_000, subtype)
        contents[f"a.{suffix}"] = path.read_bytes()
    monkeypatch.setattr(tempfile, "mkdtemp", refused)
    monkeypatch.setattr(tempfile, "mkstemp", refused)
    monkeypatch.setattr("builtins.open", refused)
    found = {name: uploads.read_upload(name, content).wave for name, content in contents.items()}
    monkeypatch.undo()
    for name, heard in found.items():
        assert len(heard) == 32_000 and np.corrcoef(heard, wave)[0, 1] > 0.7, name


STRANGER = """
import os, sys
from pathlib import Path
left = Path(sys.argv[1]) / ".out.abcdefgh.part"
left.mkdir()
(left / ".lock").symlink_to(sys.argv[2])
left.chmod(0o777)
os.lchown(left, 54321, 54321)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a file of another user")
def test_a_link_of_another_user_in_the_place_of_a_lock_is_not_followed(tmp_path):
    """In a folder that many may write: the lock would be emptied to hold the name of this process."""
    precious = tmp_path / "thesis.txt"
    precious.write_text("years of work")
    (tmp_path / "many").mkdir()
    subprocess.run(
        [sys.executable, "-c", STRANGER, str(tmp_path / "many"), str(precious)], check=True
    )
    with new_folder(tmp_path / "many" / "out") as folder:
        (folder / "a.txt").write_text("whole")
    assert precious.read_text() == "years of work"
    assert (tmp_path / "many" / "out" / "a.txt").is_file()
    assert (tmp_path / "many" / ".out.abcdefgh.part").is_dir()


IN_USE = """
import os, sys
from oskdft.utils.lock import scratch_folder
with scratch_folder() as folder:
    (folder / "half").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_scratch_folder_of_a_killed_process_goes_with_the_next_and_one_in_use_stays(
    tmp_path, monkeypatch
):
    """Of `reproduce` and of a plan: kernels, a run that is not kept."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    words = [sys.executable, "-c", IN_USE]
    run = [subprocess.Popen(words, env=environment, **pipes) for _ in range(2)]
    killed, used = (Path(one.stdout.readline().strip()) for one in run)
    assert killed.parent == used.parent == tmp_path
    run[0].kill()
    run[0].communicate()
    (tmp_path / ".oskdft.mine.part").mkdir()
    with scratch_folder() as folder:
        assert set(tmp_path.iterdir()) == {folder, used, tmp_path / ".oskdft.mine.part"}
    run[1].communicate()
    assert list(tmp_path.iterdir()) == [tmp_path / ".oskdft.mine.part"]
