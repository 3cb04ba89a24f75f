"""Folders and glob patterns as a source: which pictures are in them, in an order that people expect."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..disk.stamps import stamp_of
from ..errors import JobFileError, UsageError, listed, shortened
from ..pictures.endings import COMMON_ENDINGS, READ_ENDINGS
from .journal import FOLDER, journals_of, read_all
from .names import RESULT
from .patterns import ANY_FOLDERS, fits, is_pattern, parts_of, reached
from .rows import NOTHING, Row, Unseen
from .targets import natural


@dataclass(frozen=True, slots=True)
class Search:
    """How a folder is looked through. `leave_out` is a folder of results, which may lie within it or hold it.

    `include` and `exclude` are glob patterns on names within the folder; one without '/' is of a name at any depth.
    What is excluded as a folder is so with all that is in it.
    """

    recursive: bool = False
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    leave_out: Path | None = None


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures by their names in `folder` ('a/b/pic.png' on every system), and what people are to know of others."""

    folder: str
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    unseen: Unseen = NOTHING

    def paths(self) -> Iterator[str]:
        """The path of each, from where that of the folder counts."""
        root = str(Path(self.folder))
        begin = "" if root == os.curdir else os.path.join(root, "")
        return (begin + (name if os.sep == "/" else name.replace("/", os.sep)) for name in self.names)


def pictures_of(source: str, search: Search, base: str = "") -> Pictures:
    """The pictures that a folder, a glob pattern or the path of one names, relative ones from the folder `base`.

    A path is taken as it is, whatever lies there. Raises UsageError where a folder or pattern has none, though all that
    may be in it was seen, JobFileError where the folder itself cannot be read.
    """
    place = os.path.join(base, source)
    if os.path.isdir(place):
        return _in_folder(source, search, base)
    if is_pattern(source, base):
        return _by_pattern(source, search, base)
    folder, name = os.path.split(source.rstrip("/" + os.sep) or source)
    return Pictures(folder, (name,))


def _in_folder(folder: str, search: Search, base: str) -> Pictures:
    depth = (ANY_FOLDERS, "*") if search.recursive else ("*",)
    found = _pictures(folder, depth, search, base)
    if not found.names and not found.unseen.unread:
        deeper = "" if search.recursive else "; --recursive looks into its folders too"
        raise _nothing(f"{shortened(folder)}: no picture in it", search, found, deeper)
    return found


def _by_pattern(pattern: str, search: Search, base: str) -> Pictures:
    expanded = os.path.expanduser(pattern)
    parts = (expanded if os.sep == "/" else expanded.replace(os.sep, "/")).split("/")
    fixed = next(at for at, part in enumerate(parts) if glob.has_magic(part))
    folder = "/".join(parts[:fixed]) or ("/" if fixed else "")
    found = _pictures(folder, tuple(part for part in parts[fixed:] if part), search, base, pattern)
    if not found.names and not found.unseen.unread:
        raise _nothing(f"'{shortened(pattern)}': no picture fits it", search, found, "")
    return found


def _nothing(begin: str, search: Search, found: Pictures, hint: str) -> UsageError:
    chosen = [
        f"{flag} {listed(patterns)}"
        for flag, patterns in (("--include", search.include), ("--exclude", search.exclude))
        if patterns
    ]
    words = "; ".join([f"{begin} (0 inputs); looked for {COMMON_ENDINGS}", *chosen, *found.notes[:3]])
    return UsageError(f"{words}{hint}")


def _pictures(folder: str, wanted: tuple[str, ...], search: Search, base: str, pattern: str = "") -> Pictures:
    include = [parts_of(one) for one in search.include]
    exclude = [parts_of(one) for one in search.exclude]
    notes: list[str] = []
    unread: list[Row] = []
    linked: list[str] = []

    def enters(name: str) -> bool:
        parts = name.split("/")

        def leads_on(pattern: Sequence[str]) -> bool:
            return any(place < len(pattern) for place in reached(parts, pattern))

        chosen = leads_on(wanted) and (not include or any(map(leads_on, include)))
        return chosen and not any(fits(name, one) for one in exclude)

    def takes(name: str) -> bool:
        return (
            fits(name, wanted)
            and (not include or any(fits(name, one) for one in include))
            and not any(fits(name, one) for one in exclude)
        )

    found = _files(os.path.join(base, folder), enters, search.leave_out, unread, linked)
    files = [name for name in found if takes(name)]
    notes += [f"{shortened(link)}: is a link to a folder, which is not followed" for link in linked]
    pictures = [name for name in files if os.path.splitext(name)[1].lower() in READ_ENDINGS]
    if pattern:
        notes += _left_out("that do not end as pictures do", files, pictures)
    # Who names them, has them.
    if not any(".edited" in one for one in (pattern, *search.include)):
        before, pictures = pictures, [name for name in pictures if not RESULT.fullmatch(name.rpartition("/")[2])]
        notes += _left_out("as results of earlier runs", before, pictures)
    if search.leave_out:
        made = _made(Path(base, folder), search.leave_out, pictures)
        before, pictures = pictures, [name for name in pictures if name not in made]
        notes += _left_out("as results that a journal knows", before, pictures)
    return Pictures(folder, tuple(sorted(pictures, key=_order)), tuple(notes), Unseen(tuple(unread), tuple(linked)))


