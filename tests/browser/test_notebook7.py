"""The first notebook in Notebook 7, which the server of `make lab` serves too."""

import re


def test_start_here(ran):
    """From the menu; then a vote, a slider and the microphone, by keyboard."""
    notebook = ran("00_start_here", until="who_is_it(bench", alone=True)
    assert notebook.tracebacks() == []
    notebook.widget.scroll_into_view_if_needed()
    notebook.widget.get_by_role("button", name="same speaker", exact=True).press("Enter")
    notebook.widget.get_by_text("You voted: same speaker.").first.wait_for()
    before, picture = notebook.says("Score"), notebook.image()
    notebook.press("noise in second", "End")
    notebook.changes("Score", before)
    notebook.redraws(picture)
    notebook.record("first", 2)
    notebook.page.get_by_text("recording.wav: loaded").wait_for()
    notebook.picture("in Notebook 7")
    # with any file Notebook 7 logs errors of its own: a schema, a command, fonts that it lacks
    assert [error for error in notebook.errors if re.search("widget", error, re.IGNORECASE)] == []
