"""What the jobs of a run have in common, and in what they differ: the first one does not stand for the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..options import WORDS, fields
from .request import Request
from .targets import Job

# Where web UIs end one prompt and begin another: each is denoised by, and the results are added up.
_AND = re.compile(r"(?<![^\s,)\]])AND(?![^\s,(\[])")
COMPOSED = "prompts are not composed here, so it is read as a word, as 'and' is"


def is_composed(prompt: str) -> bool:
    """Whether a prompt is several to web UIs, with an AND between them."""
    return _AND.search(prompt) is not None


class Common:
    """What holds of all of some jobs; of none of them, what holds of `request`.

    `differing` has the different values of each option in which they differ.
    """

    def __init__(self, request: Request, jobs: Sequence[Job]) -> None:
        self._request = jobs[0].request if jobs else request
        self._jobs = jobs
        self._settings = list({id(job.request.settings): job.request.settings for job in jobs}.values())
        self.differing = self._differing()

    def facts(self) -> dict[str, Any]:
        """For programs: the model, the edit and its steps as far as they are the same for all, and of each option in
        which the jobs differ how many values there are; of numbers also the smallest and the largest."""
        edit, settings = self._request.edit, self._settings or [self._request.settings]
        said = {**edit.saved(), "count": edit.count}
        differing = {name: _counted(values) for name, values in self.differing.items()}
        return {
            "model": _same([self._request.model.name, *(job.request.model.name for job in self._jobs)]),
            "edit": {name: value for name, value in said.items() if name not in differing},
            "steps_run": _same(one.steps_run() for one in settings),
            "steps_total": _same(one.steps_total() for one in settings),
            **({"differing": differing} if differing else {}),
        }

    def prompts(self) -> list[str]:
        """The prompt and the negative prompt, for people."""
        prompts = _unlike(
            _word(job, "prompt") or _encoded(job.request.settings.prompt_embeds) or "(none)" for job in self._jobs
        )
        lines = [f"prompt: {prompts[0] if len(prompts) == 1 else f'{len(prompts)} different ones'}"]
        negative = _unlike(_word(job, "negative_prompt") or "(none)" for job in self._jobs)
        if len(negative) > 1:
            return [*lines, f"negative prompt: {len(negative)} different ones"]
        return [*lines, f"negative prompt: {negative[0]}"] if negative != ["(none)"] else lines

    def seeds(self) -> str:
        """The seed of every picture, for people."""
        if self._request.edit.seed is None:
            return "a new seed"
        seeds = {target.seed for job in self._jobs for target in job.targets}
        return f"seed {min(seeds)}" if len(seeds) == 1 else f"{len(seeds)} seeds from {min(seeds)} to {max(seeds)}"

    def extent(self) -> str:
        """How far the edits go, for people."""
        return _same(one.extent() for one in self._settings) or "steps or strengths of their own for each picture"

    def without_prompt(self) -> str | None:
        """Which pictures have no prompt, for people: '' for all of them, None for none."""
        return self._share(lambda job: not _word(job, "prompt") and job.request.settings.prompt_embeds is None)

    def composed(self) -> str | None:
        """Which pictures have a prompt that web UIs would compose, as `without_prompt`."""

        def holds(job: Job) -> bool:
            settings = job.request.settings
            return settings.weighting and settings.prompt_embeds is None and is_composed(_word(job, "prompt"))

        return self._share(holds)

    def without_mask(self) -> str | None:
        """Which pictures lack the mask that their options speak of, as `without_prompt`."""
        lacking = {id(one) for one in self._settings if one.lacks_mask}
        return self._share(lambda job: id(job.request.settings) in lacking)

    def _share(self, holds: Callable[[Job], bool]) -> str | None:
        total = sum(len(job.targets) for job in self._jobs)
        count = sum(len(job.targets) for job in self._jobs if holds(job))
        return None if not count else "" if count == total else f" for {count} of {total} pictures"

    def _differing(self) -> dict[str, list[Any]]:
        names = [field.name for field in fields()] if len(self._settings) > 1 else WORDS
        found = {
            name: _unlike(_word(job, name) for job in self._jobs)
            if name in WORDS
            else _unlike(getattr(one, name) for one in self._settings)
            for name in sorted(names)
        }
        return {name: values for name, values in found.items() if len(values) > 1}


def _word(job: Job, name: str) -> Any:
    """The prompt, negative prompt or seed of a job, without making its edit: a batch has many."""
    return job.request.words.get(name, getattr(job.request.settings, name))


def _encoded(file: str | None) -> str:
    return f"as encoded in {file}" if file else ""


def _unlike(values: Iterable[Any]) -> list[Any]:
    """The different ones among some values, which are mostly one and the same object."""
    objects = {id(value): value for value in values}
    # A list of strengths equals the number that is its first.
    return list({repr(value): value for value in objects.values()}.values())


def _same(values: Iterable[Any]) -> Any:
    """The value that all have; None where they differ."""
    found = _unlike(values)
    return found[0] if len(found) == 1 else None


def _counted(values: Sequence[Any]) -> Mapping[str, Any]:
    numbers = [value for value in values if type(value) in (int, float)]
    return {
        "values": len(values),
        **({"from": min(numbers), "to": max(numbers)} if len(numbers) == len(values) else {}),
    }
