"""The batch: refusals, progress, resume, failures, the report; and one real notebook."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from oskdft.commands import cli, reproduce
from oskdft.lessons.lesson import ROOT
from oskdft.utils.files import read_json, write_json

pytestmark = pytest.mark.slow

PARAMETERS = """profile = "smoke"  # preset
seed = 0  # of everything
device = "auto"  # auto, cpu, cuda
data_root = ""  # folder
output_dir = ""  # folder
save_figures = False  # keep
"""
LESSON = """from oskdft.lessons.lesson import setup
lesson = setup("01", profile, seed, device, data_root, output_dir, save_figures)
lesson.show("two", "bars", "Bars <&> stripes.", values={"a": 1.0, "b": 2.0}, unit="MB")
lesson.compare([("size <b>", "1", "paper", "2")])
"""
TABLE = """from oskdft.utils.console import table
print("of 2 seeds", table([("system", "EER"), ("<ours>", "3 %")]), sep="\\n")
"""


def write(folder, name: str, *sources: str) -> None:
    parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    book = new_notebook(cells=[parameters, *map(new_code_cell, sources)])
    book.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
    }
    nbformat.write(book, folder / f"{name}.ipynb")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in the place of notebooks/."""
    made = tmp_path / "notebooks"
    made.mkdir()
    monkeypatch.setattr(reproduce, "NOTEBOOKS", made)
    return made


def test_refusals_come_first_and_in_one_line(folder, tmp_path):
    write(folder, "01_one", "1 / 0")
    out = tmp_path / "batch"
    for arguments, line in (
        ({"profile": "clasroom"}, "no profile 'clasroom'; choose smoke"),
        ({"only": ["7"]}, "no notebook '7'; choose from 01"),
        (
            {"parameters": {"sed": 1}},
            "no notebook has the parameter 'sed'; known: data_root, device",
        ),
        ({"parameters": {"output_dir": "x"}}, "use --out"),
        ({"parameters": {"profile": "desk"}}, "use --profile"),
    ):
        with pytest.raises(ValueError, match=line) as error:
            reproduce.reproduce(**({"profile": "smoke", "out": out} | arguments))
        assert "\n" not in str(error.value)
    assert not out.exists()


def test_no_notebooks(folder):
    with pytest.raises(ValueError, match="run this from a clone of the project"):
        reproduce.select(None)


def test_the_series_is_chosen_by_number():
    chosen = [reproduce.number_of(path.name) for path in reproduce.select(["07", "03b", "03"])]
    assert chosen == ["03", "03b", "07"]


def test_words_become_parameters():
    words = ["-p", "seed", "3", "-p", "data_root", ""]
    assert cli.parameters(words) == {"seed": 3, "data_root": ""}
    with pytest.raises(ValueError, match="'-p seed' is not understood; write -p NAME VALUE"):
        cli.parameters(["-p", "seed"])


def test_batch_report_and_resume(folder, tmp_path, capsys):
    write(folder, "01_one", LESSON, TABLE)
    write(folder, "02_two", "assert seed == 5")
    out, given = tmp_path / "batch", {"seed": 5}
    report = reproduce.reproduce("smoke", out=out, parameters=given)
    said = capsys.readouterr().err
    assert "[1/2] 01_one ..." in said and "[2/2] 02_two: " in said
    text = report.read_text()
    assert report == out / "report.html" and "<td>size &lt;b&gt;</td>" in text
    assert 'src="figures/01_two_smoke.svg"' in text and "Bars &lt;&amp;&gt; stripes." in text
    assert 'alt="Bars in MB: a 1 and b 2.' in text and 'href="notebooks/02_two.html"' in text
    assert "<pre>of 2 seeds\nsystem | EER\n-------+----\n&lt;ours&gt; | 3 %" in text
    assert text.count("size &lt;b&gt;") == 1, "the comparison is a table already"
    assert {path.name for path in (out / "notebooks").glob("*.html")} == {
        "01_one.html",
        "02_two.html",
    }
    assert (out / "figures" / "01_two_smoke.svg").is_file()

    with pytest.raises(ValueError, match="holds a batch; add --resume to continue it"):
        reproduce.reproduce("smoke", out=out, parameters=given)
    write(folder, "02_two", "assert seed == 5", "print('changed')")
    reproduce.reproduce("smoke", out=out, resume=True, parameters=given)
    said = capsys.readouterr().err
    assert "01_one: done before" in said and "02_two: done before" not in said
    executed = nbformat.read(out / "notebooks" / "02_two.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "changed\n"


def test_long_notebook_says_where_it_is(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reproduce, "LOG_S", 0.05)
    write(folder, "01_one", "import time", "time.sleep(0.5)")
    reproduce.reproduce("smoke", out=tmp_path / "batch")
    assert "[1/1] 01_one: cell 4 of 4, " in capsys.readouterr().err


def test_resume_says_that_the_package_is_another(folder, tmp_path, capsys):
    """The notebook is the same and is not run again, but what it imports may have changed."""
    write(folder, "01_one", "print(1)")
    out = tmp_path / "batch"
    reproduce.reproduce("smoke", out=out)
    capsys.readouterr()
    reproduce.reproduce("smoke", out=out, resume=True)
    assert "01_one: done before" in (said := capsys.readouterr().err) and "commit" not in said
    state = read_json(out / "reproduce.json")
    state["01_one"]["commit"] = "0ld"
    write_json(out / "reproduce.json", state)
    reproduce.reproduce("smoke", out=out, resume=True)
    said = capsys.readouterr().err
    assert "at commit 0ld; here is " in said and "choose another --out" in said


def test_kernel_listens_to_nobody_else(folder, tmp_path):
    """Its sockets lie in a folder that only their owner can enter, and that goes with the kernel."""
    look = """import os
from pathlib import Path
from ipykernel.connect import get_connection_info
info = get_connection_info(unpack=True)
private = Path(info["ip"]).parent
print(info["transport"], oct(private.stat().st_mode)[-3:], os.listdir("."), private, sep="\\n")
"""
    write(folder, "01_one", look)
    reproduce.reproduce("smoke", out=tmp_path / "batch")
    executed = nbformat.read(tmp_path / "batch" / "notebooks" / "01_one.ipynb", as_version=4)
    transport, mode, beside, private = executed.cells[-1].outputs[0].text.splitlines()
    assert (transport, mode, beside) == ("ipc", "700", "['01_one.ipynb']")
    assert not Path(private).exists()


WHICH = "import sys\nprint('python:', sys.executable)"


def test_the_kernel_is_this_python_whatever_the_user_has_installed(folder, tmp_path, monkeypatch):
    """In a classroom the environment is shared, and each user may have a kernel "python3"."""
    user = tmp_path / "user"
    spec = user / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"argv": ["/bin/false"], "display_name": "mine", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(user))
    write(folder, "00_a", WHICH)
    reproduce.reproduce("smoke", out=tmp_path / "out")
    assert f"python: {sys.executable}" in (tmp_path / "out/notebooks/00_a.ipynb").read_text()
    assert os.environ["JUPYTER_PATH"] == str(user)


