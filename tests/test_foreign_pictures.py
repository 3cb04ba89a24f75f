"""The settings that other programs leave in pictures, read from pictures that these tests make.

Where `sd-parsers` is installed, it is asked too, and must say the same of all that it can read.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdedit_cli.errors import PictureError
from sdedit_cli.pictures.carriers import find
from sdedit_cli.pictures.foreign import MAX_CHARACTERS
from sdedit_cli.pictures.record import Found, Ingredient

PROMPT, NEGATIVE = 'a "red" pond, (frogs:1.2)\nat night 🐸', "mist, rain"


def node(kind: str, **inputs: object) -> dict[str, object]:
    return {"class_type": kind, "inputs": inputs}


GRAPH = {
    "1": node("CheckpointLoaderSimple", ckpt_name="sd\\ponds-v1.safetensors"),
    "2": node(
        "LoraLoader", model=["1", 0], clip=["1", 1], lora_name="a.safetensors", strength_model=0.5, strength_clip=1
    ),
    "3": node(
        "LoraLoader", model=["2", 0], clip=["2", 1], lora_name="b.safetensors", strength_model=-1, strength_clip=0
    ),
    "4": node("CLIPSetLastLayer", clip=["3", 1], stop_at_clip_layer=-2),
    "5": node("CLIPTextEncode", text=PROMPT, clip=["4", 0]),
    "6": node("CLIPTextEncode", text=NEGATIVE, clip=["4", 0]),
    "7": node("LoadImage", image="example.png"),
    "8": node("VAEEncode", pixels=["7", 0], vae=["1", 2]),
    "9": node(
        "KSampler",
        seed=2**60 + 1,
        steps=24,
        cfg=6.5,
        sampler_name="dpmpp_2m_sde_gpu",
        scheduler="karras",
        denoise=0.6,
        model=["3", 0],
        positive=["5", 0],
        negative=["6", 0],
        latent_image=["8", 0],
    ),
    "10": node("VAEDecode", samples=["9", 0], vae=["1", 2]),
    "11": node("UpscaleSharply", image=["10", 0]),
    "12": node("SaveImage", images=["11", 0]),
    "20": node("KSampler", seed=3, steps=2, cfg=1, sampler_name="euler", scheduler="normal", denoise=1),
}
LINKS = [
    [0, int(value[0]), value[1], int(key), 0, name.upper()]
    for key, one in GRAPH.items()
    for name, value in one["inputs"].items()
    if isinstance(value, list)
]
FOOOCUS = {
    "prompt": PROMPT,
    "negative_prompt": NEGATIVE,
    "base_model": "ponds-v1",
    "base_model_hash": "aeb7e9e689",
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "steps": 24,
    "guidance_scale": 6.5,
    "seed": str(2**60 + 1),
    "clip_skip": 2,
    "sharpness": 2.0,
    "loras": [["a", 0.5, "0123456789"]],
}
INVOKE = {
    "positive_prompt": PROMPT,
    "negative_prompt": NEGATIVE,
    "steps": 24,
    "cfg_scale": 6.5,
    "seed": 2**31,
    "scheduler": "dpmpp_2m_k",
    "strength": 0.6,
    "model": {"model_name": "ponds-v1", "hash": "blake3:1234"},
    "loras": [{"model": {"name": "a"}, "weight": 0.5}],
    "vae": {"model_name": "VAEFix"},
}
OLD_INVOKE = {
    "model_weights": "ponds-v1",
    "model_hash": "ab" * 32,
    "image": {
        "prompt": [{"prompt": f"a red pond [{NEGATIVE}]", "weight": 1.0}],
        "steps": 24,
        "cfg_scale": 6.5,
        "seed": 7,
        "sampler": "k_euler_a",
        "threshold": 0.1,
    },
}
NOVEL = {
    "steps": 24,
    "sampler": "k_euler_ancestral",
    "seed": 7,
    "strength": 0.6,
    "noise": 0.1,
    "scale": 6.5,
    "uc": NEGATIVE,
    "noise_schedule": "karras",
}
NOVEL_TEXTS = {
    "Description": PROMPT,
    "Software": "NovelAI",
    "Source": "Stable Diffusion 1D44365E",
    "Comment": json.dumps(NOVEL),
}
WEB_UI = f"{PROMPT}\nNegative prompt: {NEGATIVE}\nSteps: 24, Sampler: DPM++ 2M, CFG scale: 6.5, Seed: 7"
BASIC = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "steps": 24, "cfg_scale": 6.5}

TEXTS: dict[str, Mapping[str, str]] = {
    "ComfyUI": {"prompt": json.dumps(GRAPH), "workflow": json.dumps({"links": LINKS})},
    "Fooocus": {"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"},
    "InvokeAI": {"invokeai_metadata": json.dumps(INVOKE)},
    "InvokeAI 2": {"sd-metadata": json.dumps(OLD_INVOKE)},
    "InvokeAI 1": {"Dream": f'"a red pond [{NEGATIVE}]" -s 24 -S 7 -W 512 -H 768 -C 6.5 -A k_lms -f 0.6 -G 0.9'},
    "NovelAI": NOVEL_TEXTS,
}
VALUES: dict[str, dict[str, Any]] = {
    "ComfyUI": BASIC
    | {"seed": 2**60 + 1, "sampler": "DPM++ 2M SDE", "schedule": "karras", "strength": 0.6, "clip_skip": 1},
    "Fooocus": BASIC | {"seed": 2**60 + 1, "sampler": "DPM++ 2M SDE", "schedule": "karras", "clip_skip": 1},
    "InvokeAI": BASIC | {"seed": 2**31, "sampler": "DPM++ 2M", "schedule": "karras", "strength": 0.6},
    "InvokeAI 2": BASIC | {"prompt": "a red pond", "seed": 7, "sampler": "Euler a"},
    "InvokeAI 1": BASIC | {"prompt": "a red pond", "seed": 7, "sampler": "LMS", "strength": 0.6},
    "NovelAI": BASIC | {"seed": 7, "sampler": "Euler a", "schedule": "karras", "strength": 0.6},
}
MADE_OF = {
    "ComfyUI": (
        Ingredient("model", "ponds-v1"),
        Ingredient("lora", "a", "", 0.5, 1.0),
        Ingredient("lora", "b", "", -1.0, 0.0),
    ),
    "Fooocus": (Ingredient("model", "ponds-v1", "aeb7e9e689"), Ingredient("lora", "a", "0123456789", 0.5)),
    "InvokeAI": (Ingredient("model", "ponds-v1"), Ingredient("lora", "a", "", 0.5)),
    "InvokeAI 2": (Ingredient("model", "ponds-v1", "ab" * 32),),
    "InvokeAI 1": (),
    "NovelAI": (Ingredient("model", "Stable Diffusion 1D44365E"),),
}
LEFT = {
    "ComfyUI": ("nodes: UpscaleSharply",),
    "Fooocus": ("sharpness: 2.0",),
    "InvokeAI": ("vae: VAEFix",),
    "InvokeAI 2": ("threshold: 0.1",),
    "InvokeAI 1": ("-G: 0.9",),
    "NovelAI": ("noise: 0.1",),
}


def png(path: Path, texts: Mapping[str, str], mode: str = "RGB") -> Path:
    info = PngInfo()
    for key, value in texts.items():
        info.add_itxt(key, value)
    Image.new(mode, (64, 48)).save(path, pnginfo=info)
    return path


@pytest.mark.parametrize("name", TEXTS)
def test_the_settings_of_other_programs_are_read_and_the_rest_is_named(tmp_path: Path, name: str) -> None:
    found = find(png(tmp_path / "x.png", TEXTS[name]))
    assert found.program == name.split()[0]
    assert not found.exact
    assert found.layer.values == VALUES[name]
    assert found.ingredients == MADE_OF[name]
    assert found.ignored == LEFT[name]


@pytest.mark.parametrize("name", TEXTS)
def test_sd_parsers_says_the_same(tmp_path: Path, name: str) -> None:
    """Prompts, numbers and the model; which sampler of a graph is the picture's, it leaves to its caller."""
    parsers = pytest.importorskip("sd_parsers")
    path = png(tmp_path / "x.png", TEXTS[name])
    found, theirs = find(path), parsers.ParserManager().parse(str(path))
    first = theirs.samplers[0]
    said = {key: float(value) for key, value in {**theirs.metadata, **first.parameters}.items() if key in BASIC}
    said |= {"seed": int(first.parameters["seed"])}
    assert {key: found.layer.values[key] for key in said} == said
    assert len(said) == 3
    assert [one.value for one in first.prompts] == [found.layer.values["prompt"]]
    assert [one.value for one in first.negative_prompts] == [found.layer.values["negative_prompt"]]
    # Of a model behind LoRAs it gives the link for the name.
    name = first.model and first.model.name
    assert not isinstance(name, str) or found.model.name in f"{name} {first.model.hash}"


