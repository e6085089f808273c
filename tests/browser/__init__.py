"""Notebooks, widgets and the app used in a browser."""
