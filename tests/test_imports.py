"""Who may import whom: the arrows of the design, read from the source of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sdedit_cli"

# part -> parts of ours that it may import anywhere
MAY: dict[str, set[str]] = {
    "errors": set(),
    "configs": {"errors"},
    "spec": {"errors"},
    "names": {"configs", "errors"},
    "presets": {"spec", "errors"},
    "metadata": {"spec", "errors"},
    "noise": {"configs", "errors"},
    "nn": {"configs", "errors"},
    "text": {"configs", "errors"},
    "weights": {"configs", "names", "nn", "text", "errors"},
    "runtime": {"nn", "configs", "errors"},
    "pipeline": {"noise", "nn", "text", "runtime", "configs", "spec", "errors", "weights"},
    "jaxport": {"configs", "noise", "text", "weights", "spec", "errors"},
    "batch": {"spec", "metadata", "errors"},
}
# part -> parts that it may import inside functions alone
ONLY_INSIDE_FUNCTIONS = {"pipeline": {"weights"}}
# parts without torch, numpy and transformers at the level of the module
LIGHT = ("errors", "configs", "names", "spec", "presets", "metadata", "cli", "__init__", "__main__")
CLI_AT_TOP = {"spec", "presets", "metadata", "errors", "cli", ""}
HEAVY = {"torch", "numpy", "transformers", "scipy", "torchsde", "tokenizers", "safetensors", "PIL"}


class Arrow:
    """One import: of a part of ours or a package of others; `top` when it happens with the import of the module."""

    def __init__(self, file: Path, line: int, target: str, ours: bool, top: bool) -> None:
        self.where = f"{file.relative_to(ROOT)}:{line}"
        self.part = part_of(file)
        self.target = target
        self.ours = ours
        self.top = top


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def arrows_of(file: Path) -> Iterator[Arrow]:
    package = file.relative_to(ROOT).with_suffix("").parts[:-1]
    for node, top in nodes(ast.parse(file.read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else resolved(node, package)
        for module in modules:
            head, _, rest = module.partition(".")
            ours = head == "sdedit_cli"
            yield Arrow(file, node.lineno, rest.split(".")[0] if ours else head, ours, top)


def resolved(node: ast.ImportFrom, package: tuple[str, ...]) -> list[str]:
    base = list(package[: len(package) - node.level + 1]) if node.level else []
    module = ".".join([*base, *([node.module] if node.module else [])])
    # `from .. import errors` names the part in its list
    return [f"{module}.{alias.name}" for alias in node.names] if module == "sdedit_cli" else [module]


def nodes(tree: ast.AST, top: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, top
            continue
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or for_types(child)
        yield from nodes(child, top and not inside)


def for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


FILES = sorted(PACKAGE.rglob("*.py"))
ARROWS = [arrow for file in FILES for arrow in arrows_of(file)]


@pytest.mark.parametrize("part", sorted(MAY))
def test_a_part_imports_only_what_the_design_lists(part: str) -> None:
    known = {*MAY, "cli", "jaxport", "batch"}
    strays = [
        f"{a.where} imports {a.target}"
        for a in ARROWS
        if a.part == part and a.ours and a.target in known and a.target not in {*MAY[part], part}
    ]
    assert not strays


@pytest.mark.parametrize("part", sorted(ONLY_INSIDE_FUNCTIONS))
def test_loading_is_imported_inside_the_functions_that_load(part: str) -> None:
    late = ONLY_INSIDE_FUNCTIONS[part]
    assert not [f"{a.where} imports {a.target}" for a in ARROWS if a.part == part and a.top and a.target in late]


def test_the_command_line_imports_little_at_the_top() -> None:
    strays = [
        f"{a.where} imports {a.target}"
        for a in ARROWS
        if a.part == "cli" and a.top and a.ours and a.target not in CLI_AT_TOP and a.target in {*MAY, "cli"}
    ]
    assert not strays


def test_light_parts_import_nothing_heavy_at_the_top() -> None:
    assert not [f"{a.where} imports {a.target}" for a in ARROWS if a.part in LIGHT and a.top and a.target in HEAVY]


def test_nothing_imports_the_jax_port_but_the_command_line() -> None:
    strays = [a.where for a in ARROWS if a.target == "jaxport" and a.ours and a.part not in ("jaxport", "cli")]
    assert not strays


def test_the_oracle_is_never_imported_and_transformers_only_inside_functions() -> None:
    assert not [a.where for a in ARROWS if a.target == "diffusers"]
    assert not [a.where for a in ARROWS if a.target == "transformers" and a.top]


def test_the_package_imports_neither_training_nor_benchmarks_nor_tests() -> None:
    assert not [a.where for a in ARROWS if a.target in ("training", "benchmarks", "tests", "helpers")]


def test_every_part_is_in_the_table() -> None:
    parts = {part_of(file) for file in FILES} - {"cli", "__init__", "__main__"}
    assert parts <= set(MAY)
