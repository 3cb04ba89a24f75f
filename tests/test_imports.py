"""Who may import whom: the table of docs/design.md, held against the source of every module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sdedit_cli"
PAGE = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
HEAVY = {
    *("torch", "numpy", "transformers", "scipy", "torchsde", "tokenizers", "safetensors", "PIL", "huggingface_hub"),
    *("ray", "jax"),
}
# Beside the standard library, what a light room may import at the level of its modules.
LIGHT = {"click", "rich"}
OUTSIDE = {"training", "benchmarks", "tools", "tests", "helpers"}
MAX_LINES = 400


@dataclass(frozen=True)
class Room:
    """A row of the table. `may` and `late` (inside functions alone) are names of modules, each with all below it."""

    name: str
    may: tuple[str, ...]
    late: tuple[str, ...]
    light: bool
    built: bool

    def allows(self, module: str, top: bool) -> bool:
        return any(name == "anything" or within(module, name) for name in (*self.may, *(() if top else self.late)))


@dataclass(frozen=True)
class Arrow:
    """One import: of a module of ours (`module` is its name without the package's), or of a package of others.

    `top`: it happens when the importing module is imported.
    """

    source: str
    module: str
    ours: bool
    top: bool
    where: str

    def __str__(self) -> str:
        return f"{self.where} imports {self.module}"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table of the page whose first column is called so."""
    lines = PAGE.splitlines()
    begin = next(at for at, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    assert set(lines[begin + 1]) <= set("|-")
    table: list[list[str]] = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def quoted(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


def read_rooms() -> dict[str, Room]:
    rooms: dict[str, Room] = {}
    for names, may, late, light, _why in rows("room"):
        assert quoted(may) or may == "nothing"
        assert light in ("", "light")
        later = ("anything",) if late == "anything" else quoted(late)
        for name in quoted(names):
            assert name not in rooms, f"two rows for {name}"
            rooms[name] = Room(name, quoted(may), later, light == "light", "(not built yet)" not in names)
    return rooms


def within(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def name_of(file: Path) -> str:
    """The module's name below the package; the package itself is `__init__`."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts if parts == ("__init__",) else parts[: -1 if parts[-1] == "__init__" else None])


FILES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}
ROOMS = read_rooms()


def room_of(module: str) -> Room | None:
    return ROOMS.get(max((name for name in ROOMS if within(module, name)), key=len, default=""))


def arrows_of(name: str, file: Path) -> Iterator[Arrow]:
    package = file.relative_to(ROOT).parts[:-1]
    for node, top in nodes(ast.parse(file.read_text(encoding="utf-8"))):
        for target in targets(node, package):
            head, _, rest = target.partition(".")
            ours = head == PACKAGE.name
            module = (rest or "__init__") if ours else head
            yield Arrow(name, module, ours, top, f"{file.relative_to(ROOT)}:{node.lineno}")


def targets(node: ast.Import | ast.ImportFrom, package: tuple[str, ...]) -> set[str]:
    """Full names of the modules that a statement names: `from .a import b` names a.b where that is a module, else a."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
    base = base if node.level else str(node.module)
    named = {f"{base}.{alias.name}" for alias in node.names}
    return {name if name.removeprefix(f"{PACKAGE.name}.") in FILES else base for name in named}


def nodes(tree: ast.AST, top: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, top
            continue
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or for_types(child)
        yield from nodes(child, top and not inside)


def for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


ARROWS = [arrow for name, file in FILES.items() for arrow in arrows_of(name, file)]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other, each sorted."""
    reached = {node: reach(graph, node) for node in graph}
    groups = {tuple(sorted(a for a in reached[node] if node in reached.get(a, ()))) for node in graph}
    return [list(group) for group in sorted(groups) if group]


def reach(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        new = graph.get(todo.pop(), set()) - seen
        seen |= new
        todo += new
    return seen


def test_the_reader_sees_every_kind_of_import() -> None:
    source = "import torch\nfrom .x import a\nif TYPE_CHECKING:\n    from . import y\n"
    source += "def f():\n    from ..noise import grid\n"
    seen = [(targets(node, ("sdedit_cli", "nn")), top) for node, top in nodes(ast.parse(source))]
    assert seen == [
        ({"torch"}, True),
        ({"sdedit_cli.nn.x"}, True),
        ({"sdedit_cli.nn"}, False),
        ({"sdedit_cli.noise.grid"}, False),
    ]
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}) == [["b", "c"], ["d"]]
    assert sum(arrow.ours for arrow in ARROWS) > 200


def test_every_module_is_in_a_room_of_the_table() -> None:
    assert [name for name in FILES if room_of(name) is None] == []


def test_every_room_of_the_table_is_there_unless_it_says_otherwise() -> None:
    assert {room.name for room in ROOMS.values() if room.built} == {
        name for name in ROOMS if any(within(module, name) for module in FILES)
    }


def test_what_the_table_allows_is_a_tree_without_circles() -> None:
    graph = {
        name: {target for target in (room_of(may) for may in (*room.may, *room.late)) if target and target is not room}
        for name, room in ROOMS.items()
    }
    try:
        TopologicalSorter({name: {room.name for room in rooms} for name, rooms in graph.items()}).prepare()
    except CycleError as error:
        pytest.fail(f"{error.args[1]}")


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_only_what_the_table_lists(name: str) -> None:
    room = ROOMS[name]
    inside = [arrow for arrow in ARROWS if room_of(arrow.source) is room]
    strays = [a for a in inside if a.ours and room_of(a.module) is not room and not room.allows(a.module, a.top)]
    assert [str(arrow) for arrow in strays] == []


@pytest.mark.parametrize("name", [name for name, room in ROOMS.items() if room.light])
def test_a_light_room_imports_nothing_heavy_with_its_modules(name: str) -> None:
    """Neither itself nor through what it imports."""
    now = {source: {a.module for a in ARROWS if a.source == source and a.top and a.ours} for source in FILES}
    mine = [module for module in FILES if room_of(module) is ROOMS[name]]
    loaded = {parent for module in mine for m in {module, *reach(now, module)} for parent in parents(m)}
    strays = [a for a in ARROWS if a.source in loaded and a.top and not a.ours and a.module in HEAVY]
    assert sorted(map(str, strays)) == []


def parents(module: str) -> set[str]:
    """The module and the packages that are imported with it."""
    parts = module.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts) + 1)}


def test_the_command_line_stands_on_click_and_rich_alone() -> None:
    import sys

    strays = [a for a in ARROWS if a.source.startswith("cli.") and a.top and not a.ours]
    assert [str(a) for a in strays if a.module not in LIGHT | sys.stdlib_module_names] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions and for type checkers count."""
    graph = {name: {arrow.module for arrow in ARROWS if arrow.source == name and arrow.ours} for name in FILES}
    assert circles(graph) == []


def test_the_oracle_is_never_imported_and_transformers_only_inside_functions() -> None:
    assert [str(a) for a in ARROWS if a.module == "diffusers" or (a.module == "transformers" and a.top)] == []


def test_the_package_imports_none_of_what_stands_around_it() -> None:
    assert [str(a) for a in ARROWS if not a.ours and a.module in OUTSIDE] == []


def test_no_file_is_too_long_to_read() -> None:
    files = [path for folder in ("sdedit_cli", *OUTSIDE) for path in (ROOT / folder).rglob("*.py")]
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {str(path): lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_what_one_touches_to_add_something_exists() -> None:
    paths = {
        path for _, touched in rows("I want to add ...") for path in quoted(touched) if "/" in path or path in OUTSIDE
    }
    assert len(paths) > 20
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_every_file_of_ours_that_a_page_names_exists() -> None:
    folders = {".ci", "docs", "presets", "sdedit_cli", "tests", *OUTSIDE}
    pages = [*ROOT.glob("*.md"), *(page for folder in ("docs", *OUTSIDE) for page in (ROOT / folder).rglob("*.md"))]
    lines = ((page.name, line) for page in pages for line in page.read_text("utf-8").splitlines())
    words = {(page, word.partition("::")[0]) for page, line in lines for word in quoted(line)}
    named = {(page, path) for page, path in words if path.split("/")[0] in folders and re.fullmatch(r"[\w./-]+", path)}
    assert len(named) > 100
    assert [(page, path) for page, path in sorted(named) if not (ROOT / path).exists()] == []
