"""The order of the package's rooms: who may import whom, read from the source alone."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "captum_pairs"

# From the lowest to the highest: each may import those before it. A room is a file or
# a folder of the package; "__init__" is the package's own names.
ROOMS = (
    "known",
    "attr",
    "metrics",
    "scenes",
    "models",
    "inputs",
    "show",
    "explain",
    "search",
    "testing",
    "model",
    "grounding",
    "__init__",
    "cli",
)
# What others run on their methods and encoders: nothing of the package needs it.
FOR_OTHERS_ONLY = ("testing",)

# What attr may import besides Python's own modules: the package "captum.attr" could
# take it as it is.
ATTR_NEEDS = ("captum", "numpy", "torch")
FIGURES = "captum_pairs.attr._utils.visualization"
# An oracle of the tests (LGPL), and no part of the package.
NOWHERE = ("zennit",)

# What the source does not say which module it is.
COMPUTED = "what is computed"
# Imports inside functions: (file, what is imported) and why it waits.
LATER = {
    ("__init__", "*"): "a public name's module is imported when it is asked for, so "
    "that captum_pairs.attr needs nothing but torch and captum",
    ("cli*", "*"): "--help answers at once: nothing heavy before a command needs it",
    ("explain*", "pandas"): "an extra, needed by to_frame alone",
    ("search*", "pandas"): "an extra, needed by to_frame alone",
    ("grounding.data*", "pycocotools"): "an extra, needed by masks alone",
    ("grounding.data*", "datasets"): "an extra, needed by what it saved alone",
    ("grounding.on_ray", "ray*"): "an extra, needed past one machine alone",
    ("models.registry", COMPUTED): "an adapter is imported when a name asks for it, "
    "since most need an extra",
    ("explain.methods", COMPUTED): "a method of somebody's own, by the place that the "
    "command was told",
    ("models.openai_clip", "clip*"): "an extra that imports what setuptools no longer "
    "has, which is lent to it meanwhile",
    ("models.openai_clip", "packaging.version"): "lent to the extra clip",
}


@dataclass(frozen=True)
class Arrow:
    """An import: of `target` (a module or what stands in one) by the file `source`."""

    source: str
    target: str
    line: int
    in_function: bool
    for_types: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def modules_of(package: Path) -> dict[str, Path]:
    """Each module's full name, and its file."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        found[".".join(parts)] = path
    return found


