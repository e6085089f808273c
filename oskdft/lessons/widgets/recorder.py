"""A button that records in the browser; what it records comes as the bytes of a WAV file."""

from collections.abc import Callable, Sequence
from pathlib import Path

from anywidget import AnyWidget
from traitlets import Float, Unicode

LIMIT_S = 10.0  # more than a score uses, so that a late start does no harm


class Recorder(AnyWidget):
    """A button: the first press records, a second one or the time limit ends it.

    Args:
        name: what a screen reader calls it. take: called with the bytes of a 16-bit WAV file.

    >>> heard = []
    >>> recorder = Recorder("record the first", heard.append)
    >>> recorder.answer(recorder, {}, [b"RIFF"])
    >>> heard
    [b'RIFF']
    >>> recorder.answer(recorder, {"problem": "Permission denied"}, [])
    Traceback (most recent call last):
    ...
    ValueError: no microphone (Permission denied); allow it in the browser or upload a recording
    """

    _esm = Path(__file__).with_name("recorder.js")
    name = Unicode().tag(sync=True)
    longest_s = Float(LIMIT_S).tag(sync=True)

    def __init__(self, name: str, take: Callable[[bytes], None]) -> None:
        super().__init__(name=name)
        self.take = take

    def answer(self, _: object, content: dict, buffers: Sequence[bytes]) -> None:
        """What the browser says after a recording, or instead of one.

        Raises:
            ValueError: the browser gives no microphone, and why.
        """
        if "problem" in content:
            raise ValueError(
                f"no microphone ({content['problem']}); allow it in the browser or upload a recording"
            )
        self.take(bytes(buffers[0]))
