"""What the metadata of an adapter says of its training, bounded: it comes from strangers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from heapq import nsmallest

from ..configs.base import as_object, object_in

_TAGS = "ss_tag_frequency"
_TRIGGER = "modelspec.trigger_phrase"
_LARGEST = 1 << 23  # characters of JSON that are read
_LONGEST = 2000  # characters of a value
_MOST = 200  # entries
_TAG_LENGTH, _MOST_TAGS = 100, 20
# Tables that are long and say nothing to people.
_LEFT_OUT = (_TAGS, "ss_dataset_dirs", "ss_bucket_info", "ss_datasets", "ss_reg_dataset_dirs")

# Keys -> how what they say begins for each family. Stable Diffusion XL says that it is no 2.x too, and is told by its
# names.
_FAMILIES: Mapping[str, Mapping[str, str]] = {
    "ss_base_model_version": {"sd_v1": "Stable Diffusion 1.x", "sd_v2": "Stable Diffusion 2.x"},
    "modelspec.architecture": {
        "stable-diffusion-v1": "Stable Diffusion 1.x",
        "stable-diffusion-v2": "Stable Diffusion 2.x",
    },
    "ss_v2": {"True": "Stable Diffusion 2.x", "False": "Stable Diffusion 1.x"},
}


def said_family(metadata: Mapping[str, str]) -> str:
    """The family that it says it was trained for, '' where it names none that is known."""
    told = (
        family
        for key, families in _FAMILIES.items()
        for start, family in families.items()
        if metadata.get(key, "").startswith(start)
    )
    return next(told, "")


def training_facts(metadata: Mapping[str, str]) -> dict[str, str]:
    """The entries of training programs (`ss_...`, `modelspec....`), long ones cut short, in order of their names."""
    kept = [key for key in metadata if key.startswith(("ss_", "modelspec.")) and key not in _LEFT_OUT]
    return {key[:_TAG_LENGTH]: _short(metadata[key]) for key in nsmallest(_MOST, kept)}


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else value[:_LONGEST] + "..."


def trigger_words(metadata: Mapping[str, str]) -> str:
    """The words that its maker says call it, '' where none are said."""
    return _short(metadata.get(_TRIGGER, ""))


def frequent_tags(metadata: Mapping[str, str]) -> list[tuple[str, int]]:
    """The tags of the pictures that it was trained on, the most frequent first; empty where there are none to read."""
    text = metadata.get(_TAGS, "")
    if len(text) > _LARGEST:
        return []
    counts: Counter[str] = Counter()
    for folder in (object_in(text) or {}).values():
        for tag, count in as_object(folder).items():
            if isinstance(count, int) and 0 < count < 1 << 53:
                counts[tag.strip()[:_TAG_LENGTH]] += count
    return nsmallest(_MOST_TAGS, counts.items(), key=lambda pair: (-pair[1], pair[0]))
