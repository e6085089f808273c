"""The paper: teacher, student, back-ends, losses, strategies. Imports torch and the configuration, no files and no corpora."""
