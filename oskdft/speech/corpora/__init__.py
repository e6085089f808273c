"""Corpora on disk: layouts, tables, trial lists, checks, downloads."""
