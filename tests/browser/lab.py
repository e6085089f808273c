"""A server on a free port, and a notebook page driven as a person would: menu, mouse, keyboard."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oskdft.lessons.widgets.recorder import CONSENT

ROOT = Path(__file__).parents[2]
SCREENS = ROOT / "runs" / "browser"  # screenshots to look at; runs/ is ignored
START_S = 90  # for a server
WAIT_MS = 30_000  # for anything on a page
RUN_MS = 240_000  # for all cells of a notebook
REST_MS = 400  # until a picture counts as the last of several drawings

PANEL = ".widget-vbox:has(> .widget-html style)"  # `oskdft.lessons.widgets.parts.Panel`
LINES = "[role=status], [role=alert]"
CONTROLS = (
    "select:not([disabled]), button:not([tabindex='-1']):not([disabled]), "
    "input[type=checkbox]:not([disabled]), .noUi-handle, audio"
)
MEASURES = """panel => {
  const shown = e => e.offsetParent !== null;
  const words = [...panel.querySelectorAll('*')].filter(e => shown(e) && e.tagName !== 'STYLE'
    && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
  const around = [];
  for (let e = panel; e; e = e.parentElement)
    if (e === panel || /auto|scroll/.test(getComputedStyle(e).overflowX))
      if (e.scrollWidth > e.clientWidth) around.push(`${e.className}: ${e.scrollWidth - e.clientWidth}`);
  return {
    smallest: Math.min(...words.map(e => parseFloat(getComputedStyle(e).fontSize))),
    wider: around,
    pictures: [...panel.querySelectorAll('img')].filter(shown).map(i => i.width / i.naturalWidth),
    stills: [...document.querySelectorAll('[class^=still-]')].filter(shown).length,
  };
}"""
NOTE_FOCUS = """panel => {
  const e = document.activeElement, look = getComputedStyle(e);
  if (!panel.contains(e) || (e.focusLook && e.tagName !== 'AUDIO')) return false;
  e.look = () => [look.outline, look.boxShadow, look.borderColor, look.backgroundColor].join();
  e.focusLook = e.look();
  return true;
}"""
FOCUSED = """(panel, controls) => {
  document.activeElement.blur();
  const shown = [...panel.querySelectorAll(controls)].filter(e => e.offsetParent !== null);
  const name = e => e.title || e.innerText || e.closest('.jupyter-widgets').innerText;
  return {
    missed: shown.filter(e => !e.focusLook).map(name),
    // an audio element draws the focus inside, around its own buttons
    unseen: shown.filter(e => e.focusLook && e.tagName !== 'AUDIO' && e.focusLook === e.look()).map(name),
  };
}"""

SETTINGS = {
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "docmanager-extension/plugin": {
        "autosave": False
    },  # each test finds the notebooks as they were
    "notebook-extension/tracker": {"windowingMode": "none"},  # all cells are in the page
}


def free_port() -> int:
    """A port of localhost that nobody uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def server(words: list[str], url: str, log: Path, env: dict[str, str]) -> Iterator[float]:
    """A process that answers at ``url``; yields the seconds that this took. Ends with all its children."""
    began = time.monotonic()
    with open(log, "w", encoding="utf-8") as stream:
        options = {"stdout": stream, "stderr": stream, "start_new_session": True, "cwd": ROOT}
        process = subprocess.Popen(words, env=os.environ | env, **options)
    try:
        _wait_for(url, process, log)
        yield time.monotonic() - began
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=START_S):
                return
        except urllib.error.HTTPError:  # refused, but by a server that is awake
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"no answer at {url}; the server said:\n{log.read_text()[-3000:]}")


@contextmanager
def jupyterlab(folder: Path, notebooks: Path) -> Iterator[str]:
    """`make lab` on ``notebooks``, with settings of its own below ``folder``; yields their address."""
    for name, content in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    env = {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }
    config = {
        "IdentityProvider": {"token": ""},
        "LabApp": {"extension_manager": "readonly"},
        "ServerApp": {"allow_root": True, "open_browser": False, "port_retries": 0},
    }
    (folder / "config").mkdir()
    (folder / "config" / "jupyter_server_config.json").write_text(json.dumps(config))
    url = f"http://127.0.0.1:{(port := free_port())}"
    with server(made("lab", port, f"NOTEBOOKS={notebooks}"), f"{url}/api", folder / "lab.log", env):
        yield f"{url}/lab/tree/{notebooks.name}"


