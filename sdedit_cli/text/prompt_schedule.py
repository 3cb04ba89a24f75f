"""Prompts that change while the picture is made: `[a:b:when]` and `[a|b]`, resolved for each step."""

from __future__ import annotations

from ..errors import UsageError
from .grammar import Alternation, Emphasis, Node, Prompt, Schedule, parse, write

MAX_WORK = 10_000_000  # characters of all steps' prompts together
MAX_PROMPTS = 300_000  # characters of those that differ: each is encoded and kept


def segments(text: str, steps: int) -> list[tuple[int, str]]:
    """(until, prompt) pairs: the prompt counts for the steps before `until` that no earlier pair has; the last `until`
    is `steps`. Raises UsageError when there are too many of them for their length."""
    prompt = parse(text)
    if not is_scheduled(prompt):
        return [(steps, text)]
    if len(text) * steps > MAX_WORK:
        raise UsageError(f"a prompt of {len(text)} characters is too long to change over {steps} steps; shorten it")
    found: list[tuple[int, str]] = []
    for step in range(steps):
        now = write(at_step(prompt, step, steps))
        if found and found[-1][1] == now:
            found.pop()
        found.append((step + 1, now))
    if sum(map(len, {now for _, now in found})) > MAX_PROMPTS:
        raise UsageError(f"the prompt becomes {len(found)} different ones, too many for their length; shorten it")
    return found


def is_scheduled(prompt: Prompt) -> bool:
    """Whether the prompt can differ between steps."""
    return any(
        isinstance(node, (Schedule, Alternation)) or (isinstance(node, Emphasis) and is_scheduled(node.body))
        for node in prompt
    )


def at_step(prompt: Prompt, step: int, steps: int) -> Prompt:
    """The prompt of step `step` (counted from 0) of `steps`, without schedules."""
    return tuple(now for node in prompt for now in _node_at(node, step, steps))


def _node_at(node: Node, step: int, steps: int) -> Prompt:
    match node:
        case Schedule(before, after, when):
            return at_step(before if step < _switch(when, steps) else after, step, steps)
        case Alternation(options):
            return at_step(options[step % len(options)], step, steps)
        case Emphasis(body, weight):
            now = at_step(body, step, steps)
            return (Emphasis(now, weight),) if now else ()
        case _:
            return (node,)


def _switch(when: float, steps: int) -> int:
    """The number of steps before the change."""
    # 0.29 of 100 steps are 29, though the product of the floats is a little less.
    return int(when * steps + 1e-6) if when < 1 else int(when)
