"""Keys: every option that changes pixels changes the key, and no other does; paths count by what lies there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.pipelines import write_checkpoint

from sdedit_cli.batch.keys import BESIDE, Contents, facts_of, has_part, key_of
from sdedit_cli.options import Edit, edit_from, fields, layer_of
from sdedit_cli.options.adapters import IMAGE_ENCODER, EmbeddingFile
from sdedit_cli.options.masks import NAMES as MASK_OPTIONS
from sdedit_cli.weights.checkpoint.from_folder import read_folder

OTHERS: dict[str, Any] = {
    "timesteps": [500, 100],
    "sigmas": [5.0, 1.0],
    "freeu": [0.9, 0.2, 1.3, 1.4],
    "background": "#ff0000",
    "size": "32x32",
    "exact_steps": True,
    "bits": 16,
    "resize": "none",
    "tile": "64:32",
    "upscale": 2.0,
    "cfg_interval": "0.2..0.8",
}
# What is refused without something else beside it.
COMPANY: dict[str, Any] = {
    "c2pa": {"c2pa-key": "other"},
    "c2pa_key": {"c2pa": "other"},
    "ip_adapter": {"ip-image": ["other"]},
    "ip_image": {"ip-adapter": ["other"]},
    "upscaler": {"upscale": 2.0},
}
# What says something only beside something else.
WITH_MASK: dict[str, Any] = {name: {"mask": "file"} for name in MASK_OPTIONS - {"mask"}}
WITH_MASK["same_noise"] = {"repeats": 2}


def another(field: Any) -> Any:
    """A value of an option that is not its default."""
    if field.name in OTHERS:
        return OTHERS[field.name]
    if field.is_switch:
        return not field.default
    if field.option.choices:
        return next(choice for choice in field.option.choices if choice != field.default and ":" not in choice)
    if field.option.path or field.many:
        return ["file"] if field.many else "file"
    if field.kind.is_number:
        return 0.5 if field.kind.name == "float" and field.default != 0.5 else 7
    return "another"


def key(edit: Edit, folder: Path, **more: Any) -> str:
    given = {"model": folder, "input_sha256": "0" * 64, "format": "png", **more}
    return key_of(facts_of(edit, Contents(), **given))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"one")
    return tmp_path


@pytest.mark.parametrize("field", fields(), ids=lambda field: field.name)
def test_an_option_changes_the_key_when_it_changes_the_file(place: Path, field: Any) -> None:
    beside = WITH_MASK.get(field.name, {})
    plain = edit_from([layer_of(beside, "test")])
    changed = edit_from([layer_of({field.key: another(field), **COMPANY.get(field.name, {}), **beside}, "test")])
    assert getattr(changed, field.name) != getattr(Edit(), field.name)
    # The model counts by its files alone, which stand beside the options.
    counts = (field.option.pixels and field.name != "model") or field.name in (*BESIDE, "c2pa", "c2pa_key")
    assert (key(changed, place / "file") != key(plain, place / "file")) == counts


def test_without_a_mask_nothing_of_masks_counts_and_alpha_names_no_file(place: Path) -> None:
    for name in MASK_OPTIONS - {"mask"}:
        field = next(one for one in fields() if one.name == name)
        changed = edit_from([layer_of({field.key: another(field)}, "test")])
        assert key(changed, place / "file") == key(Edit(), place / "file")
    before = key(Edit(mask="alpha"), place / "file")
    (place / "alpha").write_bytes(b"a file of that name")
    assert key(Edit(mask="alpha"), place / "file") == before


def test_a_path_counts_by_what_lies_there(place: Path) -> None:
    edit = edit_from([layer_of({"vae": "file"}, "test")])
    before = key(edit, place / "file")
    (place / "copy").write_bytes(b"one")
    assert key(edit_from([layer_of({"vae": "copy"}, "test")]), place / "copy") == before
    (place / "file").write_bytes(b"two")
    assert key(edit, place / "file") != before


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("diffusion_pytorch_model.safetensors", True),
        ("diffusion_pytorch_model.fp16.bin", True),
        ("my.safetensors", False),
    ],
)
@pytest.mark.parametrize("option", ["vae", "tiny_vae"])
def test_the_config_beside_an_autoencoder_counts_where_it_is_read(
    place: Path, option: str, name: str, counts: bool
) -> None:
    (place / name).write_bytes(b"weights")
    edit = Edit(**{option: str(place / name)})
    before = key(edit, place / "file")
    (place / "config.json").write_text("{}")
    assert (key(edit, place / "file") != before) == counts


def test_the_image_encoder_counts_that_an_adapter_is_read_with(place: Path) -> None:
    """Where no option names it: the one beside the adapter, or the model's own before it."""
    edit = edit_from([layer_of({"ip-adapter": ["ip/adapter.bin"], "ip-image": ["file"]}, "test")])
    for folder in ("ip/image_encoder", "model/unet"):
        (place / folder).mkdir(parents=True)
    (place / "ip" / "adapter.bin").write_bytes(b"an adapter")
    seen: list[str] = []
    for file in ("ip/image_encoder/model.safetensors", "model/image_encoder/model.safetensors"):
        for content in ("one", "two"):
            (place / file).parent.mkdir(exist_ok=True)
            (place / file).write_text(f"{content} of {file}")
            seen.append(key(edit, place / "model"))
    assert len(set(seen)) == 4
    (place / "ip" / "image_encoder" / "model.safetensors").write_bytes(b"read by nobody now")
    assert key(edit, place / "model") == seen[-1]


