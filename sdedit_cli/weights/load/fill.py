"""Fill a module that was built on the meta device from a source, and report what fitted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ...errors import ModelError, listed, shown
from ..formats.mapped_file import files_of
from ..formats.source import WeightSource
from .materialize import Delta, materialize

_MOST_THREADS = 8  # that cast at once: memory is saturated by then


@dataclass(frozen=True)
class Report:
    """What a load used of a file, what it left, and what the module lacked. Known harmless names are not in it."""

    used: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @classmethod
    def of_components(cls, reports: Mapping[str, Report]) -> Report:
        """One report of several components, each name prefixed with its component's."""

        def joined(kind: str) -> tuple[str, ...]:
            return tuple(f"{slot}.{name}" for slot, report in reports.items() for name in getattr(report, kind))

        return cls(joined("used"), joined("unused"), joined("missing"))


@dataclass(frozen=True)
class _Holder:
    """Where a module holds a tensor."""

    owner: nn.Module
    leaf: str
    tensor: Tensor


@torch.inference_mode(False)  # in that mode nobody could write into the parameters outside of it, as adapters do
def fill(
    module: nn.Module,
    source: WeightSource,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    partial: bool = False,
    rename: Callable[[str], str | None] | None = None,
    *,
    config: str = "config.json",
    deltas: Mapping[str, Sequence[Delta | Tensor]] | None = None,
) -> Report:
    """Put the source's tensors into `module`'s parameters and buffers, cast to `dtype` (None: as stored), on `device`.

    On the CPU and without a cast the parameters are the mapped file itself; with one, each tensor is cast straight into
    its place, several at a time on as many threads as torch has, and the file's pages are let go. `rename` maps a name
    of the source to the module's (None: leave it out); `config` is what errors call the config that shaped the module;
    `deltas` are by the module's names.

    Raises ModelError when a shape differs, or unless `partial` when names are missing or left over; or when the file
    changes meanwhile.
    """
    holders = dict(_holders(module))
    origin, unused = _assign(holders, source, rename)
    missing = tuple(name for name in holders if name not in origin)
    if not partial:
        _complain(source, module, unused, missing)
    shaped = {name: _fit(source, origin[name], holders[name].tensor, config) for name in holders if name in origin}

    def made(name: str) -> Tensor:
        for file in files_of([shaped[name]]):
            file.check_whole()
        return materialize(shaped[name], dtype, (deltas or {}).get(name, ()), device=device)

    casts = torch.device(device).type == "cpu" and any(
        t.is_floating_point() and dtype not in (None, t.dtype) for t in shaped.values()
    )
    for name, tensor in _each(made, shaped, torch.get_num_threads() if casts else 1):
        _set(holders[name], tensor)
    for file in files_of(shaped.values()):
        file.check_unchanged()
    for name in missing:
        _set(holders[name], _zeros_if_meta(holders[name].tensor, dtype, device))
    return Report(tuple(origin.values()), unused, missing)


def _holders(module: nn.Module) -> Iterator[tuple[str, _Holder]]:
    """Every parameter and buffer that a state dict of `module` holds."""
    saved = set(module.state_dict(keep_vars=True))
    for prefix, owner in cast("Iterator[tuple[str, nn.Module]]", module.named_modules()):
        dotted = f"{prefix}." if prefix else ""
        for leaf, tensor in (*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)):
            if dotted + leaf in saved:
                yield dotted + leaf, _Holder(owner, leaf, tensor)


def _assign(
    holders: Mapping[str, _Holder], source: WeightSource, rename: Callable[[str], str | None] | None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The module's names with the source's names for them, in the order of the source, and the names left over."""
    origin: dict[str, str] = {}
    unused: list[str] = []
    for name in source.names():
        target = rename(name) if rename else name
        if target is None:
            continue
        if target in holders and target in origin:
            raise ModelError(f"{source.path}: '{shown(name)}' and '{shown(origin[target])}' are both '{shown(target)}'")
        if target in holders:
            origin[target] = name
        else:
            unused.append(name)
    return origin, tuple(unused)


def _complain(source: WeightSource, module: nn.Module, unused: Sequence[str], missing: Sequence[str]) -> None:
    problems = [
        f"{len(names)} {what} ({listed(names)})"
        for names, what in ((missing, "tensors are missing"), (unused, "tensors are not known"))
        if names
    ]
    if problems:
        kind = type(module).__name__
        raise ModelError(
            f"{source.path}: does not fit {kind}: {' and '.join(problems)}.",
            "Check that the config belongs to these weights, or load what fits with --partial.",
        )


def _fit(source: WeightSource, name: str, expected: Tensor, config: str) -> Tensor:
    tensor, shape = source.get(name), expected.shape
    check_numbers(source, name, expected)
    if tensor.shape == shape:
        return tensor
    if without_ones(tensor.shape) == without_ones(shape):
        return tensor.reshape(shape)
    where = source.name_in_file(name)
    raise ModelError(
        f"{source.path}: '{where}' has the shape {list(tensor.shape)}, but {config} asks for {list(shape)}"
    )


def check_numbers(source: WeightSource, name: str, expected: Tensor) -> None:
    """Raises ModelError when a tensor has whole numbers where the module has floats. Reads no tensor."""
    kind = source.dtype(name)
    if expected.is_floating_point() and not kind.is_floating_point:
        raise ModelError(
            f"{source.path}: '{source.name_in_file(name)}' holds {str(kind).removeprefix('torch.')} numbers, "
            "expected floats; quantised weights are not read, so use the original ones"
        )


def without_ones(shape: Sequence[int]) -> list[int]:
    """A linear and a 1x1 convolution hold the same numbers, and files disagree about which one to write."""
    sides = list(shape)
    while len(sides) > 2 and sides[-1] == 1:
        sides.pop()
    return sides


def _each(made: Callable[[str], Tensor], names: Collection[str], threads: int) -> Iterator[tuple[str, Tensor]]:
    """Every name with the tensor that is made of it."""
    if threads == 1:
        yield from ((name, made(name)) for name in names)
        return
    with ThreadPoolExecutor(min(threads, _MOST_THREADS)) as pool:
        try:
            tensors = pool.map(made, names)
        except RuntimeError:  # the system allows no more threads
            tensors = map(made, names)
        yield from zip(names, tensors, strict=True)


def _zeros_if_meta(tensor: Tensor, dtype: torch.dtype | None, device: torch.device | str) -> Tensor:
    """What a partial load leaves in a place without weights: what the module had, or zeros where it had nothing."""
    target = dtype if dtype and tensor.dtype.is_floating_point else tensor.dtype
    if tensor.is_meta:
        return torch.zeros(tensor.shape, dtype=target, device=device)
    return tensor.detach().to(device=device, dtype=target)


def _set(holder: _Holder, tensor: Tensor) -> None:
    is_parameter = isinstance(holder.tensor, nn.Parameter)
    setattr(holder.owner, holder.leaf, nn.Parameter(tensor, requires_grad=False) if is_parameter else tensor)
