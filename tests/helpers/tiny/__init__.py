"""The one place that makes tiny models for tests: real components with random weights, of every family.

`configs` says what they are, `networks` builds ours and the oracle's, `folders` and `single_files` write them down.
"""
