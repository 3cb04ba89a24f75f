"""The JSON schema of a preset, from the declarations of options."""

from __future__ import annotations

from typing import Any

from sdedit_cli.cli.preset_tables import command_named, table_schema
from sdedit_cli.options import MAX_ITEMS, fields
from sdedit_cli.presets import COMMANDS

_NAME = {"type": "string", "minLength": 1}


def preset_schema() -> dict[str, Any]:
    """The schema (draft 2020-12): options of an edit, and a table for each command that takes presets."""
    notes: dict[str, Any] = {
        "description": {"type": "string", "description": "What the preset is for."},
        "extends": {
            "anyOf": [_NAME, {"type": "array", "items": _NAME, "maxItems": MAX_ITEMS}],
            "description": "The presets that this one begins with, by name or by a path from here; later ones win.",
        },
    }
    tables = {
        name: table_schema(command_named(name)) | {"description": f"Options of 'sdedit {name}' alone."}
        for name in COMMANDS
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A preset of sdedit",
        "type": "object",
        "additionalProperties": False,
        "properties": notes | {f.key: f.schema() for f in fields()} | tables,
    }
