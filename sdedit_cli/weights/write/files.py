"""The files of a model, tensors and texts, put on disk together: all of them, read back and equal, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...disk.checks import check_space, refuse_existing
from ...disk.whole import staged
from . import msgpack
from .safetensors import Item, Progress, verify, write_safetensors


@dataclass(frozen=True)
class OutputFile:
    """A file to be written: its place within the target ('': the target itself), and its tensors or its text.

    Tensors are written in safetensors, or as Flax's msgpack where the name ends so."""

    name: str
    items: tuple[Item, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    text: str | None = None


def write_files(
    target: Path,
    files: Sequence[OutputFile],
    progress: Progress | None = None,
    *,
    replace: bool = False,
    placed: Callable[[], None] | None = None,
) -> None:
    """Write all files beside the target, read them back, and only then give the target its name.

    With `replace` the files of an existing folder are replaced, and others there stay. `placed` is called when the
    target has its name, while signals still wait. Raises OutputError when the target exists, the disk is full, or what
    was written reads back differently.
    """
    if not replace:
        refuse_existing(target)
        check_space(target, sum(item.nbytes for file in files for item in file.items))
    with staged(target, replace=replace, placed=placed) as stage:
        for file in files:
            with stage.open(file.name) as out:
                if file.text is not None:
                    out.write(file.text.encode())
                elif file.name.endswith(msgpack.SUFFIX):
                    msgpack.write_msgpack(out, file.items, progress)
                else:
                    write_safetensors(out, file.items, file.metadata, progress)
        for file in files:
            if file.items:
                verify(stage.path(file.name), file.items, file.metadata, progress, told_as=target)
