"""The command line itself: reviewed options, help pages, layers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers.cli import photo

from sdedit_cli.cli.layering import layering
from sdedit_cli.cli.main import command, run
from sdedit_cli.cli.paths import FileName
from sdedit_cli.errors import ModelError
from sdedit_cli.options import GROUPS, Edit, fields
from sdedit_cli.pictures.carriers import carried
from sdedit_cli.pictures.record import Ingredient, Record
from sdedit_cli.presets import load_preset
from tools.docs import pages

PAGES = pages()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_derived_files_are_fresh(path: Path) -> None:
    """A change of an option is reviewed as a change of these files: `python -m tools.docs` rewrites them."""
    assert path.read_text(encoding="utf-8") == PAGES[path]


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", ["", "run", "completion"])
def test_help_fits_the_terminal(name: str, width: int) -> None:
    result = CliRunner().invoke(command, [*([name] if name else []), "--help"], terminal_width=width)
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= width


def test_the_help_page_groups_every_option() -> None:
    page = CliRunner().invoke(command, ["run", "--help"]).output
    headings = [line[:-1] for line in page.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == [*GROUPS, "Reporting", "Sweep"]
    for field in fields():
        assert field.flag in page


def test_options_are_not_given_unless_given() -> None:
    page = command.get_command(click.Context(command), "run")
    assert page is not None
    names = {field.name for field in fields()}
    defaults = {param.name: param.default for param in page.params if param.name in names}
    assert set(defaults) == names
    assert set(defaults.values()) == {None}


def commands(group: click.Group = command) -> Iterator[tuple[click.Context, click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        one = group.get_command(ctx, name)
        if isinstance(one, click.Group):
            yield from commands(one)
        elif one:
            yield click.Context(one), one


def test_no_command_takes_the_name_of_nothing_for_a_path() -> None:
    """It would be the current folder; a shell leaves it of a variable that is not set."""
    paths = [(ctx, p) for ctx, one in commands() for p in one.params if isinstance(p.type, (FileName, click.Path))]
    assert {"inputs", "dest", "output", "like", "presets", "src", "files"} <= {param.name for _, param in paths}
    for ctx, param in paths:
        with pytest.raises(click.BadParameter, match="the path is empty; expected a file, a folder or a name"):
            param.type("", param, ctx)


def none_given(**given: object) -> dict[str, object]:
    return {**{field.name: None for field in fields()}, **given}


def made_with(path: Path, edit: Edit, model: str = "built-in") -> Path:
    record = Record(edit.saved(), 64, 48, (Ingredient("model", model, "ab" * 32),))
    return photo(path, **carried(record, "png").arguments)


def test_layers_win_in_the_order_of_the_design(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """defaults < user config < preset < picture < environment < command line; each sets one more than the next."""
    names = ["strength", "cfg_scale", "eta", "clip_skip", "steps"]
    config, preset = folder / "config.toml", folder / "p.toml"
    config.write_text("strength = 0.1\ncfg-scale = 1\neta = 0.1\nclip-skip = 1\nsteps = 100\n")
    preset.write_text("strength = 0.2\ncfg-scale = 2\neta = 0.2\nclip-skip = 2\n")
    like = made_with(folder / "l.png", Edit(strength=0.3, cfg_scale=3, eta=0.3, seed=1))
    monkeypatch.setenv("SDEDIT_CONFIG", str(config))
    monkeypatch.setenv("SDEDIT_STRENGTH", "0.4")
    monkeypatch.setenv("SDEDIT_CFG_SCALE", "4")
    edit = layering(none_given(strength=0.5), [load_preset(str(preset))], str(like)).request().edit
    # The picture's steps (50, saved with it) hide those of the config.
    assert [getattr(edit, name) for name in names] == [0.5, 4.0, 0.3, 2, 50]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("STRENGHT", "did you mean 'SDEDIT_STRENGTH'?"),
        ("MAX_MEGAPIXEL", "did you mean 'SDEDIT_MAX_MEGAPIXELS'?"),
        ("LORA_DIR", "did you mean 'SDEDIT_LORAS'?"),
        ("QWXYZ", "no option of an edit is called so"),
    ],
)
def test_a_variable_that_nothing_reads_is_told(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for known in ("MODELS", "LORAS", "EMBEDDINGS", "MAX_MEGABYTES", "SCALE_TO_MEGAPIXELS"):
        monkeypatch.setenv(f"SDEDIT_{known}", "1")
    assert layering(none_given(), [], None).request().notes == ()
    monkeypatch.setenv(f"SDEDIT_{name}", "0.5")
    (note,) = layering(none_given(), [], None).request().notes
    assert note.startswith(f"SDEDIT_{name} is set and does nothing: no option of an edit is called so")
    assert note.endswith(said)


def test_presets_stack(folder: Path) -> None:
    for name, text in (("a", "steps = 10\nstrength = 0.5"), ("b", "steps = 20")):
        (folder / f"{name}.toml").write_text(text)
    edit = layering(none_given(), [load_preset(f"{folder}/{name}.toml") for name in "ab"], None).request().edit
    assert (edit.steps, edit.strength) == (20, 0.5)


def test_a_picture_names_models_that_we_have_and_no_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "models" / "mine").mkdir(parents=True)
    (folder / "models" / "mine" / "model_index.json").write_text("{}")
    (folder / "elsewhere").mkdir()
    monkeypatch.setenv("SDEDIT_MODELS", str(folder / "models"))
    mine = made_with(folder / "a.png", Edit(seed=1), "mine")
    assert layering(none_given(), [], str(mine)).request().model.path == folder / "models" / "mine"
    foreign = made_with(folder / "b.png", Edit(seed=1), "elsewhere")
    with pytest.raises(ModelError, match="was made with the model 'elsewhere', which is not in the model folders"):
        layering(none_given(), [], str(foreign)).request()
    assert layering(none_given(model="mine"), [], str(foreign)).request().model.name == "mine"


def test_a_picture_is_not_a_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    foreign = {**Edit(seed=1, strength=0.5).saved(), "download": True, "safety": "off", "count": 9, "vae": "/etc/x"}
    like = photo(folder / "l.png", **carried(Record(foreign, 64, 48), "png").arguments)
    request = layering(none_given(), [], str(like)).request()
    assert request.edit == Edit(seed=1, strength=0.5)
    assert request.like is not None
    assert request.like.ignored == ("count: 9", "download: True", "safety: off", "vae: /etc/x")
    assert run(["run", "--dry-run", "a.png", "--like", str(like)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "ignored is count: 9; download: True; safety: off; vae: /etc/x" in said


@pytest.mark.parametrize("flag", [field.flag for field in fields() if field.kind.is_number])
@pytest.mark.parametrize("number", ["9" * 400, "-" + "9" * 5000, "1e400"])
def test_numbers_beyond_all_bounds_are_usage_errors(
    folder: Path, flag: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", "--dry-run", "a.png", f"{flag}={number}"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{flag} is" in said
    assert len(said) < 400


@pytest.mark.parametrize("number", ["9" * 400, "-" + "9" * 5000, "1e400", "0x" + "f" * 5000])
def test_presets_and_variables_with_such_numbers_are_refused_as_others(
    folder: Path, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in fields():
        if field.kind.is_number:
            (folder / "p.toml").write_text(f"{field.key} = {f'[{number}]' if field.many else number}\n")
            assert run(["run", "--dry-run", "a.png", "--preset", "p.toml"]) == 3
            with monkeypatch.context() as patch:
                patch.setenv(field.variable, number)
                assert run(["run", "--dry-run", "a.png"]) == 2


def test_the_default_model_of_the_config(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "weights").mkdir()
    (folder / "weights" / "mine.safetensors").write_bytes(b"")
    (folder / "config.toml").write_text('model = "mine"\n[models]\nfolders = ["weights"]\n')
    monkeypatch.setenv("SDEDIT_CONFIG", str(folder / "config.toml"))
    request = layering(none_given(), [], None).request()
    assert (request.model.name, request.model.path) == ("mine", folder / "weights" / "mine.safetensors")


def test_the_variable_of_the_user_config_is_no_option_of_an_edit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config.toml").write_text("steps = 9\n")
    monkeypatch.setenv("SDEDIT_CONFIG", str(folder / "config.toml"))
    monkeypatch.setenv("SDEDIT_MODEL_CONFIG", "configs")
    edit = layering(none_given(), [], None).request().edit
    assert (edit.steps, edit.config) == (9, "configs")


def test_flags_take_a_preset_back(folder: Path) -> None:
    assert not layering(none_given(exact_steps=False), [load_preset("quick")], None).request().edit.exact_steps
