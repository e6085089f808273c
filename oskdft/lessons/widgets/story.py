"""The method, act by act: what one update of OS-KDFT does, with a slider to step and a button to play."""

from ipywidgets import HBox, IntSlider, Layout, Play, jslink

from oskdft.lessons.figures.animation import ACTS, Story
from oskdft.lessons.widgets.parts import Panel, Screen, Status, wide


class MethodStory(Panel):
    """The method in nine acts: which path runs, which loss is taken, which weights it pushes.

    Args:
        teacher_layers, student_layers: of the model.

    >>> widget = method_story()
    >>> widget.act.value = 4
    >>> widget.status.text
    '4  The KD loss pushes the KD heads and the shared layers. It never reaches an adapter.'
    """

    def __init__(self, teacher_layers: int = 12, student_layers: int = 2) -> None:
        self.story = Story(teacher_layers, student_layers)
        self.act = IntSlider(1, 1, len(ACTS), description="act", **wide("420px"))
        self.play = Play(min=1, max=len(ACTS), interval=3500)  # ms, to read a sentence
        self.status = Status()
        self.story.show(0, 1.0)
        self.screen = Screen(self.story.picture)
        jslink((self.play, "value"), (self.act, "value"))
        controls = HBox([self.play, self.act], layout=Layout(flex_flow="row wrap"))
        super().__init__([controls, self.screen.image, self.status], [self.screen], [self.status])
        self.status.when(self._show, self.act)
        self._show()

    def _show(self) -> None:
        self.story.show(self.act.value - 1, 1.0)
        self.status.say(self.story.picture.alt)
        self.screen.refresh(self.story.picture.alt)


method_story = MethodStory  # its name in notebooks
