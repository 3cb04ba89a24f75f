"""Names that older files use for what a module calls otherwise, and names that are safe to ignore.

Everything here is about diffusers-layout files; the LDM layout has its own tables in `names`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container

from .table import LEAVES, Origin, Table, modules

# VAE attention before diffusers 0.17; also read as 1x1 convolutions, which hold the numbers of linears.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_LEAF = re.compile(r"\.(query|key|value|proj_attn)\.(weight|bias)$")

# Constant tables, and parts of a full CLIP model that a text encoder does not use.
_HARMLESS = re.compile(
    r"(^|\.)position_ids$|^(vision_model|visual_projection|text_projection)\.|^logit_scale$|^model_ema\.|\.num_batches_tracked$"
)
# Wrappers of training scripts: a state dict saved with what was beside it, torch.compile, DistributedDataParallel.
NAME_WRAPPERS = ("state_dict.", "_orig_mod.", "module.")


def is_harmless(name: str) -> bool:
    return _HARMLESS.search(name) is not None


def _unwrapped(name: str) -> str:
    for prefix in NAME_WRAPPERS:
        name = name.removeprefix(prefix)
    return name


_RULES: tuple[Callable[[str], str], ...] = (
    _unwrapped,
    lambda name: _OLD_LEAF.sub(lambda match: f".{_OLD_ATTENTION[match[1]]}.{match[2]}", name),
    lambda name: f"text_model.{name}",
    lambda name: name.removeprefix("text_model."),
)


def module_name(name: str, known: Container[str]) -> str:
    """The module's own name for the file's `name`: itself when known, else what one of the old spellings leads to."""
    if name in known:
        return name
    return next((rule(name) for rule in _RULES if rule(name) in known), name)


def is_doubled(name: str, present: Container[str]) -> bool:
    """Whether a text encoder's tensor is among `present` under its whole name too, as merges of merges have it."""
    return f"text_model.{name}" in present


def current_names(present: Collection[str], table: Table) -> dict[str, Origin]:
    """Our names with their origins among `present`, the names of a file that uses ours, in older spellings too.

    Of two spellings of a name the module's own counts.
    """
    known = {name + leaf.ours for name in modules(table) for leaf in LEAVES["same"]}
    if not known:
        return {name: Origin((name,)) for name in present}
    # The VAE's attention was made of 1x1 convolutions here too, once: what it is written as is one shape.
    convolved = {f"{name}.weight" for pair in table if pair.rule == "conv1x1" for name in pair.ours}
    exact_last = sorted(present, key=lambda name: name in known)
    current = {module_name(name, known): name for name in exact_last}
    return {
        name: Origin((old,), "squeeze" if name in convolved else "same")
        for name, old in current.items()
        if name in known
    }
