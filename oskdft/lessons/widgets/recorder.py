"""A button that records in the browser and delivers the bytes of a WAV file; level, clock, consent line."""

from collections.abc import Callable, Sequence
from pathlib import Path

from anywidget import AnyWidget
from traitlets import Float, Unicode

CONSENT = "Record yourself, or someone who agrees. The recording stays in the memory of this notebook's kernel."
LIMIT_S = 10.0  # longer than the part that is scored, so that a late start does no harm


class Recorder(AnyWidget):
    """A button: the first press starts a recording, the second press or the time limit ends it.

    Beside the button stands `CONSENT`; while it records, the level of the microphone and the seconds.

    Args:
        name: for screen readers. take: called with the bytes of a 16-bit WAV file.

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
    consent = Unicode(CONSENT).tag(sync=True)

    def __init__(self, name: str, take: Callable[[bytes], None]) -> None:
        super().__init__(name=name)
        self.take = take

    def answer(self, _: object, content: dict, buffers: Sequence[bytes]) -> None:
        """Handle the message of the browser: a recording or a problem.

        Raises:
            ValueError: the browser gives no microphone.
        """
        if "problem" in content:
            raise ValueError(
                f"no microphone ({content['problem']}); allow it in the browser or upload a recording"
            )
        self.take(bytes(buffers[0]))
