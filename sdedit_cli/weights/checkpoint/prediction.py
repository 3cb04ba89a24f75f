"""What a checkpoint was trained to predict, and its noise schedule: facts that no tensor's shape tells.

They come from the caller, a folder of configs, the file's metadata, or a `.yaml` beside the file, in this order;
else they are what the family's reference models have, and are reported as assumed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ...errors import ModelError, UsageError, did_you_mean, quoted
from . import notes
from .families import Family
from .index import SCHEDULER, read_scheduler

_DEFAULT = "epsilon"  # of a scheduler that does not say
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
_WORDS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample", **{name: name for name in PREDICTION_TYPES}}

# Where converters and trainers write it; the first is ours.
_METADATA_KEYS = (notes.PREDICTION, "modelspec.prediction_type", "modelspec.predict_key", "prediction_type")
_ARCHITECTURES = {"stable-diffusion-v2-768-v": "v_prediction", "stable-diffusion-v2-512": "epsilon"}
_ASSUMED = "as its family"
_ASSUMED_OF_TWO = "assumed; --prediction-type tells"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the UNet predicts, and who says so."""

    kind: str
    said_by: str

    @property
    def guessed(self) -> bool:
        """Whether nothing says what the model predicts although its family has both kinds."""
        return self.said_by == _ASSUMED_OF_TWO


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a checkpoint has that may tell: `path` of a single file, names of its tensors, what lies beside them."""

    path: Path | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    names: Collection[str] = ()
    extras: Mapping[str, object] = field(default_factory=dict[str, object])


def find_prediction(
    family: Family, evidence: Evidence, *, asked: str | None = None, configured: Path | None = None
) -> tuple[Prediction, dict[str, Any]]:
    """What the UNet predicts, and the scheduler config that goes with it.

    `asked` is the caller's word, `configured` a model folder whose scheduler counts. Raises UsageError for a prediction
    type that there is none, ModelError for a broken config.
    """
    if configured:
        scheduler = read_scheduler(configured)
    else:
        scheduler = notes.scheduler(evidence.metadata, evidence.path) or family.scheduler()
    kind, said_by = (
        _asked(asked)
        or _configured(configured, scheduler)
        or _of_metadata(evidence.metadata)
        or _of_tensors(evidence.names)
        or _of_yaml(evidence.path)
        or _of_step(family, evidence.extras)
        or (family.prediction_type, _ASSUMED_OF_TWO if family.predicts_both else _ASSUMED)
    )
    if scheduler.get("prediction_type", _DEFAULT) != kind:
        scheduler["prediction_type"] = kind
    scheduler.setdefault("_class_name", family.sampler["_class_name"])
    if "ztsnr" in evidence.names:
        scheduler["rescale_betas_zero_snr"] = True
    return Prediction(kind, said_by), scheduler


def _asked(prediction_type: str | None) -> tuple[str, str] | None:
    if prediction_type is None:
        return None
    kind = _WORDS.get(prediction_type.lower())
    if kind is None:
        hint = did_you_mean(prediction_type, list(_WORDS))
        raise UsageError(
            f"prediction type '{prediction_type}' is not known, expected {' or '.join(PREDICTION_TYPES)}{hint}"
        )
    return kind, "as asked"


def _configured(folder: Path | None, scheduler: Mapping[str, Any]) -> tuple[str, str] | None:
    if folder is None:
        return None
    path = folder / SCHEDULER
    kind = scheduler.get("prediction_type", _DEFAULT)
    if kind not in PREDICTION_TYPES:
        raise ModelError(f"{path}: 'prediction_type' is {quoted(kind)}, expected one of {', '.join(PREDICTION_TYPES)}")
    return kind, str(path)


def _of_metadata(metadata: Mapping[str, str]) -> tuple[str, str] | None:
    for key in _METADATA_KEYS:
        if kind := _WORDS.get(metadata.get(key, "").lower()):
            return kind, f"the file's metadata ({key})"
    architecture = metadata.get("modelspec.architecture", "")
    for name, kind in _ARCHITECTURES.items():
        if architecture.startswith(name):
            return kind, "the file's metadata (modelspec.architecture)"
    return None


def _of_tensors(names: Collection[str]) -> tuple[str, str] | None:
    # Some trainers leave an empty tensor of this name as a mark.
    return ("v_prediction", "the mark 'v_pred' in the file") if "v_pred" in names else None


# The training of 2.0-base, which predicts epsilon, was published at this step; the v-models went on from there.
_STEP_OF_2_0_BASE = 875_000


def _of_step(family: Family, extras: Mapping[str, object]) -> tuple[str, str] | None:
    if family.predicts_both and extras.get("global_step") == _STEP_OF_2_0_BASE:
        return "epsilon", f"its training step {_STEP_OF_2_0_BASE}"
    return None


_LDM_MARKS = {"target", "params", "unet_config"}
_YAML_LIMIT = 1 << 16  # bytes; LDM's configs have some thousands


def _of_yaml(path: Path | None) -> tuple[str, str] | None:
    """The LDM config beside the file, as web UIs read it. LDM's own default is epsilon."""
    beside = path.with_suffix(".yaml") if path else None
    keys = dict(_yaml_keys(beside)) if beside else {}
    if "parameterization" in keys:
        kind = _WORDS.get(keys["parameterization"].lower())
    else:
        kind = "epsilon" if keys.keys() & _LDM_MARKS else None
    return (kind, str(beside)) if kind else None


def _yaml_keys(path: Path) -> Iterator[tuple[str, str]]:
    """Every key in a YAML file, with its value where that is text; nothing of a missing file or one that is no YAML."""
    # Imported here as few models have such a file. Composed and not loaded: aliases and merges, of which a small file
    # can make a large value, stay what they are.
    import yaml

    try:
        if not path.is_file() or path.stat().st_size > _YAML_LIMIT:
            return
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        nodes = [cast("object", yaml.compose(text, Loader=yaml.SafeLoader))]
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return
    seen: set[int] = set()
    for node in nodes:
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                nodes.append(value)
                if isinstance(key, yaml.ScalarNode):
                    yield key.value, value.value if isinstance(value, yaml.ScalarNode) else ""
