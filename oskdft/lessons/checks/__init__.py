"""Right answers of the exercises, one module for each notebook; `lessons.exercise` compares."""
