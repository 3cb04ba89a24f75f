"""The declaration of every option of an edit, and what is derived from it.

`Edit` says for each option its default, bounds, help, flag and group, whether it changes pixels, and whether it names a
file. The options of the command line, the keys of presets and of the user config, the environment variables, what
pictures record, the JSON schema and the table in the docs all come from here: a new option is one new field.
"""

from .colours import rgb_of
from .declared import declare, fit_values, fitted, kept, with_hashes
from .edit import BUILT_IN_NAME, CURVES, GROUPS, WORDS, Edit, fields
from .layers import Edits, Layer, checked, edit_from, environment, field_named, layer_of, merged
from .option import ENV_PREFIX, MAX_CHARACTERS, MAX_DOCUMENT, MAX_ITEMS, MAX_SEED, Field, Option
from .placement import Placement
from .steps import MAX_STEPS, schedule_for, smallest_strength
from .tile import tile_of
from .toml import toml_table
from .values import KINDS, ValueType, composite, split_numbers

__all__ = [
    "BUILT_IN_NAME",
    "CURVES",
    "ENV_PREFIX",
    "GROUPS",
    "KINDS",
    "MAX_CHARACTERS",
    "MAX_DOCUMENT",
    "MAX_ITEMS",
    "MAX_SEED",
    "MAX_STEPS",
    "WORDS",
    "Edit",
    "Edits",
    "Field",
    "Layer",
    "Option",
    "Placement",
    "ValueType",
    "checked",
    "composite",
    "declare",
    "edit_from",
    "environment",
    "field_named",
    "fields",
    "fit_values",
    "fitted",
    "kept",
    "layer_of",
    "merged",
    "rgb_of",
    "schedule_for",
    "smallest_strength",
    "split_numbers",
    "tile_of",
    "toml_table",
    "with_hashes",
]
