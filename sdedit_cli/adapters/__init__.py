"""Adapters: what a file of one says, read as data. `engine.merging` adds them to the weights of networks."""
