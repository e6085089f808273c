"""Same speaker? Vote on two recordings, then see what a judge says; noise and room to add to either."""

from functools import partial
from pathlib import PurePath

import numpy as np
from ipywidgets import Button, Dropdown, HBox, Layout, VBox
from matplotlib.artist import Artist

from oskdft.evaluation import scoring
from oskdft.evaluation.verifier import Verifier
from oskdft.lessons.figures.models import wave_columns, waves_data
from oskdft.lessons.figures.style import COLOURS, Picture, needed, new, styled
from oskdft.lessons.widgets.parts import Panel, Screen, Status, slider, spread, wide
from oskdft.lessons.widgets.recorder import LIMIT_S
from oskdft.lessons.widgets.side import Side
from oskdft.lessons.widgets.uploads import MOST_BYTES, UPLOAD_LIMIT_S, USED_S, Clip, read_upload
from oskdft.lessons.widgets.voices import Voices

SCORES = (-0.25, 1.0)  # ends of the scale of scores in the picture
SAME = {True: "same speaker", False: "different speakers"}
TRUTH = {True: " Truth: one speaker.", False: " Truth: two speakers.", None: ""}
VOTE_FIRST = "One speaker or two? The machine answers after your vote."
HINT = (
    f"Your own voice: record it here, at most {LIMIT_S:g} s, or upload WAV, FLAC, OGG or MP3, at "
    f"most {UPLOAD_LIMIT_S / 60:.0f} minutes and {MOST_BYTES >> 20} MB; the first {USED_S:g} s are used."
)


