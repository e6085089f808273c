"""Weights and models on disk: reading, writing, export."""
