"""What a config of PEFT, or a header that holds one, may ask for: what is asked and not done is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelError, shown

_TYPES = ("LORA", "LOHA", "LOKR", "OFT")
_OWN_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Starts that take something out of the base: their factors are of another base than a checkpoint's."""
_TERMS = 5
"""Of the series by which OFT's rotations are made."""


def check_config(told: Mapping[str, Any], path: Path) -> None:
    """Raises ModelError for a kind of adapter that is none of ours, and for options that would change what is made of
    the tensors."""
    kind = told.get("peft_type")
    if kind is not None and kind not in _TYPES:
        raise ModelError(f"{path}: is PEFT's {shown(kind)}, which is not read; those that are: {', '.join(_TYPES)}")
    start = told.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_OWN_BASE):
        raise ModelError(
            f"{path}: starts from a base of its own (init_lora_weights {shown(start)}), which is not in the file; "
            "save it as a plain LoRA (PEFT: path_initial_model_for_weight_conversion)"
        )
    for name in ("use_rslora", "use_dora"):
        if not isinstance(told.get(name, False), (bool, type(None))):
            raise ModelError(f"{path}: {name} is {shown(told[name])}; expected true or false")
    if told.get("use_qalora"):
        raise ModelError(f"{path}: is QALoRA (use_qalora), which is not read")
    if told.get("kasa_config"):
        raise ModelError(f"{path}: is KaSA (kasa_config), which changes the base too; it is not read")
    _check_rotations(told, path)
    if kind != "OFT" and "r" in told and not _is_rank(told["r"]):
        raise ModelError(f"{path}: r is {shown(told['r'])}; expected a rank, 1 or more")


def _check_rotations(told: Mapping[str, Any], path: Path) -> None:
    if told.get("use_cayley_neumann") is False:
        raise ModelError(f"{path}: asks for exact rotations (use_cayley_neumann false), which are not read yet")
    if told.get("coft"):
        raise ModelError(f"{path}: asks for rotations that are bounded (coft), which are not read")
    if (terms := told.get("num_cayley_neumann_terms", _TERMS)) != _TERMS:
        raise ModelError(f"{path}: asks for {shown(terms)} num_cayley_neumann_terms; {_TERMS} are read")


def _is_rank(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