def test_a_long_temporary_folder_leaves_room_for_sockets(folder, tmp_path, monkeypatch):
    long = tmp_path / ("a" * 60) / ("b" * 60)
    long.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    write(folder, "00_a", WHICH)
    reproduce.reproduce("smoke", out=tmp_path / "out")
    assert "python: " in (tmp_path / "out/notebooks/00_a.ipynb").read_text()


def test_failing_notebook_then_resume(folder, tmp_path, capsys):
    write(folder, "01_one", "print(1)")
    write(folder, "02_two", "print(2)", "raise KeyError('no such voice')")
    out = tmp_path / "batch"
    with pytest.raises(
        ValueError, match="02_two stopped at cell 3: KeyError: 'no such voice'"
    ) as error:
        reproduce.reproduce("smoke", out=out)
    assert "\n" not in str(error.value) and "add --resume" in str(error.value)
    assert (out / "notebooks" / "02_two.ipynb").is_file() and not (out / "report.html").exists()
    assert list(read_json(out / "reproduce.json")) == ["01_one"]
    write(folder, "02_two", "print(2)", "print(3)")
    capsys.readouterr()
    assert reproduce.reproduce("smoke", out=out, resume=True).is_file()
    said = capsys.readouterr().err
    assert "[1/2] 01_one: done before" in said and "[2/2] 02_two ..." in said


def test_profile_file_is_found_from_anywhere(folder, tmp_path, monkeypatch):
    """The notebooks run in their own folder, the name of the file was given in another."""
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    write(folder, "01_one", "from oskdft.config import load", "assert load(profile).name == 'mine'")
    monkeypatch.chdir(tmp_path)
    assert reproduce.reproduce("mine.yaml", out=tmp_path / "batch").is_file()


def test_names_in_the_report_are_escaped(tmp_path):
    """Figures and notebooks may carry any name a file can have."""
    name = "01_a&b <c>#1"
    out = tmp_path / "batch"
    record = {"alt": '"quoted" <alt>', "caption": "a < b"}
    write_json(out / "figures" / f"{name}.json", record)
    (out / "notebooks").mkdir()
    nbformat.write(new_notebook(), out / "notebooks" / f"{name}.ipynb")
    text = reproduce.write_report(out, "smo<ke", {name: {"seconds": 1.0}}).read_text()
    assert "<c>" not in text and "<alt>" not in text and "smo<ke" not in text
    assert 'src="figures/01_a%26b%20%3Cc%3E%231.svg"' in text
    assert 'href="notebooks/01_a%26b%20%3Cc%3E%231.html"' in text
    assert (out / "notebooks" / f"{name}.html").is_file()


def test_real_notebook_runs_from_the_repository_root(tmp_path):
    """As a user calls papermill, with another seed; nothing depends on the working folder."""
    copy = tmp_path / "01.ipynb"
    words = ["notebooks/01_scores_and_errors.ipynb", str(copy), "-k", "python3", "-p", "seed", "3"]
    command = [sys.executable, "-m", "papermill", *words, "-p", "output_dir", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    cells = nbformat.read(copy, as_version=4).cells
    assert any("seed = 3" in c.source for c in cells if "injected-parameters" in c.metadata.tags)
    printed = [o.text for c in cells for o in c.get("outputs", []) if o.output_type == "stream"]
    assert any("seed 3" in text for text in printed)