def made(target: str, port: int, *more: str) -> list[str]:
    """The command ``make target``, with the Python of the tests; its environment counts as ready."""
    words = ["make", "-o", ".venv/.ready", target, f"PORT={port}", f"PY={sys.executable}"]
    return [*words, *more]


class Watched:
    """A page of the browser, what went wrong on it, and hands and eyes for the widget on it.

    Args:
        context: of Playwright; one page is made in it. name: of its screenshots.
    """

    def __init__(self, context: Any, name: str) -> None:
        self.page, self.name, self.errors = context.new_page(), name, []
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", self._console)
        self.page.on("filechooser", lambda chooser: None)  # from now on a test answers dialogs
        self.page.on("pageerror", lambda error: self.errors.append(f"page error: {error}"))

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    @property
    def widget(self) -> Any:
        """The panel that is visible."""
        return self.page.locator(f"{PANEL} >> visible=true").first

    def picture(self, what: str) -> None:
        """Keep a screenshot as an artefact."""
        SCREENS.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(REST_MS)
        self.page.screenshot(path=SCREENS / f"{self.name}-{what.replace(' ', '-')}.png")

    def says(self, part: str) -> str:
        """The line of the widget that contains ``part``."""
        return self.widget.locator(LINES).filter(has_text=part).first.inner_text()

    def changes(self, part: str, before: str) -> None:
        """Wait until the line that contains ``part`` is another than ``before``."""
        self.eventually(
            """([lines, part, before]) => [...document.querySelectorAll(lines)]
                .some(line => line.innerText.includes(part) && line.innerText !== before)""",
            [LINES, part, before],
        )

    def image(self) -> str:
        """Address of the picture when it rests; each drawing has its own."""
        source, before = self.widget.locator("img").first, None
        while before != (before := source.get_attribute("src")):
            self.page.wait_for_timeout(REST_MS)
        return before

    def redraws(self, before: str) -> None:
        """Wait until the picture is another than ``before`` and has arrived."""
        self.eventually(
            """([panel, before]) => [...document.querySelectorAll(panel + ' img')]
                .some(i => i.offsetParent && i.src !== before && i.complete && i.naturalWidth)""",
            [PANEL, before],
        )

    def _slider(self, label: str) -> Any:
        named = self.page.get_by_text(label, exact=True)
        return self.widget.locator(".widget-hslider").filter(has=named)

    def readout(self, label: str) -> str:
        """The value that stands beside a slider."""
        return self._slider(label).locator(".widget-readout").inner_text()

    def press(self, label: str, key: str, times: int = 1) -> None:
        """Press a key on a slider that has the focus."""
        self._focus(self._slider(label).locator(".noUi-handle"))
        for _ in range(times):
            self.page.keyboard.press(key)

    def drag(self, label: str, to: float) -> None:
        """Pull a slider with the mouse to a share of its length."""
        slider = self._slider(label)
        slider.scroll_into_view_if_needed()
        handle = slider.locator(".noUi-handle").bounding_box()
        track = slider.locator(".noUi-target").bounding_box()
        y = handle["y"] + handle["height"] / 2
        self.page.mouse.move(handle["x"] + handle["width"] / 2, y)
        self.page.mouse.down()
        self.page.mouse.move(track["x"] + to * track["width"], y, steps=5)
        self.page.mouse.up()

    def choose(self, label: str, value: str) -> None:
        """Choose in a list by keyboard: typing finds an option by its first letters."""
        box = self.page.get_by_label(label, exact=True)
        self._focus(box)
        self.page.keyboard.type(value)
        assert box.input_value() == value

    def upload(self, title: str, path: Path) -> None:
        """Choose a file in the dialog that Enter on a button opens."""
        self._focus(self.widget.get_by_title(title))
        with self.page.expect_file_chooser() as chooser:
            self.page.keyboard.press("Enter")
        chooser.value.set_files(path)

    def record(self, which: str, seconds: float) -> None:
        """Record from the browser's microphone by keyboard: Enter starts it, Enter ends it.

        Meanwhile the level moves and the clock goes; behind it the consent line is back.
        """
        consent = self.widget.get_by_text(CONSENT)
        before = consent.count()
        self._focus(self.widget.get_by_title(f"record the {which}"))
        self.page.keyboard.press("Enter")
        self.page.get_by_role("button", name="stop", exact=True).wait_for()
        self.eventually(
            "() => [...document.querySelectorAll('meter')].some(m => m.value > 0.01)", None
        )
        self.widget.get_by_text(re.compile(r"^(?!0\.0)\d+\.\d s of at most 10 s\.$")).wait_for()
        self.page.wait_for_timeout(1_000 * seconds)
        self.page.keyboard.press("Enter")
        self.page.get_by_role("button", name="stop", exact=True).wait_for(state="hidden")
        self.page.wait_for_timeout(300)  # for what the microphone sent last
        assert consent.count() == before > 0

    def plays(self, title: str) -> float:
        """Press play where it does not play yet, and wait until it sounds; returns the length [s]."""
        sound = self.widget.locator(f'audio[title="{title}"]')
        sound.scroll_into_view_if_needed()
        sound.evaluate("a => new Promise(go => a.duration ? go() : a.onloadedmetadata = go)")
        if sound.evaluate("a => a.paused && !a.currentTime"):
            sound.click(position={"x": 20, "y": 20})
        self.eventually(
            """title => [...document.querySelectorAll('audio')]
                .some(a => a.title === title && a.src && a.currentTime > 0)""",
            title,
        )
        return sound.evaluate("a => a.duration")

    def _focus(self, element: Any) -> None:
        """Give it the focus until it stays: JupyterLab takes it once, for the cell around it."""
        for _ in range(20):
            element.focus()
            self.page.wait_for_timeout(200)
            if element.evaluate("e => e === document.activeElement"):
                return
        raise AssertionError(f"the focus does not stay on {element}")

    def measures(self) -> dict:
        """What makes a widget readable: sizes of letters and pictures [pixels], what is too wide."""
        return self.widget.evaluate(MEASURES)

    def tab_through(self) -> dict[str, list[str]]:
        """Tab from the first control to the last: those missed, and those that do not show the focus."""
        self.widget.locator(CONTROLS).first.focus()
        while self.widget.evaluate(NOTE_FOCUS):
            self.page.keyboard.press("Tab")
        return self.widget.evaluate(FOCUSED, CONTROLS)

    def eventually(self, question: str, argument: object) -> None:
        self.page.wait_for_function(question, arg=argument, timeout=WAIT_MS)


