"""Helpers of all wings: files, console, processes, provenance, typed YAML."""