class _Reader(ast.NodeVisitor):
    def __init__(self, name: str, path: Path, modules: dict[str, Path]) -> None:
        self.name, self.modules = name, modules
        self.package = name if path.stem == "__init__" else name.rpartition(".")[0]
        self.functions = self.types = 0
        self.arrows: list[Arrow] = []
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def _add(self, target: str, node: ast.AST) -> None:
        line = getattr(node, "lineno", 0)
        inside, types = self.functions > 0, self.types > 0
        self.arrows.append(Arrow(self.name, target, line, inside, types))

    def visit_FunctionDef(self, node: ast.AST) -> None:
        self.functions += 1
        self.generic_visit(node)
        self.functions -= 1

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_If(self, node: ast.If) -> None:
        typing = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        self.types += typing
        for child in node.body:
            self.visit(child)
        self.types -= typing
        for child in [node.test, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self.package.split(".")
        base = base[: len(base) - node.level + 1] if node.level else []
        source = ".".join([*base, *filter(None, [node.module])])
        # modules in a package, or names in a module
        inner = [f"{source}.{alias.name}" for alias in node.names]
        for target in dict.fromkeys(i if i in self.modules else source for i in inner):
            self._add(target, node)

    def visit_Call(self, node: ast.Call) -> None:
        if ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            first = node.args[0]
            literal = isinstance(first, ast.Constant)
            self._add(str(first.value) if literal else COMPUTED, node)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        # a place written as text, "package.module:name" or f"{here}.module:name", is
        # imported from there later
        module, colon, _ = str(node.value).partition(":")
        if module.startswith("."):
            module = self.package + module
        if colon and module in self.modules:
            self._add(module, node)


def arrows_of(package: Path) -> list[Arrow]:
    """Every import of every file."""
    modules = modules_of(package)
    readers = (_Reader(name, path, modules) for name, path in modules.items())
    return [arrow for reader in readers for arrow in reader.arrows]


def room_of(module: str) -> str:
    """Of a module of the package."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def ours(arrows: list[Arrow]) -> Iterator[Arrow]:
    """Imports of the package's own modules."""
    for arrow in arrows:
        if arrow.target.split(".")[0] == arrow.source.split(".")[0]:
            yield arrow


def upward(arrows: list[Arrow]) -> list[str]:
    """Imports of a higher room; what is imported for its types alone counts as well."""
    found = []
    for arrow in ours(arrows):
        source, target = room_of(arrow.source), room_of(arrow.target)
        is_above = ROOMS.index(target) > ROOMS.index(source)
        if is_above or target in FOR_OTHERS_ONLY and source != target:
            found.append(str(arrow))
    return found


def circle(arrows: list[Arrow]) -> list[str]:
    """Files that import one another, at the top or inside functions, if there are."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for arrow in ours(arrows):
        if not arrow.for_types:
            sorter.add(arrow.source, arrow.target)
    try:
        sorter.prepare()
    except CycleError as error:
        return [str(name) for name in reversed(error.args[1])]
    return []


def reason_for(arrow: Arrow) -> tuple[str, str] | None:
    """The entry of LATER that an import inside a function has."""
    name = arrow.source.partition(".")[2] or "__init__"
    for file, target in LATER:
        if fnmatch(name, file) and fnmatch(arrow.target, target):
            return file, target
    return None


def later(arrows: list[Arrow]) -> list[str]:
    """Imports inside functions, and computed ones, without a reason."""
    inside = (arrow for arrow in arrows if arrow.in_function)
    return [str(arrow) for arrow in inside if reason_for(arrow) is None]


ARROWS = arrows_of(PACKAGE)


def none_of(found: list[str]) -> None:
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_every_file_is_in_a_room() -> None:
    none_of([name for name in modules_of(PACKAGE) if room_of(name) not in ROOMS])


def test_no_import_leads_upward() -> None:
    none_of(upward(ARROWS))


def test_no_circle_of_files() -> None:
    none_of(circle(ARROWS))


def test_imports_inside_functions_have_a_reason() -> None:
    none_of(later(ARROWS))


def test_no_reason_is_left_over() -> None:
    used = {reason_for(arrow) for arrow in ARROWS if arrow.in_function}
    none_of([" ".join(entry) for entry in LATER if entry not in used])


def test_attr_needs_torch_numpy_and_captum_alone() -> None:
    own = set(ours(ARROWS))
    others = []
    for arrow in ARROWS:
        if room_of(arrow.source) == "attr" and arrow not in own:
            top = arrow.target.split(".")[0]
            is_known = top in ATTR_NEEDS or top in sys.stdlib_module_names
            is_drawing = top == "matplotlib" and arrow.source.startswith(FIGURES)
            if not (is_known or is_drawing):
                others.append(str(arrow))
    none_of(others)


def test_show_draws_with_what_is_public() -> None:
    none_of(
        [
            str(arrow)
            for arrow in ours(ARROWS)
            if room_of(arrow.source) == "show"
            and room_of(arrow.target) != "show"
            and "._" in arrow.target
        ]
    )


def test_what_is_nowhere() -> None:
    none_of([str(each) for each in ARROWS if each.target.split(".")[0] in NOWHERE])


# ---- that these rules find what they forbid ----------------------------------


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A package with one of each fault."""
    package = tmp_path / "captum_pairs"
    files = {
        "__init__": "",
        "attr/__init__": "from captum_pairs.attr.one import a",
        "attr/one": "def a():\n    from .two import b",
        "attr/two": "from captum_pairs.attr import a\nb = 1",
        "models": "if TYPE_CHECKING:\n    from captum_pairs import cli",
        "show": "import_module('captum_pairs.explain')\nimport captum_pairs.models",
        "explain": "from captum_pairs import show, testing\ndef f(x):\n"
        "    import pandas, numpy\n    return import_module(x)",
        "testing": "import captum_pairs.explain as e",
        "cli": "def main():\n    import captum_pairs.model, torch",
        "metrics": "HOME = 'captum_pairs.model:f', f'{HERE}.explain:f'",
        "model": "",
    }
    for name, text in files.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package


def test_faults_are_found(house: Path) -> None:
    arrows = arrows_of(house)
    assert upward(arrows) == [
        "captum_pairs.explain:1 imports captum_pairs.testing",
        "captum_pairs.metrics:1 imports captum_pairs.model",
        "captum_pairs.metrics:1 imports captum_pairs.explain",
        "captum_pairs.models:2 imports captum_pairs.cli",
        "captum_pairs.show:1 imports captum_pairs.explain",
    ]
    assert later(arrows) == [
        "captum_pairs.attr.one:2 imports captum_pairs.attr.two",
        "captum_pairs.explain:3 imports numpy",
        "captum_pairs.explain:4 imports what is computed",
    ]
    (house / "show.py").write_text("")
    (house / "explain.py").write_text("")
    assert set(circle(arrows_of(house))) == {
        "captum_pairs.attr",
        "captum_pairs.attr.one",
        "captum_pairs.attr.two",
    }
    (house / "attr" / "two.py").write_text("b = 1")
    assert circle(arrows_of(house)) == []


def test_a_circle_for_types_is_none_at_run_time(house: Path) -> None:
    types = "if typing.TYPE_CHECKING:\n    from captum_pairs.attr.one import a"
    for name in ("show", "explain"):
        (house / f"{name}.py").write_text("")
    (house / "attr" / "two.py").write_text(types)
    assert circle(arrows_of(house)) == []
