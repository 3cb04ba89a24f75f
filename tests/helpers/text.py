"""Tokenizer folders of every generation that is met in the wild, on the small vocabulary of the starter checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sdedit_cli.text

STARTER = Path(sdedit_cli.text.__file__).parent.parent / "assets" / "starter" / "tokenizer"
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def put_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def flagged(content: str, **more: Any) -> dict[str, Any]:
    """A special token as files of 2022 spell it: flags, and matched after lower-casing."""
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False, **more}


def bare(folder: Path) -> Path:
    """Vocabulary and merges, and nothing else."""
    folder.mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(STARTER / name, folder / name)
    return folder


def modern(folder: Path) -> Path:
    """tokenizer.json and tokenizer_config.json only."""
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(STARTER / name, folder / name)
    return folder


def complete(folder: Path) -> Path:
    """All the files, as a save with both generations leaves them."""
    return Path(shutil.copytree(STARTER, folder))


def classic(folder: Path, pad: Any = EOS) -> Path:
    """As the first releases of Stable Diffusion 1.x: the special tokens twice, the pad token by its text alone."""
    bare(folder)
    typed = {"__type": "AddedToken"}
    put_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "bos_token": flagged(BOS, **typed),
            "do_lower_case": True,
            "eos_token": flagged(EOS, **typed),
            "errors": "replace",
            "model_max_length": 32,
            "pad_token": EOS,
            "tokenizer_class": "CLIPTokenizer",
            "unk_token": flagged(EOS, **typed),
        },
    )
    special = {"bos_token": flagged(BOS), "eos_token": flagged(EOS), "pad_token": pad, "unk_token": flagged(EOS)}
    put_json(folder / "special_tokens_map.json", special)
    return folder


def exclamation(folder: Path) -> Path:
    """As Stable Diffusion 2.x: padded with '!', which then is id 0 inside the text as well."""
    return classic(folder, pad="!")


def added(folder: Path) -> Path:
    """A classic folder to which tokens were added, one of them special."""
    classic(folder)
    put_json(folder / "added_tokens.json", {"<Cat>": 1914, "<dog>": 1915, "<s>": 1916})
    special = json.loads((folder / "special_tokens_map.json").read_text(encoding="utf-8"))
    put_json(folder / "special_tokens_map.json", special | {"additional_special_tokens": ["<s>"]})
    return folder


def numbered(folder: Path) -> Path:
    """`added_tokens_decoder` in tokenizer_config.json: special_tokens_map.json no longer counts."""
    bare(folder)
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    decoder = {
        "1912": {"content": BOS, **flags},
        "1913": {"content": EOS, **flags},
        "1914": {"content": "<Word>", **flags, "normalized": True, "special": False, "single_word": True},
        "1915": {"content": "<wide>", **flags, "lstrip": True, "rstrip": True},
    }
    put_json(
        folder / "tokenizer_config.json",
        {"added_tokens_decoder": decoder, "bos_token": BOS, "eos_token": EOS, "pad_token": "!", "model_max_length": 16},
    )
    put_json(folder / "special_tokens_map.json", {"pad_token": "?"})
    return folder


FOLDERS: dict[str, Callable[[Path], Path]] = {
    maker.__name__: maker for maker in (bare, modern, complete, classic, exclamation, added, numbered)
}