def hide(path: Path, text: str, word: bytes, *, packed: bool, channels: slice) -> Path:
    """A picture with `text` in the lowest bits, from the facts of the format."""
    body = gzip.compress(text.encode()) if packed else text.encode()
    data = word + (8 * len(body)).to_bytes(4, "big") + body
    pixels = np.full((96, 80, 4 if channels.start == 3 else 3), 200, np.uint8)
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    columns = pixels[:, :, channels].transpose(1, 0, 2).reshape(-1).copy()
    columns[: len(bits)] = (columns[: len(bits)] & 254) | bits
    shape = (80, 96, channels.stop - channels.start)
    pixels[:, :, channels] = columns.reshape(shape).transpose(1, 0, 2)
    Image.fromarray(pixels).save(path, lossless=True)
    return path


@pytest.mark.parametrize("ending", ["png", "webp"])
@pytest.mark.parametrize(
    ("word", "packed", "channels"),
    [
        (b"stealth_pngcomp", True, slice(3, 4)),
        (b"stealth_pnginfo", False, slice(3, 4)),
        (b"stealth_rgbcomp", True, slice(0, 3)),
        (b"stealth_rgbinfo", False, slice(0, 3)),
    ],
)
def test_what_is_hidden_in_pixels_is_read(
    tmp_path: Path, word: bytes, packed: bool, channels: slice, ending: str
) -> None:
    for text, name in ((WEB_UI, ""), (json.dumps(NOVEL_TEXTS), "NovelAI")):
        found = find(hide(tmp_path / f"x.{ending}", text, word, packed=packed, channels=channels))
        assert found.program == name
        assert found.layer.values["prompt"] == PROMPT
        assert found.layer.values["steps"] == 24


