"""The page in the browser without a browser: what it is built from, its 8-bit weights, its server."""

import gzip
import importlib.util
import json
import sys
import threading
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import oskdft
from oskdft.storage import export
from oskdft.storage.onnx_model import OnnxModel

APP = Path(__file__).parents[2] / "app"


def module(name: str):
    """A script of the folder app/."""
    spec = importlib.util.spec_from_file_location(f"app_{name}", APP / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_a_machine_without_npm_is_told_in_one_line(tmp_path, monkeypatch):
    build = module("build")
    monkeypatch.setattr(build, "WORK", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SystemExit, match="npm is not installed; install Node.js") as error:
        build.runtime()
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_lock_pins_every_package_by_content_and_names_no_host():
    wanted = json.loads((APP / "package.json").read_text())["dependencies"]
    packages = json.loads((APP / "package-lock.json").read_text())["packages"]
    assert packages.pop("")["dependencies"] == wanted
    for name, version in wanted.items():
        assert packages[f"node_modules/{name}"]["version"] == version
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert not any("resolved" in entry for entry in packages.values())


def test_page_and_server_forbid_every_other_place():
    [policy] = [
        line.partition('content="')[2].rpartition('"')[0]
        for line in (APP / "src" / "index.html").read_text().splitlines()
        if "Content-Security-Policy" in line
    ]
    of_server = module("serve").POLICY
    assert of_server == f"{policy}; frame-ancestors 'self'"
    allowed = {word for part in policy.split("; ") for word in part.split()[1:]}
    assert allowed == {"'none'", "'self'", "'wasm-unsafe-eval'", "data:"}


def test_eight_bit_weights_are_small_and_score_alike():
    model = oskdft.load("classroom", "cpu").model
    exact = export.to_onnx(model)
    small = module("data").eight_bit_weights(exact)
    assert len(small) < min(1e6, 0.3 * len(exact))
    wave = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    a, b = (OnnxModel(content).embed([wave])[0] for content in (exact, small))
    assert 0.999 < a @ b / np.linalg.norm(a) / np.linalg.norm(b) < 1


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Address of a served folder with a page, and a file that is also there compressed."""
    serve = module("serve")
    monkeypatch.setattr(serve, "DIST", tmp_path / "dist")
    (tmp_path / "secret.txt").write_text("secret")
    serve.DIST.mkdir()
    (serve.DIST / "index.html").write_text("page")
    (serve.DIST / "model.onnx").write_bytes(b"model")
    (serve.DIST / "model.onnx.gz").write_bytes(gzip.compress(b"model"))
    server = serve.Server(("127.0.0.1", 0), partial(serve.Handler, directory=serve.DIST))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def got(url: str, **headers: str):
    """Content and headers of an answer."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return answer.read(), answer.headers


def test_server_sends_compressed_copies_and_its_policy(served):
    content, headers = got(f"{served}/model.onnx", **{"Accept-Encoding": "gzip"})
    assert gzip.decompress(content) == b"model" and headers["Content-Encoding"] == "gzip"
    content, headers = got(f"{served}/model.onnx")
    assert content == b"model" and "Content-Encoding" not in headers
    content, headers = got(f"{served}/?lang=de")
    assert content == b"page" and headers["Content-Type"] == "text/html"
    assert "connect-src 'self'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/../secret.txt", "/%2e%2e/secret.txt", "/nothing"])
def test_server_sends_nothing_else(served, path):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        got(served + path)
