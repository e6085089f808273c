"""One training run: loop, optimiser, run folder."""
