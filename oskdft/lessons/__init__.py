"""What the notebooks use: set-up, exercises, figures, widgets."""
