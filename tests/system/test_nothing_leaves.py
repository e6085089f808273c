"""Nothing leaves the machine: commands run in a network namespace of their own, with an empty home.

The namespace has a loopback device and no route. The kernel counts there whatever somebody tried to
send elsewhere, in Python or below it: datagrams without a route, and look-ups on loopback.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from oskdft.commands.doctor import CACHES
from oskdft.speech import audio

ROOT = Path(__file__).parents[2]
INSIDE = """
import fcntl, json, socket, struct, subprocess, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lo:  # loopback up: SIOCSIFFLAGS, IFF_UP
    fcntl.ioctl(lo, 0x8914, struct.pack("16sh14x", b"lo", 1))
done = subprocess.run(sys.argv[2:], capture_output=True, text=True)
counts = {}
for name in ("/proc/net/snmp", "/proc/net/snmp6"):
    lines = [line.split() for line in open(name)]
    if name.endswith("6"):
        counts |= {key: int(value) for key, value in lines}
    else:
        for head, values in zip(lines[::2], lines[1::2]):
            counts |= {head[0][:-1] + key: int(value) for key, value in zip(head[1:], values[1:])}
sent = {key: counts.get(key, 0) for key in ("IpOutNoRoutes", "Ip6OutNoRoutes", "UdpOutDatagrams")}
with open(sys.argv[1], "w") as file:
    json.dump({"sent": sent, "code": done.returncode, "said": done.stdout + done.stderr}, file)
"""


def isolated(words: list[str], home: Path, folder: Path) -> dict:
    """Run a command without a network: what it sent, its exit code and its words."""
    out = folder / "sent.json"
    out.unlink(missing_ok=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XDG", "HF_", "MPL", "JUPYTER", "IPYTHON", "ORT_", "NUMBA"))
    }
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    unshare = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--net", "--map-root-user"]
    command = [*unshare, sys.executable, "-c", INSIDE, str(out), *words]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if not out.is_file():
        pytest.skip(f"no network namespace here ({done.stderr.strip()[-100:]})")
    return json.loads(out.read_text())


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare of util-linux"),
]


def test_an_attempt_is_counted(tmp_path):
    """A datagram to a documentation address, and a look-up on loopback; neither can leave."""
    code = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    try_one = f"{code}s.sendto(b'x', ('192.0.2.1', 53))"
    found = isolated([sys.executable, "-c", try_one], tmp_path, tmp_path)
    assert found["sent"]["IpOutNoRoutes"] > 0
    look_up = f"{code}s.sendto(b'x', ('127.0.0.53', 53))"
    found = isolated([sys.executable, "-c", look_up], tmp_path, tmp_path)
    assert found["sent"]["UdpOutDatagrams"] == 1
    assert set(isolated(["true"], tmp_path, tmp_path)["sent"].values()) == {0}


COMMANDS = {
    "verify": "verify a.wav b.wav",
    "evaluate": "evaluate --trials list.txt --root . --model classroom --no-tta",
    "embed": "embed a.wav b.wav --out both.npz",
    "export": "export --to onnx --out exported",
    "train": "train --profile smoke --out run device=cpu train.epochs=1 train.steps_per_epoch=1",
    "doctor": "doctor",
    "reproduce": "reproduce --profile smoke --only 01 --out {out}",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_sends_nothing_and_writes_where_it_says(name, tmp_path):
    home, folder = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    rng = np.random.default_rng(0)
    for letter in "abc":
        audio.write(folder / f"{letter}.wav", 0.1 * rng.standard_normal(32_000))
    (folder / "list.txt").write_text("1 a.wav b.wav\n0 a.wav c.wav\n")
    words = COMMANDS[name].format(out=folder / "batch").split()
    found = isolated([sys.executable, "-m", "oskdft", *words], home, folder)
    assert found["code"] == 0, found["said"]
    assert set(found["sent"].values()) == {0}, found
    written = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    strange = [path for path in written if not path.startswith(tuple(f"{c}/" for c in CACHES))]
    assert not strange, "write elsewhere, or document it in `oskdft doctor`"
