"""What other programs say of an edit, as it becomes a layer of ours: values by our options, and what is left out.

The facts of their formats are read in `foreign_tables` (Fooocus, InvokeAI, NovelAI) and `foreign_graph` (ComfyUI).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PureWindowsPath
from typing import Any, cast

from ..errors import PictureError, UsageError, shown
from ..options import CURVES, layer_of
from ..options.layers import field_named
from .record import Found, Ingredient

# What a program says of one picture, graphs of a thousand nodes included, is shorter.
MAX_CHARACTERS = 8_000_000
_WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
_LONGEST = 60
_DEFAULT_CURVES = ("", "normal", "simple", "native", "automatic", "default")
# The name of a sampler there, in small letters and without what follows or precedes it -> here.
_SAMPLERS = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpm_2": "DPM2",
    "kdpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "kdpm_2_a": "DPM2 a",
    "lms": "LMS",
    "dpmpp_2s": "DPM++ 2S",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "dpmpp_3m": "DPM++ 3M",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "deis": "DEIS",
    "pndm": "PNDM",
    "plms": "PLMS",
    "uni_pc": "UniPC",
    "uni_pc_bh2": "UniPC",
    "unipc": "UniPC",
    "lcm": "LCM",
    "tcd": "TCD",
}
_AROUND = re.compile(r"^(sample_|k_)+|(_gpu|_cpu)$")
_KARRAS = re.compile(r"_k$|_karras$")


@dataclass(frozen=True, slots=True)
class Said:
    """What a program said: values by the names of our options (None, '' for none), files, the rest by its names."""

    program: str
    values: Mapping[str, object]
    ingredients: tuple[Ingredient, ...] = ()
    left: Mapping[str, object] = field(default_factory=dict[str, object])


def found_of(said: Said, source: str) -> Found:
    """The layer of what a program said; what does not fit here is listed, and costs nothing else.

    Raises PictureError for a prompt over the bounds.
    """
    given = {name: value for name, value in said.values.items() if value not in (None, "")}
    left = dict(said.left)
    given |= _sampler(str(given.pop("sampler", "")), str(given.pop("schedule", "")), left)
    if given.get("strength") in (1, 1.0, "1", "1.0"):
        left["strength"] = "1, as it was made of a text alone"
        del given["strength"]
    values: dict[str, object] = {}
    for name, value in given.items():
        option = field_named(name, source)
        try:
            values[name] = (option.parse if isinstance(value, str) else option.fit)(value, option.key)  # pyright: ignore[reportArgumentType]
        except UsageError as problem:
            if name in ("prompt", "negative_prompt"):
                raise PictureError(f"{source}: {problem}") from None
            left[option.key] = value
    ignored = tuple(
        f"{key}: {shown(value, _LONGEST)}" for key, value in left.items() if value not in (None, "", [], {})
    )
    return Found(layer_of(values, source, PictureError), said.ingredients, ignored=ignored, program=said.program)


def _sampler(name: str, curve: str, left: dict[str, object]) -> dict[str, object]:
    """Sampler and curve by our names; a sampler that is none of ours keeps its name, so that the run can say so."""
    plain = _AROUND.sub("", name.strip().lower().replace(" ", "_"))
    stem = _KARRAS.sub("", plain)
    chosen: dict[str, object] = {"sampler": _SAMPLERS.get(stem, name)} if name else {}
    curve = curve.strip().lower()
    if stem != plain and stem in _SAMPLERS:
        curve = "karras"
    if curve in CURVES:
        chosen["schedule"] = curve
    elif curve not in _DEFAULT_CURVES:
        left["schedule"] = curve
    return chosen


def read_json(text: object) -> Any:
    """The document in a text; None for what is none, or too much of one."""
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def table(value: object) -> dict[str, Any]:
    """`value` where it is a table, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """`value` where it is a list, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def text(value: object) -> str:
    """`value` where it is a text, else ''."""
    return value if isinstance(value, str) else ""


def number(value: object) -> float | None:
    """`value` where it is a number or the text of one, else None."""
    try:
        return None if isinstance(value, bool) else float(cast("Any", value))
    except (TypeError, ValueError, OverflowError):
        return None


def file(kind: str, name: object, sha256: object = "", scale: object = None, te_scale: object = None) -> Ingredient:
    """A file by the name that a program gives it: neither folders nor the ending of weights are part of ours."""
    path = PureWindowsPath(text(name))  # which takes both kinds of slashes
    plain = path.stem if path.suffix.lower() in _WEIGHTS else path.name
    known = text(sha256).lower()
    is_sha256 = re.fullmatch(r"[0-9a-f]{8,64}", known) is not None
    return Ingredient(kind, plain[:200], known if is_sha256 else "", number(scale), number(te_scale))
