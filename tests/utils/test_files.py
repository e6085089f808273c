"""Files are whole or absent; weights are read strictly."""

import errno
import json
import os
import subprocess
import sys

import pytest
import torch

from oskdft.storage import tensors
from oskdft.training import run_folder
from oskdft.utils import files


def test_failure_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.atomic(target) as file:
        file.write("new")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


WRITING = """
import sys
from oskdft.utils import files
with files.atomic(sys.argv[1]) as file:
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_device_or_pipe_is_not_replaced(tmp_path):
    """A rename would put a file in the place of /dev/null, for all programs of a machine."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="pipe is no file .*name a new file"), files.atomic(pipe):
        pytest.fail("opened")
    with pytest.raises(ValueError, match="pipe is no file"):
        tensors.save_tensors(pipe, {"a": torch.zeros(2)})
    with pytest.raises(ValueError, match="pipe is no file"):
        tensors.stream_tensors(pipe, {"a": torch.zeros(2)})
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_the_next_write_removes_what_a_killed_one_left_and_nothing_else(tmp_path):
    """A process that is still writing the same file, another file's process, a user's own file."""
    others = [tmp_path / ".mine.part", tmp_path / ".a.txt.mine.part"]
    for path in others:
        path.write_text("precious")
    run, parts = [], []
    for name in ("a.txt", "a.txt", "b.txt"):  # one after the other, to know whose file is whose
        words = [sys.executable, "-c", WRITING, str(tmp_path / name)]
        run.append(
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert run[-1].stdout.readline() == "open\n"
        parts += [path for path in tmp_path.glob(".*.part") if path not in [*others, *parts]]
    killed, writing, elsewhere = parts
    for place in (0, 2):
        run[place].kill()
        run[place].communicate()
    with files.atomic(tmp_path / "a.txt") as file:
        file.write("new")
    assert set(tmp_path.iterdir()) == {tmp_path / "a.txt", writing, elsewhere, *others}
    run[1].communicate()  # it ends in its own way, and its write comes last
    assert (tmp_path / "a.txt").read_text() == "" and not writing.exists() and not killed.exists()


def test_a_folder_with_the_first_write_of_a_killed_process_is_new_or_its_own(tmp_path):
    """Found by the campaign: SIGKILL inside the first write, and the same command was refused."""
    words = [sys.executable, "-c", WRITING, str(tmp_path / "state.json")]
    run = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdout.readline() == "open\n"
    with pytest.raises(ValueError, match="not empty"):  # its process is still writing
        files.require_new_folder(tmp_path)
    assert files.require_own_folder(tmp_path, ["state.json"]) == tmp_path
    run.kill()
    run.communicate()
    assert files.require_new_folder(tmp_path) == tmp_path
    assert files.require_own_folder(tmp_path, ["state.json"]) == tmp_path
    with pytest.raises(ValueError, match=r"holds \.state\.json\..*\.part, which this command"):
        files.require_own_folder(tmp_path, ["other.json"])
    (tmp_path / ".state.json.mine.part").touch()  # no name that a write gives
    with pytest.raises(ValueError, match="not empty"):
        files.require_new_folder(tmp_path)
    with pytest.raises(ValueError, match=r"holds \.state\.json\.mine\.part"):
        files.require_own_folder(tmp_path, ["state.json"])


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_or_read_only_disk_names_the_target(tmp_path, monkeypatch, error):
    """The system names no file when a write fails, or the temporary one."""

    def fails(*_, **__):
        raise OSError(error, os.strerror(error))

    target = tmp_path / "a.txt"
    target.write_text("old")
    for call in ("fsync", "replace", "fdopen"):
        with monkeypatch.context() as patch:
            patch.setattr(files.os, call, fails)
            with pytest.raises(OSError, match="free some space or write elsewhere") as caught:
                files.write_json(target, 1)
        assert caught.value.filename == str(target) and caught.value.errno == error
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_folder_that_cannot_be_made_names_the_target(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match=r"write elsewhere: '.*taken/new/b\.json'"):
        files.write_json(tmp_path / "taken/new/b.json", 1)


def test_errors_of_the_writer_itself_pass(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, files.atomic(tmp_path / "a") as file:
        file.write((tmp_path / "source").read_text())
    assert caught.value.filename == str(tmp_path / "source")
    assert list(tmp_path.iterdir()) == []


def test_json_refuses_nan_and_damage(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"x": float("nan")})
    assert not path.exists()
    path.write_text("{")
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
        files.read_json(path)
    files.write_json(path, {"name": "ä"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "ä"}


def test_optimiser_round_trip():
    torch.manual_seed(0)
    nets = [torch.nn.Linear(3, 2) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    adams = [torch.optim.Adam(n.parameters(), lr=0.1) for n in nets]

    def step(i, x):
        adams[i].zero_grad()
        nets[i](x).square().sum().backward()
        adams[i].step()

    a, b = torch.randn(4, 3), torch.randn(4, 3)
    step(0, a)
    kept = run_folder.state_tensors("net", nets[0], adams[0])
    run_folder.restore(kept, "net", nets[1], adams[1])
    step(0, b)
    step(1, b)
    assert torch.equal(nets[0].weight, nets[1].weight)


def test_damaged_safetensors_are_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(ValueError, match=r"model\.safetensors is not a readable safetensors file"):
        tensors.load_tensors(path)
    tensors.save_tensors(path, {"a": torch.ones(2)})
    with pytest.raises(ValueError, match="missing weight, bias|missing bias, weight; left over a"):
        tensors.load_strictly(torch.nn.Linear(2, 1), tensors.load_tensors(path), str(path))
    with pytest.raises(ValueError, match="of another shape bias, weight"):
        tensors.load_strictly(
            torch.nn.Linear(2, 1),
            {"weight": torch.ones(3), "bias": torch.ones(3)},
            "model.safetensors",
        )
