"""The settings of programs that write a flat table of them: Fooocus, InvokeAI in its three ways, NovelAI."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from .foreign import MAX_CHARACTERS, Said, file, items, number, read_json, table, text
from .record import Ingredient

_BRACKETED = re.compile(r"\[([^\[\]]*)\]")
# A value may touch its letter: a number any, a name that of the sampler.
_FLAG = re.compile(r"\s-(A|[A-Za-z]+(?=\s)|[A-Za-z](?=[\d.-]))\s*(\S+)")
# The letters of InvokeAI's oldest command line -> our options.
_DREAM = {"s": "steps", "S": "seed", "C": "cfg_scale", "A": "sampler", "f": "strength"}
_INVOKE_WEIGHTS = re.compile(r"\w[+-]{1,}(?=[\s,.)]|$)|\)[+-]+|\)\d")


def said_by_tables(texts: Mapping[str, str]) -> Said | None:
    """What the texts of a picture, by their keys, say in one of these formats; None where it is none of them."""
    readers: tuple[tuple[str, Callable[[Mapping[str, str]], Said | None]], ...] = (
        ("parameters", _fooocus),
        ("invokeai_metadata", _invoke),
        ("sd-metadata", _old_invoke),
        ("Dream", _dream),
        ("Comment", _novel),
    )
    found = (read(texts) for key, read in readers if key in texts)
    return next((said for said in found if said is not None), None)


def _rest(facts: Mapping[str, object], taken: Iterable[str]) -> dict[str, object]:
    names = {*taken, "width", "height", "version", "created_by", "metadata_scheme", "app_version", "resolution"}
    return {
        key: value for key, value in facts.items() if key not in names and value not in (None, "", [], {}, 0, False)
    }


def _fooocus(texts: Mapping[str, str]) -> Said | None:
    facts = table(read_json(texts["parameters"]))
    if not {"base_model", "sampler", "steps"} <= facts.keys():
        return None
    keys = {
        "prompt": "prompt",
        "negative_prompt": "negative_prompt",
        "steps": "steps",
        "guidance_scale": "cfg_scale",
        "seed": "seed",
        "sampler": "sampler",
        "scheduler": "schedule",
    }
    values = {ours: facts.get(theirs) for theirs, ours in keys.items()}
    values["clip_skip"] = _one_less(facts.get("clip_skip"))
    loras = [items(one) for one in items(facts.get("loras"))]
    made_of = [file("model", facts.get("base_model"), facts.get("base_model_hash"))]
    made_of += [file("lora", one[0], one[2] if len(one) > 2 else "", one[1]) for one in loras if len(one) > 1]
    full = ("full_prompt", "full_negative_prompt", "base_model", "base_model_hash", "loras", "clip_skip")
    return Said("Fooocus", values, tuple(made_of), _rest(facts, (*keys, *full)))


def _one_less(value: object) -> int | None:
    """Layers to skip, of programs that count the last one as 1."""
    count = number(value)
    return int(count) - 1 if count is not None and 1 < count < 100 else None


def _invoke(texts: Mapping[str, str]) -> Said | None:
    facts = table(read_json(texts["invokeai_metadata"]))
    if not facts:
        return None
    keys = {
        "positive_prompt": "prompt",
        "negative_prompt": "negative_prompt",
        "steps": "steps",
        "cfg_scale": "cfg_scale",
        "seed": "seed",
        "scheduler": "sampler",
        "strength": "strength",
        "clip_skip": "clip_skip",
    }
    values = {ours: facts.get(theirs) for theirs, ours in keys.items()}
    values["clip_skip"] = values["clip_skip"] or None
    made_of = [_invoke_file("model", facts.get("model"))]
    for one in map(table, items(facts.get("loras"))):
        made_of.append(_invoke_file("lora", one.get("model") or one.get("lora"), one.get("weight", 1.0)))
    left = _rest(facts, (*keys, "model", "loras", "rand_device", "generation_mode"))
    left |= {key: _named(value) for key, value in left.items() if _named(value)}
    return Said("InvokeAI", values, tuple(made_of), {**left, **_other_weights(values, _INVOKE_WEIGHTS)})


def _invoke_file(kind: str, facts: object, scale: object = None) -> Ingredient:
    # Its hashes are BLAKE3, which nobody else knows a file by.
    return file(kind, _named(facts) or facts, scale=scale)


def _named(facts: object) -> str:
    named = table(facts)
    return text(named.get("name") or named.get("model_name"))


def _old_invoke(texts: Mapping[str, str]) -> Said | None:
    facts = table(read_json(texts["sd-metadata"]))
    image = table(facts.get("image"))
    if not image:
        return None
    prompt = image.get("prompt")
    whole = text(prompt) or " ".join(text(table(one).get("prompt")) for one in items(prompt))
    keys = ("steps", "cfg_scale", "seed", "sampler", "strength")
    values: dict[str, object] = {key: image.get(key) for key in keys} | _parted(whole)
    made_of = file("model", facts.get("model_weights"), facts.get("model_hash"))
    left = _rest(image, (*keys, "prompt", "type")) | _other_weights(values, _INVOKE_WEIGHTS)
    return Said("InvokeAI", values, (made_of,), left)


def _dream(texts: Mapping[str, str]) -> Said | None:
    said = texts["Dream"][:MAX_CHARACTERS].strip()
    end = said.rfind('"')
    if not said.startswith('"') or end < 1:
        return None
    flags = dict(_FLAG.findall(said[end + 1 :]))
    values: dict[str, object] = {ours: flags.get(letter) for letter, ours in _DREAM.items()} | _parted(said[1:end])
    left = {f"-{key}": value for key, value in flags.items() if key not in {*_DREAM, "W", "H"}}
    return Said("InvokeAI", values, (), left | _other_weights(values, _INVOKE_WEIGHTS))


def _parted(prompt: str) -> dict[str, object]:
    """A prompt of InvokeAI, which has the negative one within brackets."""
    negative = ", ".join(part.strip(" ,") for part in _BRACKETED.findall(prompt) if part.strip(" ,"))
    return {"prompt": _BRACKETED.sub("", prompt).strip(" ,"), "negative_prompt": negative}


def _novel(texts: Mapping[str, str]) -> Said | None:
    facts = table(read_json(texts["Comment"]))
    if not text(texts.get("Software")).startswith("NovelAI") and not {"uc", "scale"} <= facts.keys():
        return None
    keys = {
        "uc": "negative_prompt",
        "steps": "steps",
        "scale": "cfg_scale",
        "seed": "seed",
        "sampler": "sampler",
        "noise_schedule": "schedule",
        "strength": "strength",
    }
    values: dict[str, object] = {ours: facts.get(theirs) for theirs, ours in keys.items()}
    values["prompt"] = texts.get("Description") or text(facts.get("prompt"))
    made_of = (file("model", texts.get("Source")),) if texts.get("Source") else ()
    left = _rest(facts, (*keys, "prompt", "signed_hash", "request_type"))
    return Said("NovelAI", values, made_of, {**left, **_other_weights(values, re.compile(r"[{}]"))})


def _other_weights(values: Mapping[str, object], marks: re.Pattern[str]) -> dict[str, object]:
    """A word on weights that mean nothing here, where a prompt has some."""
    prompts = (text(values.get(name)) for name in ("prompt", "negative_prompt"))
    found = next((mark[0] for mark in map(marks.search, prompts) if mark), None)
    return {} if found is None else {"weights in prompts": f"'{found}' is a letter here; (word:1.2) is a weight"}
