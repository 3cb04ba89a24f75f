"""The recipe of the built-in model: each step is one command, `python -m training.STEP`."""
