"""Figures: stored numbers, one style, one function per plot."""
