"""Parts that the widgets share: a picture that redraws fast, a status line, a player, controls, a still.

Built on ipywidgets and anywidget, which run in JupyterLab and Notebook without a JavaScript build.
"""

import base64
import functools
import html
import io
from collections.abc import Callable, Iterable, Sequence

import ipywidgets
import numpy as np
import soundfile
from anywidget import AnyWidget
from IPython.display import display
from ipywidgets import HTML, Audio, FloatSlider, HBox, Image, Layout, VBox
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image as Pixels
from traitlets import Unicode

from oskdft.config import SAMPLE_RATE
from oskdft.lessons.figures.style import ALONE, Picture, style

WIDTH = "340px"  # of a control: three fit beside each other on a projector of 1280 pixels


class Screen:
    """A figure as an Image widget that is fast enough to follow a slider.

    The moving artists are drawn over a kept background: `draw` is fast, `refresh` draws everything.

    Args:
        figure: its layout is kept after the first drawing.
        moving: artists of its axes that change, the front one last.

    >>> from oskdft.lessons.figures.style import new
    >>> figure, ax = new()
    >>> (dot,) = ax.plot(0.5, 0.5, "o")
    >>> screen = Screen(figure, [dot])
    >>> before = bytes(screen.image.value)
    >>> dot.set_xdata([0.2])
    >>> screen.draw("A dot.")
    >>> after = bytes(screen.image.value)
    >>> after[1:4], after == before, screen.alt
    (b'PNG', False, 'A dot.')
    """

    def __init__(self, figure: Picture, moving: Iterable[Artist] = ()) -> None:
        self.image = Image(format="png")
        self.image.layout = Layout(
            max_width="100%", height="auto", object_fit="contain", margin="0"
        )
        self.show(figure, moving)

    def show(self, figure: Picture, moving: Iterable[Artist] = ()) -> None:
        """Put another figure in the same place."""
        self.figure, self.moving, self.alt = figure, list(moving), figure.alt
        self.canvas = FigureCanvasAgg(figure)
        width, height = (round(side * figure.dpi) for side in figure.get_size_inches())
        self.image.width, self.image.height = str(width), str(height)
        for artist in self.moving:
            artist.set_animated(True)  # not part of the background
        self.refresh()

    def refresh(self, alt: str | None = None) -> None:
        """Draw everything, the background too; ``alt`` describes the picture."""
        with style():
            self.canvas.draw()
        self.figure.set_layout_engine("none")  # solved once: axes must not jump, and it is slow
        self._background = self.canvas.copy_from_bbox(self.figure.bbox)
        self.draw(alt)

    def draw(self, alt: str | None = None) -> None:
        """Draw the moving artists over the kept background; ``alt`` describes the picture."""
        self.canvas.restore_region(self._background)
        for artist in self.moving:
            self.figure.draw_artist(artist)
        file = io.BytesIO()
        pixels = Pixels.fromarray(np.asarray(self.canvas.buffer_rgba())).convert("RGB")
        pixels.save(file, format="png", compress_level=1)  # five times as fast as the usual 6
        self.alt = self.alt if alt is None else alt
        self.image.value = file.getvalue()


class Status(HTML):
    """Lines of text for the user, escaped, and announced by screen readers.

    >>> status = Status()
    >>> status.say("a < b")
    >>> status.text, "a &lt; b" in status.value, status.bad
    ('a < b', True, False)
    """

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.say(text)

    def say(self, text: str, bad: bool = False) -> None:
        """Show ``text``, line by line; ``bad``: as an error, in a frame."""
        self.text, self.bad = text, bad
        lines = html.escape(text).replace("\n", "<br>")
        frame = "border-left:5px solid #b00020;background:#fdecef;padding:4px 10px;" if bad else ""
        role = "alert" if bad else "status"
        style = f"{frame}font-size:16px;line-height:1.4;"
        self.value = f'<div role="{role}" style="{style}">{lines}</div>' if text else ""

    def guard(self, work: Callable[..., None]) -> Callable[..., None]:
        """``work`` as a callback whose errors are shown here, in one line; the kernel goes on.

        Callbacks take turns: JupyterLab answers controls in two threads, which would draw over each other.

        >>> status = Status()
        >>> status.guard(lambda change: int("seven"))({})
        >>> status.bad, status.text
        (True, "invalid literal for int() with base 10: 'seven'")
        """

        @functools.wraps(work)
        def run(*args: object) -> None:
            try:
                with ALONE:
                    work(*args)
            except (ValueError, OSError) as error:  # the user can fix it
                self.say(str(error), bad=True)
            except Exception as error:  # a callback may neither vanish nor print a traceback
                self.say(f"{type(error).__name__}: {error}; this is a bug, please report", bad=True)

        return run

    def when(self, work: Callable[[], None], *controls: ipywidgets.Widget) -> None:
        """Call ``work`` when a control changes, or a button is clicked; guarded.

        >>> status, box = Status(), ipywidgets.Checkbox()
        >>> status.when(lambda: status.say("ticked"), box)
        >>> box.value = True
        >>> status.text
        'ticked'
        """
        run = self.guard(lambda _: work())
        for control in controls:
            if isinstance(control, ipywidgets.Button):
                control.on_click(run)
            else:
                control.observe(run, "value")


