"""Who is it? Two recordings with picture, score, probability and decision; noise and room to add."""

import math
from functools import partial
from pathlib import PurePath

import numpy as np
import torch
from ipywidgets import Dropdown, FileUpload, HBox, Layout, SelectionSlider, VBox
from matplotlib.axes import Axes

from oskdft.config import SAMPLE_RATE
from oskdft.evaluation import scoring
from oskdft.evaluation.verifier import Verifier
from oskdft.lessons.figures.models import MELS, mel_ticks, wave_axes, waves_data
from oskdft.lessons.figures.style import COLOURS, Picture, needed, new, plain, styled
from oskdft.lessons.widgets.parts import Panel, Screen, Status, player, slider, spread, wav, wide
from oskdft.lessons.widgets.recorder import LIMIT_S, Recorder
from oskdft.lessons.widgets.uploads import MOST_BYTES, UPLOAD_LIMIT_S, USED_S, Clip, read_upload
from oskdft.speech.augment import add_noise, reverberate
from oskdft.speech.quality import doubts

NOISES = [("none", math.inf), *((f"{db} dB", float(db)) for db in (30, 25, 20, 15, 10, 5, 0, -5))]
ROOMS = [("none", 0.0), *((f"{s} s", s) for s in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5))]
ECHO_DB = -3.0  # energy of a room's echoes relative to the direct sound (our choice)
SCORES = (-0.25, 1.0)  # ends of the scale of scores in the picture
LEVELS_DB = 80.0  # between the darkest and the brightest level of the mel picture
HINT = (
    f"Your own voice: record it here, at most {LIMIT_S:g} s, or upload WAV, FLAC, OGG or MP3, at "
    f"most {UPLOAD_LIMIT_S / 60:.0f} minutes and {MOST_BYTES >> 20} MB; the first {USED_S:g} s are used."
)


def echoes(seconds: float) -> np.ndarray:
    """Impulse response of a simulated room [N]: the direct sound, then decaying noise.

    Args:
        seconds: until the echoes are 60 dB down, above 0.

    >>> room = echoes(0.5)
    >>> len(room), float(room[0]), round(float((room[1:] ** 2).sum()), 3)
    (8000, 1.0, 0.501)
    """
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    response = np.random.default_rng(0).normal(size=len(time)) * 10 ** (-3 * time / seconds)
    response[time < 0.002] = 0  # the first echo comes from the nearest wall
    response *= 10 ** (ECHO_DB / 20) / np.sqrt((response**2).sum())
    response[0] = 1
    return response.astype(np.float32)


def disturb(wave: np.ndarray, snr_db: float = math.inf, echo_s: float = 0.0) -> np.ndarray:
    """The wave with the echoes of a room and with white noise; lowered where it would clip.

    Args:
        wave: [N]. snr_db: signal-to-noise ratio, inf: no noise. echo_s: of `echoes`, 0: no room.
            The same values give the same noise and the same room.

    >>> wave = np.sin(np.arange(16000, dtype=np.float32))
    >>> np.array_equal(disturb(wave), wave), np.array_equal(disturb(wave, 10.0, 0.4), wave)
    (True, False)
    """
    row = torch.from_numpy(wave)[None]
    if echo_s:
        row = reverberate(row, torch.from_numpy(echoes(echo_s))[None])
    if math.isfinite(snr_db):
        noise = np.random.default_rng(1).standard_normal(len(wave), dtype=np.float32)
        row = add_noise(row, torch.from_numpy(noise)[None], snr_db)
    return (row / row.abs().max().clamp(min=1.0))[0].numpy()


@styled
def _figure() -> tuple[Picture, np.ndarray, Axes]:
    """Axes of two waveforms over two mel pictures, and of the scale below them."""
    figure, axes = new(2, 3, 12.4, 4.2, sharex=False, sharey="row", height_ratios=(1, 1.3, 0.25))
    figure.get_layout_engine().set(h_pad=0.03)
    scale = figure.add_subplot(axes[2, 0].get_gridspec()[2, :])
    for ax in axes[2]:
        ax.remove()
    for ax in axes[0]:
        ax.tick_params(labelbottom=False)
    axes[0, 0].set(ylim=(-1, 1), ylabel="amplitude")
    scale.set(xlim=SCORES, ylim=(0, 1), yticks=[], xlabel="score")
    scale.set_title("different speakers", loc="left")
    scale.set_title("same speaker", loc="right")
    return figure, axes[:2], scale