class WhoIsIt(Panel):
    """Two clips to choose, upload or record; vote, then truth, score, probability and decision.

    Args:
        judges: name -> verifier of `oskdft.load` or `judges.judges`, with thresholds, the one to begin
            with first; or one verifier. clips: name -> [N] float32 at 16 kHz. note: where the clips
            come from. speakers: name of a clip -> its speaker, where that is known.
    Raises:
        ValueError: no clip, no judge, or one without a threshold.

    >>> import oskdft
    >>> hum = np.sin(np.arange(16000, dtype=np.float32) * 0.05)
    >>> widget = who_is_it(oskdft.load("classroom", "cpu"), {"hum": 0.3 * hum, "again": 0.2 * hum})
    >>> widget.result.text == VOTE_FIRST
    True
    >>> widget.votes[True].click()
    >>> widget.result.text.splitlines()[1]
    'The machine says: same speaker.'
    """

    def __init__(
        self,
        judges: Verifier | dict[str, Verifier],
        clips: dict[str, np.ndarray],
        note: str = "",
        speakers: dict[str, str] | None = None,
    ) -> None:
        self.judges = {"student": judges} if isinstance(judges, Verifier) else judges
        needed(self.judges, "judges")
        needed(clips, "clips")
        for name, judge in self.judges.items():
            if judge.threshold is None:
                raise ValueError(
                    f"{name}: this model has no threshold; train it with development speakers"
                )
        self.speakers = speakers or {}
        self.clips = {name: Clip(wave) for name, wave in clips.items()}
        self.given = tuple(clips)  # all others are the user's own
        self.thresholds = {name: judge.threshold for name, judge in self.judges.items()}
        self.result, self.warnings, self.message = Status(), Status(), Status()
        self.compared, self.tally_line = Status(), Status()
        self.result.layout.width = "520px"  # fixed, so that text does not move the sliders
        self.right = {"trials": 0, "you": 0, "machine": 0}
        self._make_controls()
        self.screen = Screen(*self._figure())
        self._list_own()
        self._forget_vote()
        lines = [self.result, self.compared, self.tally_line, self.message, self.warnings]
        lines += [Status(HINT), Status(note)]
        super().__init__(self._arranged(lines[-2:]), [self.screen], lines)
        self._listen()

    def _make_controls(self) -> None:
        names = list(self.clips)
        self.sides = [
            Side(which, self.clips, name, self._take)
            for which, name in (("first", names[0]), ("second", names[:2][-1]))
        ]
        self.votes = {
            same: Button(description=words, layout=Layout(width="160px"))
            for same, words in SAME.items()
        }
        self.judge = Dropdown(options=list(self.judges), description="Judge", **wide("260px"))
        self.own = Dropdown(description="your recordings", **wide("300px"))
        self.forget = Button(description="Forget", layout=Layout(width="90px"))
        self.forget_all = Button(description="Forget all recordings", layout=Layout(width="170px"))
        first, judge = next(iter(self.judges.items()))
        self.threshold = slider("threshold", judge.threshold, -1, 1, 0.005, ".3f")
        self.prior = slider("prior of same speaker", 0.5, 0.01, 0.99, 0.01)
        embeds = [partial(side.embed, first, judge) for side in self.sides]
        self.voices = Voices(*embeds, judge.threshold, self.message)

    def _arranged(self, notes: list[Status]) -> list:
        """Recordings on top, the vote, the picture, what changes the answer; own voices below."""
        wrapped = Layout(flex_flow="row wrap")
        forgetting = HBox([self.own, self.forget, self.forget_all], layout=wrapped)
        controls = VBox([self.threshold, self.prior])
        return [
            spread([side.arranged() for side in self.sides]),
            self.message,  # beside the buttons of uploads
            HBox([*self.votes.values(), self.judge], layout=wrapped),
            self.screen.image,
            spread([controls, self.result, VBox([self.compared, self.tally_line])]),
            self.warnings,
            forgetting,
            self.voices,
            *notes,
        ]

    def _listen(self) -> None:
        """Connect the controls; an error in a callback becomes a line in the widget."""
        self.listening = True
        when = self.message.when
        for side in self.sides:
            when(self._choose, side.choice)
            when(partial(self._disturb, side), side.noise, side.room)
            when(partial(self._upload, side), side.upload)
            side.recorder.on_msg(self.message.guard(side.recorder.answer))
        for same, button in self.votes.items():
            when(partial(self._vote, same), button)
        when(self._move, self.threshold)
        when(self._judge, self.prior)
        when(self._change_judge, self.judge)
        when(lambda: self._forget([self.own.value]), self.forget)
        when(lambda: self._forget(list(self.own.options)), self.forget_all)

    @property
    def truth(self) -> bool | None:
        """Whether both recordings are of one speaker; None where that is not known."""
        speakers = [self.speakers.get(side.choice.value) for side in self.sides]
        return None if None in speakers else speakers[0] == speakers[1]

    @styled
    def _figure(self) -> tuple[Picture, list[Artist]]:
        """Waveforms over mel pictures, and the scale of scores below; the moving artists."""
        figure, axes = new(
            2, 3, 12.4, 4.2, sharex=False, sharey="row", height_ratios=(1, 1.3, 0.25)
        )
        figure.get_layout_engine().set(h_pad=0.03)
        scale = figure.add_subplot(axes[2, 0].get_gridspec()[2, :])
        for ax in axes[2]:
            ax.remove()
        for ax in axes[0]:
            ax.tick_params(labelbottom=False)
        axes[0, 0].set_ylim(-1, 1)
        scale.set(xlim=SCORES, ylim=(0, 1), yticks=[], xlabel="score")
        scale.set_title("different speakers", loc="left")
        scale.set_title("same speaker", loc="right")
        waves = {f"{side.which}: {side.choice.value:.40}": side.wave for side in self.sides}
        self.drawn = wave_columns(axes[:2], waves_data(waves))
        self.line = scale.axvline(0, color="black", lw=2.4, ls="-")
        (self.mark,) = scale.plot(0, 0.5, "D", ms=13, zorder=3, clip_on=False)
        return figure, [*self.drawn[0], *self.drawn[1], self.line, self.mark]

    def _choose(self) -> None:
        """Show other clips: everything changes, and the vote is open again."""
        if not self.listening:
            return
        for side in self.sides:
            side.hear()
        self.screen.show(*self._figure())
        self.message.say("")
        self.voices.identify()
        self._forget_vote()

    def _disturb(self, side: Side) -> None:
        """Apply other noise or another room to one side; the vote stays."""
        data = waves_data({"": side.hear()})[""]
        band, picture = self.drawn[self.sides.index(side)]
        time = np.linspace(0, data["seconds"], len(data["low"]))
        edges = np.c_[time, data["low"]], np.c_[time, data["high"]][::-1]
        band.set_verts([np.concatenate(edges)])
        picture.set_data(data["mel"])
        self.scores = {}
        self.message.say("")
        self.voices.identify()
        self._judge()

    def _forget_vote(self) -> None:
        self.vote, self.scores, self.counted = None, {}, False
        self._judge()

    def _vote(self, same: bool) -> None:
        """Take the vote; only now the judge answers. The first vote on a pair counts."""
        self.vote = same
        self._judge()
        if self.counted or self.truth is None:
            return
        self.counted = True
        self.right["trials"] += 1
        self.right["you"] += same == self.truth
        self.right["machine"] += self._accepts(self.judge.value) == self.truth
        self.tally_line.say(
            f"So far: you {self.right['you']} of {self.right['trials']} right, "
            f"the machine {self.right['machine']}."
        )

    def _change_judge(self) -> None:
        self.threshold.value = self.thresholds[self.judge.value]
        self._judge()

    def _move(self) -> None:
        """Another threshold for the present judge."""
        self.thresholds[self.judge.value] = self.threshold.value
        self._judge()

    def _accepts(self, name: str) -> bool:
        return self.scores[name] >= self.thresholds[name]

    def _judge(self) -> None:
        """Show what the present judge says, or nothing before the vote."""
        for same, button in self.votes.items():
            button.button_style = "info" if self.vote == same else ""
        for artist in (self.line, self.mark):
            artist.set_visible(self.vote is not None)
        if self.vote is None:
            for status in (self.compared, self.warnings):
                status.say("")
            self.result.say(VOTE_FIRST)
        else:
            self._reveal()
        names = " and ".join(side.choice.value for side in self.sides)
        self.screen.draw(f"Waveforms and mel pictures of {names}. {self.result.text}")

    def _reveal(self) -> None:
        """Truth, score, probability and decision of the present judge."""
        name = self.judge.value
        judge = self.judges[name]
        pair = scoring.normalise(np.stack([side.embed(name, judge) for side in self.sides]))
        score = self.scores[name] = float(pair[0] @ pair[1])
        unlike = [reason for side in self.sides for reason in side.doubts(name, judge)]
        text = "; ".join(unlike) + ": the calibration was not checked on such speech"
        self.warnings.say(text if unlike else "", bad=True)
        threshold, prior = self.thresholds[name], self.prior.value
        same = self._accepts(name)
        chance = "Outside what this model knows, so there is no probability."
        if not unlike:
            probability = 100 * judge.probability(score, prior)
            chance = f"Probability of one speaker: {probability:.1f} % (prior {100 * prior:.0f} %)."
        self.result.say(
            f"You voted: {SAME[self.vote]}.{TRUTH[self.truth]}\n"
            f"The machine says: {SAME[same]}.\n"
            f"Score {score:.3f} {'≥' if same else '<'} threshold {threshold:.3f}. {chance}"
        )
        self.line.set_xdata([threshold, threshold])
        self.mark.set_xdata([np.clip(score, *SCORES)])
        self.mark.set_color(COLOURS[0 if same else 1])
        self._list_judges()

    def _list_judges(self) -> None:
        """List the judges that were asked on these very sounds, and who is fooled."""
        lines = []
        for name, score in self.scores.items():
            said = f"{name}: {SAME[self._accepts(name)]} ({score:.3f}, {self.thresholds[name]:.3f})"
            fooled = self.truth is not None and self._accepts(name) != self.truth
            lines.append(said + (", is fooled" if fooled else ""))
        waiting = len(self.judges) - len(lines)
        lines += ["Choose another judge to ask it about the same pair."] if waiting else []
        self.compared.say("\n".join(lines) if len(self.judges) > 1 else "")

    def _upload(self, side: Side) -> None:
        """Take an uploaded file as the clip of a side; the earlier clips stay in the list."""
        files = side.upload.value
        side.upload.value = ()  # calls back with no file
        for file in files:
            self._take(side.which, file["name"], bytes(file["content"]))

    def _take(self, which: str, name: str, content: bytes) -> None:
        """Choose the clip of a file on one side, under a unique name."""
        clip = read_upload(name, content)
        while name in self.clips:
            name = f"{PurePath(name).stem}+{PurePath(name).suffix}"
        self.clips[name] = clip
        self._show_clips({which: name})
        self.message.say(f"{name}: loaded{', ' if clip.note else ''}{clip.note}.")

    def _forget(self, names: list[str]) -> None:
        """Delete own recordings; a side that showed one shows the first clip of the package."""
        for name in names:
            del self.clips[name]
        first = next(iter(self.clips))
        gone = {side.which: first for side in self.sides if side.choice.value in names}
        self._show_clips(gone)
        self.message.say(f"Forgotten: {', '.join(names)}.")

    def _show_clips(self, chosen: dict[str, str]) -> None:
        """Offer the present clips; ``chosen``: side -> another clip to show there."""
        self.listening = False  # new options select the first of them for a moment
        for side in self.sides:
            value = chosen.get(side.which, side.choice.value)
            side.choice.options = list(self.clips)
            side.choice.value = value
        self.listening = True
        self._list_own()
        self._choose()

    def _list_own(self) -> None:
        """List what was uploaded or recorded, so that it can be forgotten."""
        self.own.options = [name for name in self.clips if name not in self.given]
        for control in (self.own, self.forget, self.forget_all):
            control.disabled = not self.own.options


who_is_it = WhoIsIt  # its name in notebooks
