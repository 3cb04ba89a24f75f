"""Which tensors of a pickle's object are the weights, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from .arrays import from_array, is_sound
from .values import ArrayRef, BadPickle, Placeholder, TensorRef, as_dict, as_sequence

Entry = TensorRef | ArrayRef

# What training scripts put weights under. The first three say that these are the weights, whatever is beside them; the
# others are names of parts too (a whole LDM has its UNet under `model`, beside `first_stage_model`).
_SURE = ("state_dict", "model_state_dict", "params_ema")
_WRAPPERS = (*_SURE, "model", "module", "params", "net", "checkpoint")
_LEFTOVER = re.compile(r"optim|sched|callback|scaler|(^|_)rng|loops", re.IGNORECASE)
# Parts of a model: what lies beside one of them is another, and no wrapper.
_PARTS = frozenset({"first_stage_model", "cond_stage_model", "unet", "vae", "text_encoder", "text_encoder_2"})
ENTRY_LIMIT = 500_000
CHARACTER_LIMIT = 32_000_000  # of all names together
DEPTH_LIMIT = 64
NAME_LIMIT = 1024
_PARTS_OF_LIST = 16  # under a number; a hypernetwork has two for each width


def contents(root: object) -> tuple[dict[str, Entry], dict[str, object]]:
    """The tensors by dotted name and everything else by its first name, without a wrapper such as state_dict."""
    inner, extras = _unwrapped(root)
    if inner is root:
        inner, extras = _without_leftovers(root)
    inner = _with_lists_by_number(inner)
    top = dict(_children(inner))
    entries = dict(_tensors(inner))
    used = {name.split(".", 1)[0] for name in entries} | set(entries)
    return entries, {name: _plain(value) for name, value in top.items() if name not in used} | extras


def _unwrapped(root: object) -> tuple[object, dict[str, object]]:
    """What is under the wrapper, if there is one, and what is beside it."""
    extras: dict[str, object] = {}
    for wrappers in (_WRAPPERS, _SURE):  # {"model": {"state_dict": ...}}
        top = dict(_children(root))
        wrapper = next((name for name in wrappers if _comes_off(name, top)), None)
        if wrapper is None:
            break
        extras |= {name: _plain(value) for name, value in top.items() if name != wrapper}
        root = top[wrapper]
    return root, extras


def _without_leftovers(root: object) -> tuple[object, dict[str, object]]:
    """A dict of several models without the optimizer beside them; a pickled module is all weights."""
    top = as_dict(root)
    if top is None:
        return root, {}
    left = {name for name, value in _children(root) if _is_container(value) and _LEFTOVER.search(name)}
    kept = {name: value for name, value in top.items() if name not in left}
    return kept, {name: _plain(value) for name, value in _children(root) if name in left}


def _with_lists_by_number(root: object) -> object:
    """A dict whose lists of dicts under numbers (a hypernetwork has two for each width) are dicts by place."""
    top = as_dict(root)
    if top is None:
        return root
    numbered = {name: value for name, value in top.items() if isinstance(name, str) and name.isdecimal()}
    # By the list and not by its name: one list may stand under any number of names.
    dicts = {id(value): _by_place(value) for value in {id(value): value for value in numbered.values()}.values()}
    return {**top, **{name: parts for name, value in numbered.items() if (parts := dicts[id(value)])}}


def _by_place(value: object) -> dict[object, object]:
    parts = as_sequence(value) or ()
    are_dicts = len(parts) <= _PARTS_OF_LIST and all(map(_is_container, parts))
    return {str(place): part for place, part in enumerate(parts)} if are_dicts else {}


def _comes_off(wrapper: str, top: Mapping[str, object]) -> bool:
    """Whether the weights are all under `wrapper`."""
    inner = top.get(wrapper)
    if not _is_container(inner) or not _holds_tensors(inner):
        return False
    return wrapper in _SURE or not any(name in _PARTS and _is_container(value) for name, value in top.items())


def _is_container(value: object) -> bool:
    return isinstance(value, (dict, Placeholder))


def _is_tensor(value: object) -> bool:
    if isinstance(value, ArrayRef):
        # An array of objects is left without sides and bytes.
        return not value.scalar and bool(value.shape or value.data) and is_sound(value)
    return isinstance(value, TensorRef)


def _children(value: object) -> Iterator[tuple[str, object]]:
    """The named parts of a dict or of a pickled module."""
    entries = as_dict(value)
    if entries is None and isinstance(value, Placeholder):
        state = as_dict(value.state) or {}
        for group in ("_parameters", "_buffers", "_modules"):
            yield from _children(as_dict(state.get(group)))
        entries = value.entries
    for name, child in (entries or {}).items():
        if isinstance(name, str):
            yield name, child


def _holds_tensors(value: object) -> bool:
    """Whether there is a tensor below `value`. Looks at a container once, and counts: objects may share their state."""
    seen = {id(value)}
    pending = [value]
    looked = 0
    while pending:
        for _, child in _children(pending.pop()):
            looked += 1
            if looked > ENTRY_LIMIT:
                raise BadPickle("containers that hold each other without end")
            if _is_tensor(child):
                return True
            if _is_container(child) and id(child) not in seen:
                seen.add(id(child))
                pending.append(child)
    return False


def _tensors(value: object) -> Iterator[tuple[str, Entry]]:
    """Tensors below `value` with dotted names. Iterative and counted: containers may hold themselves, or each other."""
    pending = [("", value, 0)]
    seen = characters = 0
    while pending:
        prefix, current, depth = pending.pop()
        for name, child in reversed(list(_children(current))):
            seen += 1
            if seen > ENTRY_LIMIT or depth > DEPTH_LIMIT:
                raise BadPickle("containers that hold each other without end")
            if not _is_container(child) and not _is_tensor(child):
                continue
            characters += len(prefix) + len(name) + 1
            if len(prefix) + len(name) >= NAME_LIMIT:
                raise BadPickle(f"a name of more than {NAME_LIMIT} characters")
            if characters > CHARACTER_LIMIT:
                raise BadPickle(f"names of more than {CHARACTER_LIMIT} characters together")
            pending.append((f"{prefix}.{name}" if prefix else name, child, depth + 1))
        if isinstance(current, TensorRef) or (isinstance(current, ArrayRef) and _is_tensor(current)):
            yield prefix, current


def _plain(value: object) -> object:
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, ArrayRef) and not value.shape and value.data and is_sound(value):
        return from_array(value).item()
    return value.of.dotted if isinstance(value, Placeholder) else type(value).__name__
