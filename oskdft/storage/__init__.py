"""Weights and models on disk: read, write, export."""
