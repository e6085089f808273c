"""The first notebook in Notebook 7, which the server of `make lab` serves too."""


def test_start_here(ran):
    """From the menu; then a slider and the microphone, by keyboard."""
    notebook = ran("00_start_here", alone=True)
    assert notebook.tracebacks() == []
    notebook.widget.scroll_into_view_if_needed()
    before, picture = notebook.says("Score"), notebook.image()
    notebook.press("noise in second", "End")
    notebook.changes("Score", before)
    notebook.redraws(picture)
    notebook.record("first", 2)
    notebook.page.get_by_text("recording.wav: loaded").wait_for()
    notebook.picture("in Notebook 7")
    assert notebook.errors == []