def _made(folder: Path, results: Path, pictures: Sequence[str]) -> frozenset[str]:
    """Those of the pictures in a folder that a batch has made of others of them: the folder of its results is this one,
    or holds it."""
    if not os.path.isdir(results / FOLDER):
        return frozenset()
    inside = os.path.relpath(os.path.realpath(folder), os.path.realpath(results))
    if inside.split(os.sep)[0] == os.pardir or os.path.isabs(inside):
        return frozenset()
    begin = "" if inside == os.curdir else inside.replace(os.sep, "/") + "/"
    inputs = _inputs(results, tuple((str(path), stamp_of(path)) for path in journals_of(results)))
    there = frozenset(pictures)
    return frozenset(
        name for name in pictures if (of := inputs.get(begin + name)) and _is_among(of, folder, there, but=name)
    )


@lru_cache(maxsize=1)  # a list may have many patterns
def _inputs(results: Path, _: tuple[object, ...]) -> Mapping[str, str]:
    """What each result was made of, as the journals say, which are as they were."""
    return {output: placed.input for output, known in read_all(results).items() if (placed := known.placed)}


def _is_among(source: str, folder: Path, there: Collection[str], but: str) -> bool:
    """Whether an input that a journal names is one of the pictures in a folder, and another than `but`.

    Its path counted from where a command was given then: the end of it tells, which is in the folder wherever that is.
    """
    parts = source.replace(os.sep, "/").split("/")
    name = next((end for at in range(len(parts)) if (end := "/".join(parts[at:])) in there), None)
    if name is None or name == but:
        return False
    return not os.path.exists(source) or os.path.samefile(source, folder / name)


def _left_out(why: str, names: Sequence[str], kept: Sequence[str]) -> list[str]:
    """A note for people, where not all names are kept."""
    count, still = len(names) - len(kept), set(kept)
    example = next((name for name in names if name not in still), "")
    return [f"{count} file{'s' * (count > 1)} left out {why}, such as {shortened(example)}"] if count else []


def _order(name: str) -> tuple[list[list[tuple[int, str]]], str]:
    # The name itself decides between img1 and img01, which a system may list either way round.
    return [natural(part) for part in name.split("/")], name


def _files(
    folder: str, enters: Callable[[str], bool], leave_out: Path | None, unread: list[Row], linked: list[str]
) -> Iterator[str]:
    """Every file below a folder by its name in it, in no order; links to files are files, links to folders are not
    followed (they may lead in a circle). Hidden ones are left out. What cannot be read and what is not followed is
    added to the lists.
    """
    avoided = _status(leave_out)
    todo = [""]
    while todo:
        inside = todo.pop()
        place = Path(folder, inside)
        at_root = not inside
        if not at_root and avoided and (status := _status(place)) and os.path.samestat(status, avoided):
            continue
        try:
            with os.scandir(place) as entries:
                seen = [entry for entry in entries if not entry.name.startswith(".")]
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            if at_root:
                raise JobFileError(f"{shortened(place)}: cannot be read ({reason})") from None
            problem = f"{shortened(place)}: the folder cannot be read ({reason}); make it readable, or leave it out"
            unread.append(Row(str(place), inside, problem=problem))
            continue
        for entry in seen:
            name = f"{inside}/{entry.name}" if inside else entry.name
            kind = _kind(entry)
            if kind == "folder" and enters(name):
                todo.append(name)
            elif kind == "file":
                yield name
            elif kind == "linked folder" and enters(name):
                linked.append(str(place / entry.name))


def _status(path: Path | None) -> os.stat_result | None:
    try:
        return path.stat() if path else None
    except (OSError, ValueError):
        return None


def _kind(entry: os.DirEntry[str]) -> str:
    """What lies there: "folder", "linked folder", "file", or "" for a device, a pipe or a socket.

    A link that leads nowhere is a file, which fails by its name and is not passed over; without an ending it may be to
    a folder that is not mounted.
    """
    try:
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        if entry.is_dir():
            return "linked folder"
        if entry.is_symlink() and not os.path.exists(entry.path):
            return "file" if os.path.splitext(entry.name)[1] else "linked folder"
        return "file" if entry.is_file() else ""
    except OSError:
        return "file"
