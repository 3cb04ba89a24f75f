"""The scheduler classes of the reference by their names, made from the table of samplers.

Each is a Scheduler that is told by its class which sampler it is. How a run walks is told by `Scheduler.grid` and
`Scheduler.step`, which are ours: the reference's `set_timesteps` and `step` keep what they do in the object.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..configs.scheduler import OPTIONS, SchedulerConfig, unsaid
from ..engine.loading import located
from ..noise import CLASS_NAMES, Scheduler
from ..noise.scheduler import FILE, configured, said_by
from .keywords import as_folder, as_place, split_resolving, without_harmless
from .words import arguments_named


class NamedScheduler(Scheduler):
    """A Scheduler made by the name of its class; options not given are the class's own defaults."""

    @arguments_named()
    def __init__(self, **options: Any) -> None:
        """Names with `_` before them, which a config has too, are no options.

        Raises UsageError for an option that the class does not take, or a value that it cannot have.
        """
        name = type(self).__name__
        taken = {key: value for key, value in options.items() if not key.startswith("_")}
        made = configured({"_class_name": name}, name, taken)
        # What nobody said in the config that these come from, another class has its own defaults for, as before.
        silent = {key: OPTIONS[name].get(key) for key in unsaid(options)}
        given = tuple((key, value) for key, value in made.given if key not in silent or silent[key] != value)
        super().__init__(replace(made, given=given))

    @classmethod
    def of(cls, settings: SchedulerConfig) -> NamedScheduler:
        """The scheduler with these settings, which must be of this class."""
        made = cls.__new__(cls)
        Scheduler.__init__(made, settings)
        return made

    @classmethod
    @arguments_named()
    def from_config(
        cls, config: Mapping[str, Any] | str | Path | SchedulerConfig | Scheduler, **overrides: Any
    ) -> NamedScheduler:
        """This sampler over what a config (of any class) says of the training, with options overridden.

        A place is read as `from_pretrained` reads it, and takes its options.
        Raises ModelError when the config is not usable, UsageError for an override that the class does not take.
        """
        if isinstance(config, (str, os.PathLike)):
            return cls.from_pretrained(config, **overrides)
        return cls._over(*said_by(config), without_harmless(overrides))

    @classmethod
    @arguments_named()
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], subfolder: str | None = None, **options: Any
    ) -> NamedScheduler:
        """The same, of the config in a folder (a path or a Hub id), or in its `subfolder`.

        Options are overrides, and those of `weights.resolve`. Raises ModelError where there is no usable config.
        """
        resolving, overrides = split_resolving(options)
        source = as_place(pretrained_model_name_or_path, "the scheduler")
        path = located(source, subfolder=subfolder, weight_name=FILE, **resolving)
        return cls._over(*said_by(path), overrides)

    @classmethod
    def _over(cls, said: Mapping[str, Any], origin: str, overrides: Mapping[str, Any]) -> NamedScheduler:
        return cls.of(configured({**said, "_class_name": cls.__name__}, origin, overrides))

    @arguments_named()
    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False) -> None:
        """Writes `scheduler_config.json` into the folder. Raises UsageError where more is asked for."""
        without_harmless({"push_to_hub": push_to_hub})
        self.save(as_folder(save_directory))

    def save_config(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False) -> None:
        """The same, by its other name."""
        self.save_pretrained(save_directory, push_to_hub)

    def __len__(self) -> int:
        """How many steps the noise of the training has."""
        return self.settings.num_train_timesteps

    def __bool__(self) -> bool:
        return True

    @property
    def compatibles(self) -> list[type[NamedScheduler]]:
        """The classes that can take this scheduler's place: all of them read one config."""
        return list(CLASSES.values())


def _class(name: str) -> type[NamedScheduler]:
    facts = {"__module__": __name__.partition(".")[0], "__doc__": f"The sampler '{CLASS_NAMES[name]}'."}
    return type(name, (NamedScheduler,), facts)


CLASSES: Mapping[str, type[NamedScheduler]] = {name: _class(name) for name in CLASS_NAMES}


def named(scheduler: Scheduler) -> NamedScheduler:
    """The scheduler as an instance of the class that its config names."""
    return CLASSES[scheduler.settings.class_name].of(scheduler.settings)
