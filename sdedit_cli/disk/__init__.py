"""Bytes to disk, whole or not at all: the only writer of files.

- whole: a file or folder that appears complete under its name, or does not appear (`staged`, `write_bytes`)
- checks: what can be said before writing (the name is taken, the folder is closed, the disk is full)
- sizes: bytes as people write and read them        - hashes: what a file is known by
- shelf: what took long to find, and may be found anew (files of a folder, entries of a table)
"""