class Notebook(Watched):
    """A notebook open in JupyterLab."""

    def open(self, url: str) -> None:
        """Load it and wait for the kernel; the file browser is closed, as for a projector."""
        self.page.goto(f"{url}/{self.name}.ipynb?reset")
        self.page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        self.page.locator("#jp-main-statusbar", has_text="| Idle").wait_for(timeout=RUN_MS)
        self.page.keyboard.press("Control+b")

    def open_alone(self, url: str) -> None:
        """The same in Notebook 7, which the server of JupyterLab serves too."""
        self.page.goto(f"{url.replace('/lab/tree/', '/notebooks/')}/{self.name}.ipynb")
        self.page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        ready = self.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        ready.wait_for(timeout=RUN_MS)

    def run_all(self) -> None:
        """Menu Run > Run All Cells; returns when each code cell has its number.

        The menu is used again where no cell has begun: Notebook 7 may show it before it works.
        """
        begun = self.page.locator(
            ".jp-CodeCell .jp-InputArea-prompt", has_text=re.compile(r"\[[*\d]")
        )
        for waited_ms in range(0, RUN_MS, REST_MS):
            if begun.count():
                break
            if waited_ms % WAIT_MS == 0:
                self.page.get_by_role("menuitem", name="Run", exact=True).click()
                self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            self.page.wait_for_timeout(REST_MS)
        self.page.wait_for_function(
            """() => [...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')]
                .every(p => /\\[\\d+\\]/.test(p.textContent))
                || document.querySelector('[data-mime-type="application/vnd.jupyter.error"]')""",
            timeout=RUN_MS,
        )

    def tracebacks(self) -> list[str]:
        """Error outputs of all cells."""
        return self.page.locator(
            '[data-mime-type="application/vnd.jupyter.error"]'
        ).all_inner_texts()
