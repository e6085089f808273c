"""One recording in use: which clip, noise and echoes on it, what is heard of it; and its controls."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from ipywidgets import Dropdown, FileUpload, HBox, Layout, SelectionSlider, VBox

from oskdft.config import SAMPLE_RATE
from oskdft.evaluation.verifier import Verifier
from oskdft.lessons.widgets.parts import player, wav, wide
from oskdft.lessons.widgets.recorder import Recorder
from oskdft.lessons.widgets.uploads import Clip
from oskdft.speech.augment import add_noise, reverberate
from oskdft.speech.quality import doubts

NOISES = [("none", math.inf), *((f"{db} dB", float(db)) for db in (30, 25, 20, 15, 10, 5, 0, -5))]
ROOMS = [("none", 0.0), *((f"{s} s", s) for s in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5))]
ECHO_DB = -3.0  # energy of a room's echoes relative to the direct sound (our choice)


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


class Side:
    """A recording and its controls; the widget around it listens to them.

    Args:
        which: "first" or "second". clips: name -> clip, shared by both sides. chosen: a name.
        take: called with this side's name, a file name and bytes, when something was recorded.

    >>> clips = {"hum": Clip(np.sin(np.arange(16000, dtype=np.float32)))}
    >>> side = Side("first", clips, "hum", print)
    >>> side.noise.value = 0.0
    >>> np.array_equal(side.hear(), clips["hum"].wave), side.embeddings
    (False, {})
    """

    def __init__(
        self,
        which: str,
        clips: dict[str, Clip],
        chosen: str,
        take: Callable[[str, str, bytes], None],
    ) -> None:
        self.which, self.clips = which, clips
        self.choice = Dropdown(
            options=list(clips), value=chosen, description=which, **wide("260px")
        )
        self.upload = FileUpload(
            accept=".wav,.flac,.ogg,.mp3", description="upload", tooltip=f"upload the {which}",
            layout=Layout(width="96px"),
        )  # fmt: skip
        self.recorder = Recorder(f"record the {which}", partial(take, which, "recording.wav"))
        self.noise, self.room = (
            SelectionSlider(options=steps, description=f"{what} in {which}", **wide("270px"))
            for what, steps in (("noise", NOISES), ("echoes", ROOMS))
        )
        self.wave = clips[chosen].wave
        self.embeddings = {}  # judge -> [E], of the wave
        self.player = player(self.wave, f"play the {which}")

    def arranged(self) -> VBox:
        """The controls, for one half of the width."""
        rows = [self.choice, self.player], [self.upload, self.recorder], [self.noise, self.room]
        centred = Layout(align_items="center", flex_flow="row wrap")
        return VBox([HBox(row, layout=centred) for row in rows], layout=Layout(overflow="visible"))

    @property
    def clip(self) -> Clip:
        """The chosen clip, without noise and echoes."""
        return self.clips[self.choice.value]

    def hear(self) -> np.ndarray:
        """Make the wave [N] from clip, noise and echoes, for ear and judges; returns it."""
        self.wave = disturb(self.clip.wave, self.noise.value, self.room.value)
        self.embeddings = {}
        self.player.value = wav(self.wave)
        return self.wave

    def embed(self, name: str, judge: Verifier) -> np.ndarray:
        """Embedding [E] of the wave, computed once for each judge."""
        if name not in self.embeddings:
            self.embeddings[name] = judge.embed(self.wave)
        return self.embeddings[name]

    def doubts(self, name: str, judge: Verifier) -> list[str]:
        """Reasons why the calibration of a judge may not hold for the wave."""
        found = doubts(self.which, self.wave, self.clip.rate)
        return found + judge.outside(self.which, self.embed(name, judge))
