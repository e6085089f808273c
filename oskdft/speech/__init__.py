"""Recordings: reading, fitness for use, augmentation, corpora, and the data of a run."""
