"""`sdedit embed encode`: prompts to a file of embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...batch.common import COMPOSED, is_composed
from ...batch.request import Request
from ...errors import UsageError, printable
from ...options import field_named
from ...options.adapters import LoraFile
from ...signals import check, settle
from ..event_words import cut_off, passed_over
from ..file_commands import DEBUG, PATH, check_target
from ..flags import FILES, GroupedCommand, adapter_dirs, field_option, option, options
from ..layering import layering
from ..models import readable
from ..render import plain

_FIELDS = (
    *("prompt", "negative_prompt", "weighting", "long_prompts", "model", "lora", "embedding", "config"),
    *("variant", "download", "partial", "clip_skip", "dtype", "device", "threads"),
)
_SUFFIX = ".safetensors"


@click.command("encode", cls=GroupedCommand, short_help="Encode prompts to a file.")
@options(*(field_option(field_named(name, "")) for name in _FIELDS), adapter_dirs)
@option("-o", "--output", type=PATH, required=True, metavar="FILE", group=FILES, help=f"The {_SUFFIX} file to write.")
@DEBUG
def encode(output: Path, **given: Any) -> None:
    """Write what the text encoder makes of a prompt and a negative prompt.

    'sdedit run --prompt-embeds FILE' takes it in place of -p and -n: then no text encoder is loaded, and none need be
    there. Weights, long prompts, embeddings and the text side of LoRAs are in it; prompts that change over the steps,
    such as [a:b:0.5], are refused. The file says what made it, without paths and times: equal prompts give equal bytes.
    """
    if output.suffix.lower() != _SUFFIX:
        raise UsageError(f"-o {output}: encoded prompts are a {_SUFFIX} file; give it that ending")
    request = layering(given, (), None).request()
    if not (request.edit.prompt or request.edit.negative_prompt):
        raise UsageError("there is nothing to encode; give a prompt with -p")
    check_target(output)
    for line in encoded(request, output):
        click.echo(f"sdedit: {plain(line)}", err=True)


def encoded(request: Request, output: Path) -> list[str]:
    """Writes the prompts of a request, and says what was done. Raises ModelError, UsageError, OutputError."""
    from dataclasses import replace

    from ... import __version__
    from ...disk.hashes import model_hash, remembered_hash
    from ...engine.encoding import check_constant, encode_prompts, encoder_hash
    from ...engine.prompt_file import write_prompts
    from ..folders import content_hash
    from ..preflight import Preflight

    edit, model = request.edit, request.model
    check_constant(edit)
    preflight = Preflight(request)
    preflight.check(complete=False)
    preflight.check_choices(edit)
    check()
    said = [f"warning: AND in the prompt: {COMPOSED}"] if edit.weighting and is_composed(edit.prompt) else []

    def hear(event: str, facts: dict[str, Any]) -> None:
        if event == "truncated":
            said.append(f"warning: {cut_off(facts)}")
            return
        said.append(facts["summary"])
        if left := facts.get("passed_over"):
            said.append(f"warning: {passed_over(left)}")
        said.extend(f"warning: {text}" for text in facts.get("unused", ()))

    with readable(model.name):
        checkpoint = preflight.checkpoint()
        prompts = encode_prompts(edit, checkpoint, hear)
        made_of = [
            *(_of_lora(f, content_hash(Path(f.path))) for f in edit.lora),
            *({"kind": "embedding", "name": f.word, "sha256": content_hash(Path(f.path))} for f in edit.embedding),
        ]
        sha256 = model_hash(checkpoint.path, remembered_hash)
        facts = {
            "version": __version__,
            "text_encoder_sha256": encoder_hash(checkpoint),
            "family": checkpoint.family.title,
            **({"ingredients": made_of} if made_of else {}),
        }
    check()
    write_prompts(output, replace(prompts, path=output, model=(model.name, sha256)), facts, placed=settle)
    _, tokens, width = prompts.prompt_1TC.shape
    said.append(f"{output}: {tokens} tokens of {width} numbers by the model {printable(model.name)}")
    return said


def _of_lora(file: LoraFile, sha256: str) -> dict[str, Any]:
    """What of a LoRA shapes the text: its file, how strong it is, and which parts of it are taken."""
    cut = {"blocks": file.blocks, "dyn": file.dyn}
    told = {name: value for name, value in cut.items() if value}
    return {"kind": "lora", "sha256": sha256, "scale": file.text_scale, **told}
