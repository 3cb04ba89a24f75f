"""Before a run: which pictures may be written, under which names, in folders clear of what killed runs left."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

from ..disk.checks import check_folder
from ..disk.leftovers import clear_leftovers
from ..errors import OutputError
from .request import RunOptions
from .targets import Job, Target, settle
from .telling import Telling


class Settling:
    """The names of a run's pictures. `taken` are the paths promised so far."""

    def __init__(self, options: RunOptions, tell: Telling) -> None:
        self._options = options
        self._tell = tell
        self.taken: set[Path] = set()

    def settled(self, job: Job) -> Job | None:
        """The job with the pictures that may be written, under the names that they get; None where there is none.

        Raises OutputError.
        """
        targets = tuple(self._free(job))
        self._check_steps_dir()
        return replace(job, targets=targets) if targets else None

    def _free(self, job: Job) -> Generator[Target, None, None]:
        for target in job.targets:
            if target.path is None or target.replaces:
                if target.path is not None and self._options.dry_run:  # a run is told so by the disk
                    check_folder(target.path.parent, "DEST")
                    if target.path.is_dir():
                        raise OutputError(f"{target.path}: is a folder; move it away or choose another output")
                yield target
                continue
            flag = "--sweep-dir" if target.cell else "-o"
            path = settle(target.path, self._options.on_exists, self.taken, flag)
            if path is None:
                self._tell.skipped(job, target, drawn_seed=self._options.drawn_seed)
                continue
            check_folder(path.parent, flag)
            self.taken.add(path)
            yield replace(target, path=path, wanted=target.path)

    def _check_steps_dir(self) -> None:
        folder, on_exists = self._options.steps_dir, self._options.on_exists
        if folder is None or self._options.dry_run:
            return
        check_folder(folder, "--steps-dir")
        there = next(iter(sorted(folder.glob("*-step-*.png"))), None) if on_exists == "fail" else None
        if there is not None:
            raise OutputError(f"{there}: exists already; name an empty --steps-dir, or --on-exists overwrite or suffix")

    def clear(self, jobs: Sequence[Job]) -> None:
        """Removes, and says so, what killed runs left in the folders to write into."""
        if self._options.dry_run:
            return
        folders = dict.fromkeys(target.path.parent for job in jobs for target in job.targets if target.path)
        if self._options.steps_dir:
            folders[self._options.steps_dir] = None
        for folder in folders:
            for name in clear_leftovers(folder):
                self._tell.warn(f"{folder / name}: removed; a run that was killed left it unfinished")
