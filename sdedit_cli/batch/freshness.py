"""Whether an output is what its job would make, and if not, why: from the journal and the files, without a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..disk.hashes import file_hash
from ..disk.stamps import NOWHERE, Stamp
from ..disk.stood import NOTHING, Stood, stamps_of
from ..errors import OutputError, listed, shown
from ..pictures.source import byte_limit
from .journal import Entry, Known, text_of
from .ledger import CLEAN, FLAGGED

_WORDS = {
    "input": "the input changed",
    "prompt": "the prompt changed",
    "negative_prompt": "the negative prompt changed",
    "model": "the model changed",
    "model_says": "what the model says of itself changed",
    "vae_says": "what the autoencoder says of itself changed",
    "image_encoder": "the image encoder changed",
    "version": "made by another numeric version",
}

_CIRCUMSTANCES = {
    "backend": "made with the backend {before}, and it would be {now}",
    "together": "made {before} at a time, and it would be {now}",
}


NEW = "not made yet"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done about an output. `reason` says why, for people; '' when it is `fresh`.

    `failed`: the last try failed. `ours`: what is there (if anything) was made by this batch and nobody touched it:
    it is what `stood` there."""

    reason: str
    ours: bool = True
    failed: bool = False
    stood: Stood = NOTHING

    @property
    def fresh(self) -> bool:
        return not self.reason


def judge(
    output: Path,
    key: str,
    facts: Mapping[str, str],
    known: Known | None,
    environment: Mapping[str, Any] | None = None,
    *,
    blocks: bool = False,
) -> Verdict:
    """The verdict on an output; `environment` (of now, as far as it is known) is compared too where given. `blocks`:
    what a safety checker did not let through is stale, as there is one."""
    stamps = stamps_of(output)
    if known is None or known.last.event == "pruned":
        return Verdict("it is there and no journal knows it" if stamps else NEW, ours=not stamps)
    last, made = known.last, known.placed or known.last
    there = stamps[-1] if stamps else NOWHERE
    if there not in (NOWHERE, made.output_stamp) and os.path.isdir(output):
        return Verdict("a folder has its name", ours=False, failed=last.event == "failed")
    sha256 = _hash(output, there, made)
    ours, stood = not sha256 or sha256 in known.written, Stood(stamps, sha256)
    if not sha256:
        reason = "the output is gone" if made.event == "done" else "it was not finished"
    elif not ours:
        reason = "the output was edited by hand"
    elif sha256 != made.sha256:
        reason = "the output is an older one" if made.event == "done" else "it was not finished"
    elif key != made.key:
        reason = changed(made.facts, facts)
    elif blocks and made.safety != CLEAN:
        reason = "the safety checker flags it" if made.safety == FLAGGED else "the safety checker has not looked at it"
    else:
        reason = "" if environment is None else _other(made.environment, environment)
    # What is there as it was made is fresh, whatever was tried in between: the input may be as it was again.
    if reason and last.event == "failed":
        said = f"failed: {text_of(last.error)}" if last.error else "failed"
        return Verdict(said, ours, failed=True, stood=stood)
    return Verdict(reason, ours, stood=stood)


def _hash(output: Path, stamp: Stamp, made: Entry) -> str:
    """The hash of an output; '' where there is none. One of the size and time of then is not read."""
    if stamp == NOWHERE:
        return ""
    if made.event == "done" and stamp == made.output_stamp:
        return made.sha256
    if stamp[0] > byte_limit(os.environ):
        return "too large"  # to be of ours
    try:
        return file_hash(output)
    except OSError as problem:
        raise OutputError(f"{output}: cannot be read ({problem.strerror})") from None


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Which of the facts of a picture are others now, for people."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    words = [_WORDS.get(name, f"{name.replace('_', '-')} changed") for name in names]
    return listed(words) or "what it is made of changed"


def _other(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What of the circumstances is another than before, for people; of what nobody noted then, nothing is known."""
    name = next((name for name, value in now.items() if before.get(name) not in (None, value)), None)
    if name is None:
        return ""
    return _CIRCUMSTANCES.get(name, f"made on another {name}").format(before=shown(before[name]), now=now[name])