@pytest.mark.parametrize(
    "said",
    [None, {}, *({"image_encoder": value} for value in (["transformers", "X"], [None, None], [], None, "X"))],
    ids=str,
)
def test_a_model_has_the_parts_that_its_reader_takes(place: Path, said: dict[str, Any] | None) -> None:
    """Where an index does not name the folder, or says that there is none, it is not read, and must not count."""
    write_checkpoint(place / "model", "sd15")
    (place / "model" / IMAGE_ENCODER).mkdir()
    index = place / "model" / "model_index.json"
    if said is None:
        index.unlink()
    else:
        index.write_text(json.dumps({**json.loads(index.read_text()), **said}))
    assert has_part(place / "model", IMAGE_ENCODER) == (IMAGE_ENCODER in read_folder(place / "model").extras)
    assert not has_part(place / "model", "safety_checker")
    assert not has_part(place / "model" / "unet", IMAGE_ENCODER)


def test_the_image_encoder_of_an_adapter_counts_where_the_model_does_not_name_its_own(place: Path) -> None:
    edit = edit_from([layer_of({"ip-adapter": ["ip/adapter.bin"], "ip-image": ["file"]}, "test")])
    for folder in ("ip/image_encoder", "model/image_encoder"):
        (place / folder).mkdir(parents=True)
    (place / "ip" / "adapter.bin").write_bytes(b"an adapter")
    (place / "model" / "model_index.json").write_text("{}")
    before = key(edit, place / "model")
    (place / "model" / "image_encoder" / "model.safetensors").write_bytes(b"read by nobody")
    assert key(edit, place / "model") == before
    (place / "ip" / "image_encoder" / "model.safetensors").write_bytes(b"another")
    assert key(edit, place / "model") != before


def test_the_quality_counts_where_it_changes_pixels(place: Path) -> None:
    for format, counts in (("png", False), ("jpeg", True)):
        keys = {key(Edit(quality=quality), place / "file", format=format) for quality in (50, 90)}
        assert (len(keys) == 2) == counts


def test_an_embedding_is_another_one_under_another_word() -> None:
    def identity(file: str, token: str = "") -> dict[str, Any]:
        return Edit(embedding=(EmbeddingFile(file, token),)).identity(lambda path: "its content")

    assert identity("cat.pt") == identity("elsewhere/cat.safetensors") == identity("x.pt", "cat")
    assert identity("cat.pt") != identity("dog.pt")
