"""The declaration of every option of an edit, and what is derived from it.

`Edit` says for each option its default, bounds, help, flag and group, and whether it is saved into the picture.
The options of the command line, the keys of presets and of the user config, the environment variables, the JSON
schema and the table in the docs all come from here: a new option is one new field.
"""

from .edit import CURVES, GROUPS, MAX_STEPS, Edit, fields, schedule_for, smallest_strength
from .layers import Layer, checked, edit_from, environment, field_named, layer_of
from .option import ENV_PREFIX, MAX_SEED, Field, Option

__all__ = [
    "CURVES",
    "ENV_PREFIX",
    "GROUPS",
    "MAX_SEED",
    "MAX_STEPS",
    "Edit",
    "Field",
    "Layer",
    "Option",
    "checked",
    "edit_from",
    "environment",
    "field_named",
    "fields",
    "layer_of",
    "schedule_for",
    "smallest_strength",
]
