"""Whether a document fits a JSON schema, for the words that ours use; another word fails the test."""

from __future__ import annotations

import re
from typing import Any

_TYPES: dict[str, Any] = {"string": str, "boolean": bool, "object": dict, "array": list, "number": (int, float)}
_ABOUT = {"description", "default", "title", "$schema"}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether `value` is what the schema describes."""
    return all(_fits(value, word, said, schema) for word, said in schema.items() if word not in _ABOUT)


def _fits(value: Any, word: str, said: Any, schema: dict[str, Any]) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match word:
        case "type" if said == "integer":
            return number and float(value).is_integer()
        case "type":
            return isinstance(value, _TYPES[said]) and (said == "boolean" or not isinstance(value, bool))
        case "enum":
            return value in said
        case "anyOf":
            return any(fits(value, one) for one in said)
        case "minimum":
            return not number or value >= said
        case "exclusiveMinimum":
            return not number or value > said
        case "maximum":
            return not number or value <= said
        case "minLength" | "minItems":
            return not hasattr(value, "__len__") or len(value) >= said
        case "maxLength" | "maxItems":
            return not hasattr(value, "__len__") or len(value) <= said
        case "pattern":
            return not isinstance(value, str) or re.search(said, value) is not None
        case "items":
            return not isinstance(value, list) or all(fits(item, said) for item in value)
        case "required":
            return set(said) <= set(value)
        case "additionalProperties":
            assert said is False
            return set(value) <= set(schema["properties"])
        case "properties":
            return all(fits(value[key], one) for key, one in said.items() if key in value)
        case _:
            raise AssertionError(f"a word of JSON schema that this does not know: {word}")
