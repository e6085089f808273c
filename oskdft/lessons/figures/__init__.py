"""Figures: stored numbers, one style, one function a plot."""
