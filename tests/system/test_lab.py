"""`make lab` gives a kernel to this machine's user alone, whatever a configuration of Jupyter says."""

import http.cookiejar
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# a configuration that opens the server: of an image, or of a course's own machine
OPEN = {
    "ServerApp": {
        "ip": "0.0.0.0", "allow_remote_access": True, "allow_root": True, "open_browser": False,
        "port_retries": 0,
    }
}  # fmt: skip
LISTENS = "0A"  # state in /proc/net/tcp


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The port and the token of a server that `make lab` has started."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "config").mkdir()
    (folder / "config" / "jupyter_server_config.json").write_text(json.dumps(OPEN))
    (folder / "notebooks").mkdir()
    port = free_port()
    names = ("CONFIG", "RUNTIME", "DATA")
    env = os.environ | {f"JUPYTER_{n}_DIR": str(folder / n.lower()) for n in names}
    env.pop("JUPYTER_TOKEN", None)
    words = ["make", "-o", ".venv/.ready", "lab", f"PORT={port}", f"PY={sys.executable}"]
    with open(folder / "log", "wb") as log:
        run = subprocess.Popen(
            [*words, f"NOTEBOOKS={folder / 'notebooks'}"], cwd=ROOT, env=env, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while not (told := list((folder / "runtime").glob("jpserver-*.json"))):
            assert time.monotonic() < until and run.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
        # the server writes this file before it listens
        while not answers(port):
            assert time.monotonic() < until and run.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
        yield port, json.loads(told[0].read_text())["token"]
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()


def status(port: int, path: str, data: bytes | None = None, opener=None, **headers: str) -> int:
    """The status of an answer; headers with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, named)
    try:
        with (opener or urllib.request.build_opener()).open(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("make") is None, reason="needs make"),
]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux")
def test_it_listens_to_this_machine_alone(lab):
    found = set()
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(name).read_text().splitlines()[1:] if Path(name).exists() else ():
            _, here, _, state, *_ = line.split()
            address, _, port = here.partition(":")
            if int(port, 16) == lab[0] and state == LISTENS:
                found.add(address)
    assert found == {"0100007F"}  # 127.0.0.1, as the kernel writes it


def test_it_answers_with_its_token_and_to_its_own_name_alone(lab):
    port, token = lab
    assert len(token) >= 40
    mine = {"Authorization": f"token {token}"}
    assert status(port, "/api/contents", **mine) == 200
    for wrong in ({}, {"Authorization": "token guess"}, {"Authorization": "token "}):
        assert status(port, "/api/contents", **wrong) == 403
        assert status(port, "/api/kernels", b"{}", **wrong) == 403
    # a name of somebody else's that was made to lead here
    for host in ("evil.example", f"evil.example:{port}"):
        assert status(port, "/api/contents", Host=host, **mine) == 403
    assert status(port, "/api/contents", Host=f"localhost:{port}", **mine) == 200


def test_it_asks_nobody_for_updates_or_news(lab):
    """JupyterLab asks PyPI whenever it is opened, and a page of its project for news."""
    port, token = lab
    found = {}
    for name in ("update", "news"):
        address = f"http://127.0.0.1:{port}/lab/api/{name}"
        request = urllib.request.Request(address, headers={"Authorization": f"token {token}"})
        began = time.monotonic()
        with urllib.request.urlopen(request, timeout=60) as answer:
            found[name] = json.load(answer)
        assert time.monotonic() - began < 5
    assert found == {"update": {"notification": None}, "news": {"news": []}}
    words = (ROOT / "Makefile").read_text()
    assert "check_for_updates_class=jupyterlab.NeverCheckForUpdate" in words


def test_a_page_of_another_origin_starts_no_kernel(lab):
    """With the cookie of the browser that is logged in."""
    port, token = lab
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    assert status(port, f"/lab?token={token}", opener=browser) == 200 and len(jar)
    assert status(port, "/api/contents", opener=browser) == 200
    elsewhere = {"Origin": "http://evil.example", "Content_Type": "application/json"}
    assert status(port, "/api/kernels", b"{}", opener=browser, **elsewhere) in (403, 404)
    assert status(port, "/api/kernels", b"{}", opener=browser, Content_Type="text/plain") == 403
    mine = {"Authorization": f"token {token}"}
    with urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{port}/api/kernels", headers=mine), timeout=60
    ) as answer:
        assert json.load(answer) == []
