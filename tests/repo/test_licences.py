"""What is installed may be installed: licences from an allow-list, no GPL without the extra `media`."""

import re
import shutil
from pathlib import Path

import pytest

from tests.tools.licences import default_install, installed, licences, refused

ROOT = Path(__file__).parents[2]


def test_a_plain_installation_holds_allowed_licences_only():
    names = default_install()
    assert {"torch", "transformers", "soundfile", "scikit-learn"} <= names and "av" not in names
    assert refused(names) == {}


# Docutils names the GPL for an Emacs file beside its sources, which its wheel does not hold
KNOWN = {"av", "docutils"}


@pytest.mark.slow
def test_of_the_extras_only_media_carries_the_gpl():
    others = refused(installed().keys() - {"oskdft"})
    assert set(others) <= KNOWN, others
    if "docutils" in installed():
        assert not [file for file in installed()["docutils"].files if file.suffix == ".el"]
    if "av" in installed():
        assert "x26" in others["av"] and "x264" in (ROOT / "NOTICE").read_text()


def test_a_package_under_the_gpl_is_refused(tmp_path, monkeypatch):
    for name, line in (("bad", "License-Expression: GPL-3.0-or-later"), ("odd", "License: my own")):
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.4\nName: {name}\nVersion: 1\n{line}\n"
        )
    folder = tmp_path / "carrier-1.dist-info"
    shutil.copytree(tmp_path / "bad-1.dist-info", folder)
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: carrier\nVersion: 1\nLicense: MIT\n"
    )
    (folder / "RECORD").write_text("carrier.libs/libx264-d6.so.165,,\n")
    (tmp_path / "carrier.libs").mkdir()
    (tmp_path / "carrier.libs/libx264-d6.so.165").write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    assert licences(installed()["bad"]) == ["GPL-3.0-or-later"]
    assert refused(["bad", "odd", "carrier"]) == {
        "bad": "licence GPL-3.0-or-later",
        "odd": "licence my own",
        "carrier": "carries carrier.libs/libx264-d6.so.165",
    }


def test_workflow_actions_are_pinned_by_commit_and_have_least_rights():
    for path in sorted((ROOT / ".github/workflows").glob("*.yml")):
        text = path.read_text()
        uses = re.findall(r"uses: (\S+)(.*)", text)
        assert uses, path.name
        for action, note in uses:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), f"{path.name}: {action}"
            assert re.fullmatch(r" # v[\d.]+", note), f"{path.name}: {action} names no version"
        assert "\npermissions:\n  contents: read\n" in text
        assert text.count("write") == text.count("pages: write") + text.count("id-token: write")
