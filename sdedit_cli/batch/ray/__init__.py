"""A batch on several machines: the driver reads, writes and keeps the journal, and workers of a Ray cluster edit.

`host` and `worker` are the protocols of `batch.worker`; `crew` knows the workers, `cluster` Ray itself, `station` is
what runs on a node, and `messages` what the two tell each other. `ray` is imported in `cluster` alone, once there is
something to do.
"""
