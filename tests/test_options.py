"""The declaration of an edit: bounds, arithmetic of steps, layers."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from helpers.ends import reached, reaches
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdedit_cli.errors import PictureError, PresetError, SdeditError, UsageError
from sdedit_cli.noise.samplers import CURVES as NOISE_CURVES
from sdedit_cli.options import (
    CURVES,
    GROUPS,
    MAX_CHARACTERS,
    MAX_ITEMS,
    MAX_SEED,
    Edit,
    Field,
    Layer,
    checked,
    edit_from,
    environment,
    field_named,
    fields,
    layer_of,
    schedule_for,
    smallest_strength,
)

strengths = st.floats(0.001, 1.0)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@pytest.mark.parametrize("field", fields(), ids=lambda field: field.name)
def test_every_option_is_declared_in_full(field: Field) -> None:
    option = field.option
    assert option.group in GROUPS
    assert option.help.endswith(".")
    assert field.kind.name in (
        "str",
        "int",
        "float",
        "bool",
        "colour",
        "size",
        "tile",
        "interval",
        "LoraFile",
        "EmbeddingFile",
        "IPAdapterFile",
    )
    if field.kind.is_number:
        assert option.low is not None or option.numbers
    if field.default is not None:
        assert field.fit(field.default, "default") == field.default


PATHS = {
    *("model", "vae", "config", "lora", "embedding", "prompt_embeds", "ip_adapter", "ip_image", "ip_encoder"),
    *("c2pa", "c2pa_key", "mask", "upscaler", "tiny_vae"),
}


def test_what_a_picture_may_set_and_what_it_may_not() -> None:
    kept_out = {field.name for field in fields() if not field.option.in_picture}
    assert {field.name for field in fields() if field.option.path} == PATHS
    assert kept_out == {
        *PATHS,
        *("count", "download", "partial", "safety", "attention", "device", "mmap"),
        *("metadata", "cache"),
    }


def test_defaults_are_those_of_the_reference_library() -> None:
    edit = Edit()
    assert (edit.strength, edit.steps, edit.cfg_scale, edit.eta, edit.count) == (0.8, 50, 7.5, 0.0, 1)


def test_curves_exist() -> None:
    assert set(CURVES) <= set(NOISE_CURVES)


def test_an_edit_is_a_value() -> None:
    edit = Edit(prompt="a", sigmas=(3.0, 2.0))
    assert pickle.loads(pickle.dumps(edit)) == edit
    assert hash(edit) == hash(dataclasses.replace(edit))
    with pytest.raises(dataclasses.FrozenInstanceError):
        edit.prompt = "b"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"strength": 0}, ["strength is 0;", "above 0 and at most 1"]),
        ({"strength": 1.2}, ["strength is 1.2", "above 0 and at most 1"]),
        ({"strength": math.nan}, ["strength is nan"]),
        ({"strength": "much"}, ["strength is 'much'", "a number"]),
        ({"steps": 0}, ["steps is 0", "from 1 to 1000"]),
        ({"steps": 2.5}, ["steps is 2.5", "whole number"]),
        ({"steps": True}, ["steps is True", "whole number"]),
        ({"seed": -1}, ["seed is -1", "2^64 - 1"]),
        ({"seed": MAX_SEED + 1}, ["2^64 - 1"]),
        ({"schedule": "karas"}, ["schedule is 'karas'", "did you mean 'karras'"]),
        ({"device": "cuda:x"}, ["device is 'cuda:x'", "cuda:N"]),
        ({"sigmas": (2.0, math.inf)}, ["sigmas is inf"]),
        ({"sigmas": ()}, ["sigmas is ()", "a list of numbers"]),
        ({"sigmas": (3.0, 1.0, 1.0)}, ["sigmas must fall", "1 is followed by 1"]),
        ({"timesteps": (5, 9)}, ["timesteps must fall", "5 is followed by 9"]),
        ({"prompt": "\udcff"}, ["prompt is not valid UTF-8"]),
        ({"timesteps": (5,), "sigmas": (1.0,)}, ["exclude each other"]),
        ({"timesteps": (5,), "exact_steps": True}, ["exact-steps has no meaning"]),
        ({"strength": 0.01}, ["0.01 of 50 steps runs no step", "smallest strength that works is 0.02"]),
        ({"strength": 0.01, "exact_steps": True}, ["need a schedule of 5000, over", "at most 10 steps"]),
        ({"strength": 5e-324, "exact_steps": True}, ["need a schedule of 1000000 and more"]),
        ({"strength": 1e-20, "exact_steps": True}, ["need a schedule of 1000000 and more"]),
        ({"prompt": "x" * (MAX_CHARACTERS + 1)}, ["prompt has 100001 characters; expected at most 100000"]),
        ({"timesteps": range(MAX_ITEMS, -1, -1)}, ["timesteps is range"]),
        ({"timesteps": [*range(MAX_ITEMS, -1, -1)]}, ["timesteps has 1001 entries; expected at most 1000"]),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words_that_help(values: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        Edit(**values)  # pyright: ignore[reportArgumentType]
    for word in words:
        assert word in str(caught.value)


NAMED_PLACES = [*(one for one in fields() if one.option.path), field_named("variant", "")]


@pytest.mark.parametrize("field", NAMED_PLACES, ids=lambda field: field.name)
@pytest.mark.parametrize("nothing", ["", " "])
def test_the_name_of_nothing_is_no_path_wherever_it_comes_from(field: Field, nothing: str) -> None:
    """It would be the current folder; a shell leaves it of a variable that is not set."""
    words = "is empty; expected"
    with pytest.raises(UsageError, match=f"{field.flag}: .*{words}"):
        (field.parse_item if field.repeated else field.parse)(nothing, field.flag)
    with pytest.raises(PresetError, match=f"p.toml: {field.key}: .*{words}"):
        layer_of({field.name: nothing}, "p.toml")
    assert environment({field.variable: ""}).values == {}


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12", "mps"])
def test_devices_may_be_numbered(device: str) -> None:
    assert Edit(device=device).device == device


@given(st.integers(1, 1000), strengths)
def test_steps_that_run_are_the_reference_librarys(steps: int, strength: float) -> None:
    run = min(int(steps * strength), steps)
    if run:
        edit = Edit(steps=steps, strength=strength)
        assert (edit.steps_run(), edit.steps_total()) == (run, steps)
    else:
        with pytest.raises(UsageError, match="smallest strength"):
            Edit(steps=steps, strength=strength)


@given(st.integers(1, 100), strengths)
def test_exact_steps_take_the_shortest_schedule_that_runs_them(steps: int, strength: float) -> None:
    total = schedule_for(steps, strength)
    assert int(total * strength) == steps
    assert int((total - 1) * strength) < steps


@given(st.integers(1, 1000))
def test_the_smallest_strength_works_and_is_short(total: int) -> None:
    strength = Decimal(f"{smallest_strength(total):g}")
    assert Edit(steps=total, strength=float(strength)).steps_run() >= 1
    # With one less in the last of four digits it runs none.
    assert len(strength.normalize().as_tuple().digits) <= 4
    less = strength - Decimal(1).scaleb(strength.adjusted() - 3)
    assert int(total * less) == 0


def test_listed_timesteps_are_the_schedule() -> None:
    edit = Edit(timesteps=(900, 600, 300, 100), strength=0.5)
    assert (edit.steps_total(), edit.steps_run()) == (4, 2)


def test_seeds_follow_each_other_and_wrap() -> None:
    assert Edit(seed=MAX_SEED, count=2).seeds() == (MAX_SEED, 0)


def test_later_layers_win() -> None:
    layers = [Layer("a", {"strength": 0.3, "steps": 20}), Layer("b", {"strength": 0.4}), Layer("c", {})]
    assert edit_from(layers) == Edit(strength=0.4, steps=20)


@pytest.mark.parametrize(
    ("earlier", "later", "gone"),
    [
        ({"steps": 20}, {"timesteps": (9, 5)}, "sigmas"),
        ({"timesteps": (9, 5)}, {"steps": 20}, "timesteps"),
        ({"sigmas": (2.0, 1.0)}, {"exact_steps": True}, "sigmas"),
        ({"exact_steps": True}, {"sigmas": (2.0, 1.0)}, "timesteps"),
        ({"schedule": "karras"}, {"sampler": "euler"}, "schedule"),
        ({"cache_features": 3}, {"tile": "512:128"}, "cache_features"),
        ({"tile": "512:128"}, {"cache_features": 3}, "tile"),
    ],
)
def test_another_way_to_say_a_thing_takes_back_the_earlier_one(
    earlier: dict[str, object], later: dict[str, object], gone: str
) -> None:
    edit = edit_from([Layer("preset", earlier), Layer("command line", later)])
    assert getattr(edit, gone) is None
    for name, value in later.items():
        assert getattr(edit, name) == value


def test_one_layer_may_not_name_the_steps_twice() -> None:
    with pytest.raises(UsageError, match="command line: steps and sigmas exclude"):
        checked(Layer("command line", {"steps": 3, "sigmas": (1.0,)}))


def test_the_environment_is_a_layer() -> None:
    layer = environment({"SDEDIT_CFG_SCALE": "4", "SDEDIT_EXACT_STEPS": "yes", "SDEDIT_SIGMAS": "", "PATH": "/bin"})
    assert layer.values == {"cfg_scale": 4.0, "exact_steps": True}
    assert environment({"SDEDIT_TIMESTEPS": "9, 5 1"}).values == {"timesteps": (9, 5, 1)}


@pytest.mark.parametrize(("name", "value"), [("STRENGTH", "2"), ("STEPS", "many"), ("EXACT_STEPS", "maybe")])
def test_a_bad_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"SDEDIT_{name} is '?{value}"):
        environment({f"SDEDIT_{name}": value})


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"strenght": 1}, "p.toml: no option is called 'strenght'; did you mean 'strength'"),
        ({"steps": "20"}, "p.toml: steps is '20'; expected a whole number"),
        ({"sigmas": 3.0}, "p.toml: sigmas is 3; expected a list of numbers"),
        ({"exact-steps": 1}, "p.toml: exact-steps is 1; expected true or false"),
        ({"prompt": ["a"]}, "p.toml: prompt is"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_name(table: dict[str, object], words: str) -> None:
    with pytest.raises(PresetError) as caught:
        layer_of(table, "p.toml")
    assert words in str(caught.value)


edits = st.builds(
    Edit,
    prompt=texts,
    negative_prompt=texts,
    strength=st.floats(0.1, 1.0),
    cfg_scale=st.floats(0, 1000),
    seed=st.integers(0, MAX_SEED),
    steps=st.integers(10, 1000),
    sampler=st.none() | st.sampled_from(["euler", "DPM++ 2M Karras"]),
    schedule=st.none() | st.sampled_from(CURVES),
    eta=st.floats(0, 1),
    sigmas=st.none()
    | st.lists(st.floats(0, 100), min_size=10, max_size=12, unique=True).map(lambda s: tuple(sorted(s, reverse=True))),
    clip_skip=st.none() | st.integers(0, 12),
    dtype=st.sampled_from(["auto", "fp16"]),
)


@given(edits)
def test_what_is_saved_gives_the_edit_back(edit: Edit) -> None:
    through_json = json.loads(json.dumps(edit.saved()))
    back = edit_from([layer_of(through_json, "picture")])
    if edit.sigmas is not None:
        back = dataclasses.replace(back, steps=edit.steps)  # steps mean nothing beside sigmas, and are not kept
    assert back == edit


@reaches(layer=5, refused=20)
@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws its first text in seconds
@given(
    edits.map(Edit.saved),
    st.dictionaries(st.sampled_from([f.name for f in fields()]), st.none() | st.text() | st.integers() | st.floats()),
)
def test_no_table_ends_in_anything_but_a_layer_or_a_preset_error(saved: dict[str, Any], odd: dict[str, Any]) -> None:
    try:
        assert layer_of({**saved, **odd}, "x").source == "x"
    except PresetError:
        reached("refused")
        return
    reached("layer")


NUMBERS = [field for field in fields() if field.kind.is_number]
# int() refuses thousands of digits, float() what is over its range, and formatting either of them.
LARGE = ["9" * 400, "-" + "9" * 400, "9" * 5000, "1e400", "1" + "0" * 400 + ".5", "nan"]


@pytest.mark.parametrize("text", LARGE, ids=lambda text: text[:8])
@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)
def test_numbers_beyond_all_bounds_are_misfits_wherever_they_are_written(field: Field, text: str) -> None:
    with pytest.raises(UsageError, match=f"^{field.flag} is .*expected") as caught:
        field.parse(text, field.flag)
    assert len(str(caught.value)) < 300
    with pytest.raises(UsageError, match=f"^{field.variable} is "):
        environment({field.variable: text})
    with pytest.raises(UsageError, match=f"^{field.key} is "):
        Edit(**{field.name: float(text)})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("error", [PresetError, PictureError])
@pytest.mark.parametrize(
    "value", [10**400, -(10**400), 2**100_000, math.inf, math.nan], ids=lambda value: str(type(value))
)
@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)
def test_numbers_beyond_all_bounds_in_documents_are_misfits(
    field: Field, value: float, error: type[SdeditError]
) -> None:
    with pytest.raises(error, match=f"x: {field.key} is .*expected") as caught:
        layer_of({field.key: [value] if field.many else value}, "x", error)
    assert len(str(caught.value)) < 300


def test_what_is_too_long_is_not_repeated_in_full() -> None:
    word = "x" * MAX_CHARACTERS
    for table in ({word: 1}, {"schedule": word}, {"steps": word}, {"prompt": [word]}):
        with pytest.raises(PresetError) as caught:
            layer_of(table, "p.toml")
        assert len(str(caught.value)) < 300


def test_the_identity_has_contents_for_paths_and_nothing_that_makes_no_pixel() -> None:
    edit = Edit(prompt="a", model="/m/x", vae="v.pt", seed=3, timesteps=(9, 5), device="cpu", safety="off", count=2)
    facts = edit.identity(lambda path: f"hash of {path}")
    assert (facts["model"], facts["vae"], facts["timesteps"]) == ("hash of /m/x", "hash of v.pt", (9, 5))
    assert {name: facts[name] for name in facts if name not in ("model", "vae")} == edit.saved()
    assert not {"steps", "device", "safety", "count", "config"} & set(facts)


def test_every_default_is_as_its_declaration_has_it() -> None:
    """Values that are the default are not looked at again."""
    given = [field for field in fields() if field.default is not None]
    assert len(given) > 10
    for field in given:
        value = field.fit(field.default, field.key)
        assert (value, type(value)) == (field.default, type(field.default)), field.name


def test_an_edit_that_is_varied_is_one_made_anew_and_is_refused_as_that() -> None:
    """Batches make their edits by `varied`, which looks at what changes alone."""
    bases = (
        Edit(prompt="a", seed=1),
        Edit(prompt_embeds="prompts.safetensors"),
        Edit(timesteps=(900, 500, 100), strength=1.0),
        Edit(strength=0.1, steps=10),
    )
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"prompt": "b"},
        {"negative_prompt": "c", "seed": 2},
        {"seed": -1},
        {"prompt": 5},
        {"prompt": "b", "strength": 0.01},
        {"steps": 5},
        {"sigmas": (9.0, 1.0)},
        {"freeu": (1.0, 2.0)},
        {"prompt_embeds": "other.safetensors", "prompt": "", "negative_prompt": ""},
    )

    def outcome(make: Callable[[], Edit]) -> object:
        try:
            return make()
        except UsageError as problem:
            return str(problem)

    found = [
        (outcome(lambda: base.varied(change)), outcome(lambda: dataclasses.replace(base, **change)))  # noqa: B023
        for base in bases
        for change in changes
    ]
    assert [varied for varied, _ in found] == [anew for _, anew in found]
    assert sum(isinstance(anew, str) for _, anew in found) > len(bases) * 3
    assert sum(isinstance(anew, Edit) for _, anew in found) > len(bases) * 3


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ({"lossless": True}, {"quality": 80}, {"quality": 80}),
        ({"quality": 80}, {"lossless": True}, {"lossless": True}),
        ({"quality": 80}, {"lossless": False}, {"quality": 80}),
        ({"timesteps": (9, 5)}, {"exact_steps": False}, {"timesteps": (9, 5)}),
    ],
)
def test_what_is_asked_for_takes_its_rival_back_and_what_is_turned_off_does_not(
    before: dict[str, Any], after: dict[str, Any], wanted: dict[str, Any]
) -> None:
    assert edit_from([Layer("a preset", before), Layer("command line", after)]) == Edit(**wanted)