class OwnKeys(AnyWidget):
    """Invisible; keeps keys pressed in its box away from JupyterLab, which uses Enter and arrows for cells.

    >>> OwnKeys(layout={"display": "none"}).layout.display
    'none'
    """

    _esm = """
    // on the control itself: shortcuts are matched from it outwards, and some match whatever has the focus
    const keep = (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true");
    function render({ el }) {
      const box = el.parentElement;
      if (box) box.addEventListener("focusin", keep);
      else setTimeout(render, 50, { el });  // not in the page yet
    }
    export default { render };
    """


class Panel(VBox):
    """A widget with a still of its first state, for papermill, nbconvert and GitHub.

    The still is a separate output in front of the widget. A live front end draws the widget, and
    with it a style that hides the still.

    Args:
        children: of the box. screens: pictures of the still. statuses: texts of the still.

    >>> from oskdft.lessons.figures.style import new
    >>> line = Status("One axis.")
    >>> panel = Panel([line], [Screen(new()[0])], [line])
    >>> panel.still()["text/plain"]
    'One axis.'
    """

    def __init__(
        self,
        children: Sequence[ipywidgets.Widget],
        screens: Sequence[Screen],
        statuses: Sequence[Status],
    ) -> None:
        super().__init__()
        self.screens, self.statuses = list(screens), list(statuses)
        unseen = {"layout": {"display": "none"}}
        hides = HTML(f"<style>.still-{self.model_id} {{display: none}}</style>", **unseen)
        self.children = [hides, OwnKeys(**unseen), *children]

    def still(self) -> dict[str, str]:
        """The present state without a front end: MIME type -> content."""
        lines = [line.text for line in self.statuses if line.text]
        pictures = [
            f'<img alt="{html.escape(screen.alt)}" style="max-width:100%" '
            f'src="data:image/png;base64,{base64.b64encode(screen.image.value).decode()}">'
            for screen in self.screens
        ]
        text = "".join(f"<p>{html.escape(line)}</p>".replace("\n", "<br>") for line in lines)
        figure = f'<div class="still-{self.model_id}">{"".join(pictures)}{text}</div>'
        alts = [screen.alt for screen in self.screens if screen.alt]
        return {"text/html": figure, "text/plain": "\n".join([*alts, *lines])}

    def _ipython_display_(self) -> None:
        display(self.still(), raw=True)
        live = self._repr_mimebundle_() | {"text/plain": "Run this cell to use the controls."}
        display(live, raw=True)


class Player(Audio):
    """An Audio widget with a description, which the front end reads when there is a tooltip."""

    description = Unicode("").tag(sync=True)


def player(wave: np.ndarray, name: str) -> Audio:
    """An audio player with controls.

    Args:
        wave: [N] float samples in [-1, 1] at 16 kHz. name: for screen readers.

    >>> bytes(player(np.zeros(160), "silence").value[:4])
    b'RIFF'
    """
    size = Layout(width="240px")  # two clips fit beside each other on a projector
    return Player(
        value=wav(wave), format="wav", autoplay=False, loop=False, tooltip=name, layout=size
    )


def wav(wave: np.ndarray) -> bytes:
    """[N] float samples at 16 kHz as a 16-bit WAV file, the value of a `player`."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(wave, -1, 1), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def slider(
    name: str, value: float, low: float, high: float, step: float, form: str = ".2f"
) -> FloatSlider:
    """A slider with its name in full and an entry field; it calls back while it moves.

    >>> slider("threshold", 0.5, -1, 1, 0.01).value
    0.5
    """
    return FloatSlider(
        value=value, min=low, max=high, step=step, description=name, readout_format=form, **wide()
    )  # fmt: skip


def wide(width: str = WIDTH) -> dict[str, object]:
    """Arguments of a control that shows its description in full.

    >>> wide("98%")["layout"].width
    '98%'
    """
    return {"style": {"description_width": "initial"}, "layout": Layout(width=width)}


def spread(boxes: Sequence[ipywidgets.Widget]) -> HBox:
    """Boxes beside each other over the whole width, wrapped where there is no room."""
    return HBox(boxes, layout=Layout(justify_content="space-between", flex_flow="row wrap"))
