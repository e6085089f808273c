"""Synthetic voices (eSpeak NG)."""
