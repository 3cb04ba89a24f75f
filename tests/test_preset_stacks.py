"""Presets that extend others, have tables for commands, and are written from values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from helpers.schema import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from sdedit_cli.cli.preset_tables import check_tables
from sdedit_cli.errors import PresetError, UsageError
from sdedit_cli.options import Edit, Field, Layer, checked, fields
from sdedit_cli.options.adapters import EmbeddingFile, IPAdapterFile, LoraFile
from sdedit_cli.presets import Entry, load_preset, preset_text, read_toml, shipped_folder
from tools.preset_schema import preset_schema

SCHEMA = preset_schema()


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


def test_a_preset_begins_with_those_that_it_extends(tmp_path: Path) -> None:
    write(
        tmp_path,
        base='description = "base"\nsteps = 10\nstrength = 0.5\n[batch]\nseed-mode = "index"\nrecursive = true\n',
        other="strength = 0.6\neta = 0.5\n",
        one='extends = "base"\nsteps = 12\n',
        both='extends = ["one", "other"]\ncfg-scale = 3\n[batch]\nseed_mode = "name"\n[run]\nformat = "webp"\n',
    )
    one, both = load_preset("one", (tmp_path,)), load_preset("both", (tmp_path,))
    assert one.layer.values == {"steps": 12, "strength": 0.5}
    assert both.layer.values == {"steps": 12, "strength": 0.6, "eta": 0.5, "cfg_scale": 3.0}
    assert both.commands == {"batch": {"seed-mode": "name", "recursive": True}, "run": {"format": "webp"}}
    assert one.description == ""  # what a preset is for, it says itself
    assert one.extends == ("base",)


def test_what_a_preset_takes_back_does_not_come_again(tmp_path: Path) -> None:
    """A way to name the steps takes back the other ways of what it extends, as among layers."""
    write(tmp_path, base="timesteps = [900, 500]\nsize = '64x64'\n", one='extends = "base"\nsteps = 5\nmax-side = 9\n')
    assert load_preset("one", (tmp_path,)).layer.values == {"steps": 5, "max_side": 9}


def test_a_preset_of_the_same_name_extends_the_one_that_it_hides(tmp_path: Path) -> None:
    write(tmp_path, quick='extends = "quick"\nsteps = 12\n', mine='extends = "mine"\n')
    shipped = load_preset("quick").layer.values
    assert load_preset("quick", (tmp_path,)).layer.values == {**shipped, "steps": 12}
    with pytest.raises(PresetError, match="extends 'mine': there is no other preset of that name"):
        load_preset("mine", (tmp_path,))


def test_paths_count_from_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    write(tmp_path, base="steps = 7\n")
    write(tmp_path / "below", one='extends = "../base.toml"\n')
    assert load_preset(str(tmp_path / "below" / "one.toml")).layer.values == {"steps": 7}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"a": 'extends = "a.toml"'}, "in a circle: a extends a"),
        ({"a": 'extends = "b"', "b": 'extends = ["c"]', "c": 'extends = "./b.toml"'}, "circle: b extends c extends b"),
        (
            {"a": 'extends = "b"', "b": 'extends = "drawing-tigr"'},
            "b.toml: extends 'drawing-tigr': no preset is called",
        ),
        ({"a": 'extends = "quik"'}, "did you mean 'quick'"),
        ({"a": 'extends = "none.toml"'}, "none.toml: no such file"),
        ({"a": "extends = 3"}, "extends is 3; expected the name of a preset"),
        ({"a": "extends = [1]"}, "expected the name of a preset, or a list"),
        ({"a": 'extends = ""'}, "extends is ''"),
        ({"a": "run = 3"}, "run is 3; expected a table [run]"),
        ({"a": "[bach]\nx = 1"}, "no command that takes presets is called 'bach'; did you mean 'batch'?"),
        ({"a": "[convert]\nx = 1"}, "no option is called 'convert'"),
        ({"a": "[batch]\nseed-mod = 1"}, "[batch] seed-mod: no option of 'sdedit batch' alone is called so; did you"),
        ({"a": '[batch]\nseed-mode = "nam"'}, "[batch] seed-mode: 'nam' is not one of"),
        ({"a": "[batch]\nsteps = 3"}, "[batch] steps: is an option of an edit; write it above the tables"),
        ({"a": "[batch]\nrecursive = 'yes'"}, "[batch] recursive is 'yes'; expected true or false"),
        ({"a": "[batch]\nlimit = 0"}, "[batch] limit: 0 is not in the range"),
        ({"a": "[batch]\nlimit = true"}, "[batch] limit is True; expected a whole number"),
        ({"a": "[batch]\nbatch-size = 0"}, "[batch] batch-size: '0' is no number of pictures"),
        ({"a": '[batch]\ninclude = "*.png"'}, "[batch] include is '*.png'; expected a list"),
        ({"a": "[batch]\njson = true"}, "[batch] json: is for the command line alone"),
        ({"a": "[batch]\nprune = true"}, "[batch] prune: is for the command line alone"),
        ({"a": "[batch]\non-exists = 'overwrite'"}, "[batch] on-exists: is for the command line alone"),
        ({"a": "[run]\nseed-mode = 'name'"}, "[run] seed-mode: no option of 'sdedit run' alone"),
        ({"a": 'extends = "b"', "b": "[run]\nformat = 'bmp'"}, "[run] format: 'bmp' is not one of"),
    ],
)
def test_what_a_preset_cannot_mean_is_refused_by_name(tmp_path: Path, texts: dict[str, str], words: str) -> None:
    write(tmp_path, **texts)
    with pytest.raises(PresetError) as caught:
        check_tables([load_preset("a", (tmp_path,))])
    assert words in str(caught.value)


def test_many_presets_that_share_what_they_extend_are_read_once_each(tmp_path: Path) -> None:
    """Each of thirty doubles the ways to the last one: the work is that of thirty files."""
    write(tmp_path, **{f"p{k}": f'extends = ["p{k + 1}", "p{k + 1}"]\n' for k in range(30)}, p30="steps = 3\n")
    assert load_preset("p0", (tmp_path,)).layer.values == {"steps": 3}


SHIPPED = sorted(shipped_folder().glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_schema_takes_the_shipped_presets_and_so_do_the_commands(path: Path) -> None:
    assert fits(read_toml(path), SCHEMA)
    check_tables([load_preset(path.stem)])


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("strength = 0.5", True),
        ("strength = 0", False),
        ("strength = 1.5", False),
        ("strenght = 0.5", False),
        ("steps = 3.0", True),
        ("steps = 3.5", False),
        ("exact-steps = 1", False),
        ('schedule = "karras"', True),
        ('schedule = "kerras"', False),
        ("sigmas = []", False),
        ("lora = ['a.safetensors:0.5', { path = 'b', scale = 2 }]", True),
        ("lora = [{ scale = 2 }]", False),
        ("size = '64x64'", True),
        ("size = '64'", False),
        ("strength = [0.8, 0.6]", True),
        ("strength = [0.8]", True),
        ("strength = '0.8..0.4'", True),
        ("tile = '512:128'", True),
        ("tile = 'big'", False),
        ("extends = ['quick', 'lcm']", True),
        ("extends = 3", False),
        ("[batch]\nseed-mode = 'name'\ninclude = ['*.png']\nrecursive = true\nbatch-size = 4", True),
        ("[batch]\nbatch-size = 'auto'\nlimit = 3", True),
        ("[batch]\nlimit = 0", False),
        ("[batch]\nbatch-size = 0", False),
        ("[batch]\nrecursive = 'yes'", False),
        ("[batch]\nsteps = 3", False),
        ("[run]\noutput = '{stem}-{seed}.png'\nsave-every = 2", True),
        ("[run]\non-exists = 'overwrite'", False),
        ("[run]\nseed-mode = 'name'", False),
        ("[convert]\ndtype = 'fp16'", False),
    ],
)
def test_the_schema_and_the_commands_take_and_refuse_the_same(tmp_path: Path, text: str, good: bool) -> None:
    path = write(tmp_path, a=text) / "a.toml"
    assert fits(read_toml(path), SCHEMA) == good
    try:
        check_tables([load_preset("a", (tmp_path,))])
        taken = True
    except PresetError:
        taken = False
    assert taken == good


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PATH = TEXT.filter(str.strip)
NUMBER = st.floats(-1e6, 1e6)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "str": TEXT,
    "bool": st.booleans(),
    "colour": st.sampled_from(["#20242c", "#ffffff"]),
    "size": st.sampled_from(["640x480", "1x16384"]),
    "tile": st.sampled_from(["512:128", "64:8"]),
    "interval": st.sampled_from(["0..0.8", "0.25..1"]),
    "LoraFile": st.builds(
        LoraFile, PATH, NUMBER, st.none() | NUMBER, st.sampled_from(["", "OUTALL"]), st.none() | st.integers(1, 99)
    ),
    "EmbeddingFile": st.builds(EmbeddingFile, PATH, TEXT),
    "IPAdapterFile": st.builds(IPAdapterFile, PATH, NUMBER),
}


def drawn(field: Field) -> st.SearchStrategy[Any]:
    """Values that an option takes, by its declaration."""
    option = field.option
    if option.choices:
        one: st.SearchStrategy[Any] = st.sampled_from([choice.replace(":N", ":3") for choice in option.choices])
    elif option.numbers:
        one = st.sampled_from(option.numbers)
    elif field.kind.is_number:
        low = -1e6 if option.low is None else option.low
        high = 1e6 if option.high is None else option.high
        whole = st.integers(math.ceil(low), math.floor(high))
        one = whole if field.kind.name == "int" else st.floats(low, high, exclude_min=option.above)
    else:
        # Paths and names are texts that say something.
        one = PATH if field.kind.schema.get("minLength") else KINDS[field.kind.name]
    return st.lists(one, min_size=1, max_size=3).map(tuple) if field.many else one


VALUES = {field.name: drawn(field) for field in fields()}
LAYERS = st.sets(st.sampled_from(sorted(VALUES)), min_size=1, max_size=9).flatmap(
    lambda names: st.fixed_dictionaries({name: VALUES[name] for name in sorted(names)})
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Over values of every option: the same layer comes back, and the same edit where they make one."""
    seen: dict[str, int] = {}
    edits = 0

    @settings(max_examples=8 * len(VALUES), deadline=None, derandomize=True, database=None)
    @given(LAYERS)
    def check(values: dict[str, Any]) -> None:
        nonlocal edits
        layer = Layer("drawn", values)
        try:
            checked(layer)
        except UsageError:
            return
        path = tmp_path / "p.toml"
        path.write_text(preset_text(layer, ["quick"], {"run": [Entry("format", "webp", "")]}), encoding="utf-8")
        assert fits(read_toml(path), SCHEMA)
        path.write_text(preset_text(layer, [], {}), encoding="utf-8")
        back = load_preset(str(path)).layer
        assert back.values == values
        for name in values:
            seen[name] = seen.get(name, 0) + 1
        try:
            edit = Edit(**values)
        except UsageError:
            return
        assert Edit(**back.values) == edit
        edits += 1

    check()
    assert min(seen.get(field.name, 0) for field in fields()) >= 3
    assert edits >= 50