@pytest.mark.filterwarnings("ignore:Image.Image.getdata")
def test_sd_parsers_sees_what_these_tests_hide(tmp_path: Path) -> None:
    parsers = pytest.importorskip("sd_parsers")
    path = hide(tmp_path / "x.png", WEB_UI, b"stealth_pngcomp", packed=True, channels=slice(3, 4))
    theirs = parsers.ParserManager(eagerness=parsers.Eagerness.EAGER).parse(str(path))
    assert theirs.samplers[0].prompts[0].value == PROMPT


@pytest.mark.parametrize(
    "packed", [b"", b"\x1f\x8b\0", gzip.compress(bytes(80_000_000), mtime=0), gzip.compress(b"{}", mtime=0)[:-9]]
)
def test_what_is_hidden_and_broken_is_no_settings(tmp_path: Path, packed: bytes) -> None:
    data = b"stealth_pngcomp" + (8 * len(packed) or 2**32 - 1).to_bytes(4, "big") + packed
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    side = int(len(bits) ** 0.5) + 2
    alpha = np.full(side * side, 254, np.uint8)
    alpha[: len(bits)] |= bits
    pixels = np.dstack([np.zeros((side, side, 3), np.uint8), alpha.reshape(side, side).T])
    Image.fromarray(pixels).save(tmp_path / "x.png")
    with pytest.raises(PictureError, match="holds no settings"):
        find(tmp_path / "x.png")


def test_where_jpeg_and_webp_keep_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + json.dumps(FOOOCUS).encode("utf-16-be")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg", exif=exif.tobytes())
    assert find(tmp_path / "x.jpg").layer.values == VALUES["Fooocus"]
    exif = Image.Exif()
    exif[0x0110] = "prompt:" + json.dumps(GRAPH)
    Image.new("RGB", (8, 8)).save(tmp_path / "x.webp", exif=exif.tobytes())
    assert find(tmp_path / "x.webp").layer.values == VALUES["ComfyUI"]


def changed(**inputs: object) -> Found | None:
    from sdedit_cli.pictures.foreign import found_of
    from sdedit_cli.pictures.foreign_graph import said_by_graph

    graph = {**GRAPH, "9": node("KSampler", **{**GRAPH["9"]["inputs"], **inputs})}
    graph["30"] = node("PrimitiveInt", value=33)
    graph["31"] = node("StringNode", string="a lake")
    graph["32"] = node("CLIPTextEncode", text=["31", 0], clip=["1", 1])
    graph["33"] = node("ConditioningCombine", conditioning_1=["5", 0], conditioning_2=["32", 0])
    said = said_by_graph({"prompt": json.dumps(graph)})
    return said and found_of(said, "x.png")


def test_a_graph_is_followed_through_values_and_joined_prompts() -> None:
    found = changed(steps=["30", 0], positive=["33", 0])
    assert found
    assert found.layer.values["steps"] == 33
    assert found.layer.values["prompt"] == f"{PROMPT}, a lake"


def found_in(graph: dict[str, object]) -> Found:
    from sdedit_cli.pictures.foreign import found_of
    from sdedit_cli.pictures.foreign_graph import said_by_graph

    said = said_by_graph({"prompt": json.dumps(graph)})
    assert said
    return found_of(said, "x.png")