class WhoIsIt(Panel):
    """The widget that `who_is_it` makes; its controls are attributes."""

    def __init__(self, verifier: Verifier, clips: dict[str, np.ndarray], note: str) -> None:
        needed(clips, "clips")
        if verifier.threshold is None:
            raise ValueError("this model has no threshold; train it with development speakers")
        self.verifier = verifier
        self.clips = {name: Clip(wave) for name, wave in clips.items()}
        self.embeddings = {}  # of clips as they are
        self._make_controls()
        self.result, self.warnings, self.message = Status(), Status(), Status()
        self.result.layout.width = "520px"  # fixed, so that text does not move the sliders
        self._draw_first()
        above, *rest = self._arranged()  # the message about an upload stands beside its button
        below = [self.warnings, Status(HINT), Status(note)]
        lines = [self.result, self.message, *below]
        super().__init__([above, self.message, *rest, *below], [self.screen], lines)
        self._listen()

    def _make_controls(self) -> None:
        names = list(self.clips)
        self.choices = [
            Dropdown(options=names, value=name, description=which, **wide("190px"))
            for which, name in (("first", names[0]), ("second", names[:2][-1]))
        ]
        self.uploads = [
            FileUpload(
                accept=".wav,.flac,.ogg,.mp3", description="upload", tooltip=f"upload the {which}",
                layout=Layout(width="96px"),
            )
            for which in ("first", "second")
        ]  # fmt: skip
        self.recorders = [
            Recorder(f"record the {which}", partial(self._take, side, "recording.wav"))
            for side, which in enumerate(("first", "second"))
        ]
        self.noise = SelectionSlider(options=NOISES, description="noise in second", **wide("320px"))
        self.room = SelectionSlider(options=ROOMS, description="echoes in second", **wide("320px"))
        self.threshold = slider("threshold", self.verifier.threshold, -1, 1, 0.005, ".3f")
        self.prior = slider("prior of same speaker", 0.5, 0.01, 0.99, 0.01)

    def _arranged(self) -> list:
        """Recordings on top, then the picture, then the controls that change it."""
        self.players = [
            player(wave, f"play the {choice.description}")
            for wave, choice in zip(self.waves, self.choices, strict=True)
        ]
        pairs = zip(self.uploads, self.recorders, strict=True)
        sources = [VBox(list(pair), layout=Layout(overflow="visible")) for pair in pairs]
        rows = zip(self.choices, sources, self.players, strict=True)
        sides = [HBox(list(row), layout=Layout(align_items="center")) for row in rows]
        columns = [[self.noise, self.room], [self.threshold, self.prior], [self.result]]
        return [spread(sides), self.screen.image, spread([VBox(column) for column in columns])]

    def _listen(self) -> None:
        """Connect the controls; an error in a callback becomes a line in the widget."""
        self.listening = True
        guard = self.message.guard
        for choice in self.choices:
            choice.observe(guard(self._choose), "value")
        for control in (self.noise, self.room):
            control.observe(guard(self._disturb), "value")
        for control in (self.threshold, self.prior):
            control.observe(guard(self._judge), "value")
        for side, upload in enumerate(self.uploads):
            upload.observe(guard(lambda change, side=side: self._upload(side)), "value")
        for recorder in self.recorders:
            recorder.on_msg(guard(recorder.answer))

    @styled
    def _draw_first(self) -> None:
        """Draw the picture in its first state."""
        figure, self.axes, scale = _figure()
        self.waves = [self.clips[choice.value].wave for choice in self.choices]
        self.drawn = [
            wave_axes(*self.axes[:, side], "", self._data(side), (-LEVELS_DB, 0.0))
            for side in range(2)
        ]
        mel_ticks(self.axes[1, 0], SAMPLE_RATE)
        figure.colorbar(self.drawn[1][1], ax=self.axes[1].tolist(), label="level [dB]")
        self.line = scale.axvline(0, color="black", lw=2.4, ls="-")
        (self.mark,) = scale.plot(0, 0.5, "D", ms=13, zorder=3, clip_on=False)
        self._set_columns()
        self.screen = Screen(figure, [*self.drawn[1], self.line, self.mark])
        self._score()

    def _data(self, side: int) -> dict:
        return waves_data({"": self.waves[side]})[""]

    @styled
    def _set_columns(self) -> None:
        """Set names, lengths and colours of both clips, which belong to the background of the picture."""
        columns = [self._set_wave(side) for side in range(2)]
        levels = np.concatenate([np.ravel(data["mel"]) for data in columns])
        for (top, bottom), (_, picture), choice, data in zip(
            self.axes.T, self.drawn, self.choices, columns, strict=True
        ):
            top.set_title(plain(f"{choice.description}: {choice.value:.40}"))
            for ax in (top, bottom):
                ax.set_xlim(0, data["seconds"])
            picture.set_extent((0, data["seconds"], 0, MELS))
            picture.set_clim(levels.min(), levels.max())

    def _set_wave(self, side: int) -> dict:
        """Put the wave of a side into its waveform and its mel picture."""
        band, picture = self.drawn[side]
        data = self._data(side)
        time = np.linspace(0, data["seconds"], len(data["low"]))
        there, back = np.stack([time, data["low"]], 1), np.stack([time, data["high"]], 1)
        band.set_verts([np.concatenate([there, back[::-1]])])
        picture.set_data(data["mel"])
        return data

    def _choose(self, *_: object) -> None:
        """Show other clips: everything changes."""
        if not self.listening:
            return
        first, second = (self.clips[choice.value].wave for choice in self.choices)
        self.waves = [first, disturb(second, self.noise.value, self.room.value)]
        self._set_columns()
        self.screen.refresh()
        self.players[0].value = wav(first)
        self._sound()

    def _disturb(self, *_: object) -> None:
        """Apply other noise or another room to the second clip."""
        clean = self.clips[self.choices[1].value].wave
        self.waves[1] = disturb(clean, self.noise.value, self.room.value)
        self._set_wave(1)
        self._sound()

    def _sound(self) -> None:
        self._score()
        self.players[1].value = wav(self.waves[1])

    def _score(self) -> None:
        """Score the two waves and show warnings, decision and probability."""
        name, second = self.choices[0].value, self.waves[1]
        if name not in self.embeddings:
            self.embeddings[name] = self.verifier.embed(self.waves[0])
        embeddings = [self.embeddings[name], self.verifier.embed(second)]
        left, right = scoring.normalise(np.stack(embeddings))
        self.score = float(left @ right)
        self.unlike = []  # reasons why the calibration may not hold
        for choice, wave, embedding in zip(self.choices, self.waves, embeddings, strict=True):
            self.unlike += doubts(choice.description, wave, self.clips[choice.value].rate)
            self.unlike += self.verifier.outside(choice.description, embedding)
        text = "; ".join(self.unlike) + ": the calibration was not checked on such speech"
        self.warnings.say(text if self.unlike else "", bad=True)
        self.message.say("")
        self._judge()

    def _judge(self, *_: object) -> None:
        """Show decision and probability of the present score."""
        threshold, prior = self.threshold.value, self.prior.value
        same = self.score >= threshold
        if self.unlike:
            chance = "No probability: outside what this model knows."
        else:
            probability = 100 * self.verifier.probability(self.score, prior)
            chance = (
                f"Calibrated probability of the same speaker: {probability:.1f} % "
                f"(prior {100 * prior:.0f} %)."
            )
        self.result.say(
            f"Score {self.score:.3f} {'≥' if same else '<'} threshold {threshold:.3f}: "
            f"{'same speaker' if same else 'different speakers'}.\n{chance}"
        )
        self.line.set_xdata([threshold, threshold])
        self.mark.set_xdata([np.clip(self.score, *SCORES)])
        self.mark.set_color(COLOURS[0 if same else 1])
        names = " and ".join(choice.value for choice in self.choices)
        self.screen.draw(f"Waveforms and mel pictures of {names}. {self.result.text}")

    def _upload(self, side: int) -> None:
        """Take an uploaded file as the clip of a side; the earlier clips stay in the list."""
        files = self.uploads[side].value
        self.uploads[side].value = ()  # calls back with no file
        for file in files:
            self._take(side, file["name"], bytes(file["content"]))

    def _take(self, side: int, name: str, content: bytes) -> None:
        """Choose the clip of a file on one side, under a unique name."""
        clip = read_upload(name, content)
        while name in self.clips:
            name = f"{PurePath(name).stem}+{PurePath(name).suffix}"
        self.clips[name] = clip
        chosen = [choice.value for choice in self.choices]
        chosen[side] = name
        self.listening = False  # new options select the first of them for a moment
        for choice, value in zip(self.choices, chosen, strict=True):
            choice.options = list(self.clips)
            choice.value = value
        self.listening = True
        self._choose()
        self.message.say(f"{name}: loaded{', ' if clip.note else ''}{clip.note}.")


def who_is_it(verifier: Verifier, clips: dict[str, np.ndarray], note: str = "") -> WhoIsIt:
    """Two clips to choose, upload or record; their picture, score, probability and decision.

    Args:
        verifier: of `oskdft.load`, with a threshold. clips: name -> [N] float32 at 16 kHz.
        note: where the clips come from.
    Returns:
        The widget; its last value in a cell shows it, without a front end as a still.
    Raises:
        ValueError: no clip, or a model without a threshold.

    >>> import oskdft
    >>> hum = np.sin(np.arange(16000, dtype=np.float32) * 0.05)
    >>> widget = who_is_it(oskdft.load("classroom", "cpu"), {"hum": 0.3 * hum, "again": 0.2 * hum})
    >>> before = widget.score
    >>> widget.noise.value = 0.0
    >>> widget.score < before
    True
    """
    return WhoIsIt(verifier, clips, note)
