"""Keywords that all loaders take: where a model is to be had, and those of the reference that ask for nothing."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from ..errors import UsageError, WrongTypeError, did_you_mean

RESOLVING = (
    "cache_dir",
    "force_download",
    "proxies",
    "local_files_only",
    "revision",
    "subfolder",
    "token",
    "mirror",
    "resume_download",
)
# Of an adapter or an embedding, which is one file.
ONE_FILE = (*RESOLVING, "use_safetensors")


class _Harmless(NamedTuple):
    """The values that ask for nothing, and what to do for those who want more."""

    values: tuple[object, ...]
    instead: str


_OFF = (None, False)
_NO_OFFLOAD_FILES = _Harmless(_OFF, "weights are mapped from their files as they are; leave it out")
_NO_ONNX = _Harmless(_OFF, "networks run in torch alone; leave it out")
_NO_CODE = _Harmless(_OFF, "no code of a model is ever run; leave it out")
_NO_YAML = _Harmless(_OFF, "give `config=` (a diffusers folder) or `prediction_type=`")
_COMPONENT = _Harmless(_OFF, "give a component or `config=` (a diffusers folder)")
HARMLESS: Mapping[str, _Harmless] = {
    "device_map": _Harmless((None,), "use `.to('cuda')` or `enable_model_cpu_offload()`"),
    "max_memory": _Harmless((None,), "use `enable_model_cpu_offload()` where memory is short"),
    "low_cpu_mem_usage": _Harmless((None, True, False), ""),
    "offload_folder": _NO_OFFLOAD_FILES,
    "offload_state_dict": _NO_OFFLOAD_FILES,
    "quantization_config": _Harmless((None,), "give `torch_dtype=torch.float16`; weights are not quantised"),
    "custom_pipeline": _NO_CODE,
    "custom_revision": _NO_CODE,
    "trust_remote_code": _NO_CODE,
    "use_onnx": _NO_ONNX,
    "provider": _NO_ONNX,
    "provider_options": _NO_ONNX,
    "sess_options": _NO_ONNX,
    "use_flashpack": _Harmless(_OFF, "files are read as they are; leave it out"),
    "load_connected_pipeline": _Harmless(_OFF, "load the other pipeline by a call of its own"),
    "return_unused_kwargs": _Harmless(_OFF, "an option that is not taken is an error that names it; leave it out"),
    "output_loading_info": _Harmless(_OFF, "what does not fit is an error that names it; leave it out"),
    "original_config": _NO_YAML,
    "original_config_file": _NO_YAML,
    "load_safety_checker": _Harmless(_OFF, "give `safety_checker=` and `feature_extractor=`"),
    "scheduler_type": _Harmless(_OFF, "give `scheduler=`, such as DDIMScheduler(...)"),
    "image_size": _COMPONENT,
    "num_in_channels": _COMPONENT,
    "upcast_attention": _COMPONENT,
    "extract_ema": _Harmless(_OFF, "give `ema=True`"),
    "push_to_hub": _Harmless(_OFF, "save into a folder, then `hf upload` it"),
}


def as_folder(value: object) -> Path:
    """A folder to save into. Raises WrongTypeError for what is no path."""
    if isinstance(value, (str, os.PathLike)):
        return Path(cast("str | os.PathLike[str]", value))
    raise WrongTypeError(f"save_directory is a {type(value).__name__}; expected the path of a folder")


def as_place(value: object, what: str) -> str | os.PathLike[str]:
    """A path, Hub id or URL. Raises WrongTypeError for anything else, which is called `what`."""
    if isinstance(value, (str, os.PathLike)):
        return cast("str | os.PathLike[str]", value)
    raise WrongTypeError(f"{what} is a {type(value).__name__}; expected a path or a Hub id")


def without_harmless(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that ask for something. Raises UsageError for a known one that asks for what is not done here."""
    for name, value in options.items():
        if name in HARMLESS and not any(value is harmless for harmless in HARMLESS[name].values):
            raise UsageError(f"`{name}` is {value!r}, which is not done here: {HARMLESS[name].instead}")
    return {name: value for name, value in options.items() if name not in HARMLESS}


def one_file_options(options: Mapping[str, Any], *idle: str) -> dict[str, Any]:
    """Where an adapter or embedding is to be had, without the `idle` ones. Raises UsageError for an unknown option."""
    for name in options:
        if name not in (*ONE_FILE, *idle):
            raise UsageError(f"no option `{name}`{did_you_mean(name, ONE_FILE)}")
    return among(options, ONE_FILE)


def resolved(source: Any, weight_name: str | None, where: Mapping[str, Any]) -> Any:
    """The file or folder of an adapter or embedding, a state dict as it is. Raises ModelError, as `weights.resolve`."""
    if isinstance(source, Mapping):
        return cast("Mapping[str, Any]", source)
    from ..weights.hub import resolve

    return resolve(as_place(source, "the source"), weight_name=weight_name, **where)


def split_resolving(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that say where a model is to be had, and the others that ask for something."""
    asking = without_harmless(options)
    return among(asking, RESOLVING), {name: value for name, value in asking.items() if name not in RESOLVING}


def among(options: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}