def test_a_sampler_of_parts_says_what_one_node_would() -> None:
    inputs = dict(GRAPH["9"]["inputs"])
    taken = {name: inputs.pop(name) for name in ("seed", "sampler_name", "cfg", "positive", "negative", "model")}
    seed, name = taken.pop("seed"), taken.pop("sampler_name")
    parts = {
        "9": node(
            "SamplerCustomAdvanced",
            noise=["91", 0],
            guider=["92", 0],
            sampler=["93", 0],
            sigmas=["94", 0],
            latent_image=inputs.pop("latent_image"),
        ),
        "91": node("RandomNoise", noise_seed=seed),
        "92": node("CFGGuider", **taken),
        "93": node("KSamplerSelect", sampler_name=name),
        "94": node("BasicScheduler", model=taken["model"], **inputs),
    }
    found, usual = found_in({**GRAPH, **parts}), found_in(GRAPH)
    assert found.layer.values == usual.layer.values
    assert found.ingredients == usual.ingredients
    assert found.ignored == usual.ignored


def test_the_step_at_which_a_sampler_begins_is_a_strength() -> None:
    inputs = {key: value for key, value in GRAPH["9"]["inputs"].items() if key != "denoise"}
    begun = node("KSamplerAdvanced", **{**inputs, "steps": 20, "start_at_step": 8, "end_at_step": 10000})
    assert found_in({**GRAPH, "9": begun}).layer.values["strength"] == pytest.approx(0.6)


def test_what_has_no_counterpart_is_named_and_costs_nothing_else() -> None:
    found = changed(scheduler="sgm_uniform", denoise=1.0, seed=-5, sampler_name="res_multistep", cfg="much")
    assert found
    assert found.layer.values == {
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "steps": 24,
        "clip_skip": 1,
        "sampler": "res_multistep",  # the run says that nobody is called so, and how to choose another
    }
    assert {one.partition(":")[0] for one in found.ignored} == {"nodes", "schedule", "strength", "seed", "cfg-scale"}


def test_flags_of_the_oldest_text_may_touch_their_values(tmp_path: Path) -> None:
    said = f'"a red pond [{NEGATIVE}]" -s24 -S7 -W512 -H768 -C6.5 -Ak_lms -f 0.6 -G0.9 --hires_fix -v-1'
    found = find(png(tmp_path / "x.png", {"Dream": said}))
    assert found.layer.values == VALUES["InvokeAI 1"]
    assert found.ignored == ("-G: 0.9", "-v: -1")


DEEP = "[" * 200_000 + "]" * 200_000
LOOP = {"1": node("KSampler", steps=1, cfg=1, seed=1, positive=["2", 0], model=["1", 0]), "2": node("A", text=["1", 0])}


@pytest.mark.parametrize("key", ["prompt", "invokeai_metadata", "sd-metadata", "Comment", "parameters", "Dream"])
@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "{",
            "[]",
            "{}",
            "7",
            '"x"',
            "null",
            DEEP,
            '{"image": 3}',
            '{"1": 2}',
            '{"1": {"class_type": [], "inputs": 7}}',
        ),
        *(json.dumps(LOOP), '{"base_model": [], "sampler": {}, "steps": [[]], "loras": [1, [2], [[], {}, []]]}'),
        *('{"positive_prompt": 1e999, "seed": NaN, "model": [1], "loras": {"a": 1}}', '{"uc": {}, "scale": -Infinity}'),
        '{"image": {"prompt": [[], 1, {"prompt": 5}], "steps": "many"}}',
        '"' + "[" * 50_000 + '" -s',
    ],
)
def test_hostile_texts_are_told_or_refused(tmp_path: Path, key: str, text: str) -> None:
    path = png(tmp_path / "x.png", {key: text, "Software": "NovelAI"})
    with suppress(PictureError):
        found = find(path)
        assert set(found.layer.values) <= {*BASIC, "seed", "sampler", "strength", "schedule", "clip_skip"}


def test_a_document_over_the_bound_is_not_read(tmp_path: Path) -> None:
    large = {**GRAPH, "99": node("Note", text="x" * MAX_CHARACTERS)}
    with pytest.raises(PictureError, match="holds no settings"):
        find(png(tmp_path / "x.png", {"prompt": json.dumps(large)}))
    with pytest.raises(PictureError, match="prompt has"):
        find(png(tmp_path / "x.png", {"invokeai_metadata": json.dumps({**INVOKE, "positive_prompt": "x" * 200_000})}))
