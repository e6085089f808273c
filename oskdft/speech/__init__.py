"""Recordings, augmentation, corpora, and what a run trains and tests on."""
