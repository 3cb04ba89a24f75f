"""The check of a machine with a GPU: is all right there, and how fast is it. `python -m benchmarks.gpu` is one command
of eight minutes at most; README.md of the folder above says what it does."""
