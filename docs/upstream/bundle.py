#!/usr/bin/env python3
"""
The files of the bundle, made of ``parts/`` and of the package's own source.

A part is a Python file that stands where it will stand in Captum. What it imports from
``captum_pairs`` is replaced by its source, with all that this needs, and with the
imports of both. So nothing of it is written twice.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PARTS, SOURCES = HERE / "parts", HERE.parents[1]
PACKAGE = "captum_pairs"
_WIDTH = 88

# Where something is defined: its module and its name there.
Place = tuple[str, str]
# What is imported: a module and one of its names, or None for the module itself.
Import = tuple[str, str | None]


class BundleError(Exception):
    """A part asks for what can't be taken."""


@dataclass(frozen=True)
class Definition:
    """
    A function, class or constant of a module of the package.

    Args:

        text (str): Its source, with the comments above.
        line (int): Where it stands.
        needs (tuple of Place): Names of the package that it uses.
        imports (tuple of Import): Names of other packages that it uses.
    """

    text: str
    line: int
    needs: tuple[Place, ...]
    imports: tuple[Import, ...]


@dataclass
class Part:
    """A part, and what is put into it."""

    name: str
    text: str
    own: set[Import]
    asked: list[Place]
    first_line: int
    last_line: int
    taken: set[Place] = field(default_factory=set)
    borrowed: set[Import] = field(default_factory=set)

    @property
    def module(self) -> str:
        """The module that it will be."""
        return self.name.removesuffix(".py").replace("/", ".")


def make(parts: Path = PARTS) -> dict[str, str]:
    """Each file of the bundle by its path in a checkout of Captum."""
    paths = [path for path in sorted(parts.rglob("*")) if path.is_file()]
    names = {str(path.relative_to(parts)): path for path in paths}
    texts = {
        name: path.read_text(encoding="utf-8")
        for name, path in names.items()
        if "__pycache__" not in name
    }
    for name in [name for name in texts if name.startswith("tutorials/")]:
        texts[name.replace(".py", ".ipynb")] = _notebook(texts.pop(name))
    python = [_part(name, text) for name, text in texts.items() if name[-3:] == ".py"]
    homes: dict[Place, Part] = {}
    for part in python:
        for place in part.asked:
            if place in homes:
                raise BundleError(
                    f"{place[1]} is taken by {homes[place].name} and {part.name}: "
                    f"import it from {homes[place].module} in the latter"
                )
            homes[place] = part
    for part in python:
        _take(part, homes)
    return texts | {part.name: _written(part) for part in python}


def _notebook(text: str) -> str:
    """A notebook without outputs, of a script with ``# %%`` before each cell."""
    cells: list[dict[str, Any]] = []
    for at, cell in enumerate(re.split(r"^# %%", text, flags=re.MULTILINE)[1:]):
        mark, _, body = cell.partition("\n")
        body = body.strip("\n")
        common: dict[str, Any] = {"id": f"cell-{at}", "metadata": {}}
        if mark.strip() == "[markdown]":
            body = re.sub(r"^# ?", "", body, flags=re.MULTILINE)
            made: dict[str, Any] = {"cell_type": "markdown", **common}
        else:
            made = {
                "cell_type": "code",
                **common,
                "execution_count": None,
                "outputs": [],
            }
        cells.append(made | {"source": body.splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _take(part: Part, homes: dict[Place, Part]) -> None:
    """Put into a part what it asked for, and what that needs."""
    waiting = list(part.asked)
    while waiting:
        place = waiting.pop()
        home = homes.setdefault(place, part)
        if home is not part:
            part.borrowed.add((home.module, place[1]))
        elif place not in part.taken:
            part.taken.add(place)
            waiting += _definition(place).needs


def _part(name: str, text: str) -> Part:
    """A part as it is written."""
    tree = ast.parse(text, name)
    imports = [
        node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    own: set[Import] = set()
    asked: list[Place] = []
    for node in imports:
        for module, what in _imported(node):
            if module.split(".")[0] != PACKAGE:
                own.add((module, what))
            elif what is None:
                raise BundleError(f"{name}: import names from {module}, not all of it")
            else:
                asked.append((module, what))
    first = imports[0].lineno if imports else 1
    last = max((node.end_lineno or 0 for node in imports), default=0)
    return Part(name, text, own, asked, first, last)


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
    for alias in node.names:
        if isinstance(node, ast.Import):
            whole = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
            yield whole, None
        else:
            yield str(node.module), alias.name


def _written(part: Part) -> str:
    """A part with what was taken into it."""
    if not part.taken:
        return part.text
    definitions = {place: _definition(place) for place in part.taken}
    imports = part.own | part.borrowed
    for definition in definitions.values():
        imports |= set(definition.imports)
    lines = part.text.splitlines()
    head = "\n".join(lines[: part.first_line - 1])
    rest = "\n".join(lines[part.last_line :]).strip("\n")
    blocks = [_import_block(imports), *_ordered(definitions), rest]
    text = f"{head}\n" + "\n\n\n".join(filter(None, blocks)) + "\n"
    if PACKAGE in text:
        line = next(line for line in text.splitlines() if PACKAGE in line)
        raise BundleError(f"{part.name} would still speak of {PACKAGE}: {line.strip()}")
    compile(text, part.name, "exec")
    return text


def _ordered(definitions: dict[Place, Definition]) -> list[str]:
    """Their source: what a module needs comes first, else as they stand there."""
    modules: dict[str, set[str]] = {}
    for (module, _), definition in definitions.items():
        needed = {other for other, _ in definition.needs if other != module}
        modules.setdefault(module, set()).update(needed)
    order = list(TopologicalSorter(modules).static_order())
    places = sorted(
        definitions, key=lambda place: (order.index(place[0]), definitions[place].line)
    )
    blocks: list[str] = []
    constants = False
    seen: set[Place] = set()
    for place in places:
        text = definitions[place].text
        if (place[0], text) in seen:  # two names of one statement
            continue
        seen.add((place[0], text))
        is_constant = not text.startswith(("def ", "class ", "@"))
        if constants and is_constant:
            blocks[-1] += f"\n{text}"
        else:
            blocks.append(text)
        constants = is_constant
    return blocks


@cache
def _definition(place: Place) -> Definition:
    module, name = place
    source, statements, imported = _read(module)
    if name not in statements:
        raise BundleError(f"{module} defines no {name}")
    node = statements[name]
    lines = source.splitlines()
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(each.lineno for each in decorators)])
    while lines[first - 2].startswith("#") and not lines[first - 2].startswith(
        "# ----"
    ):
        first -= 1
    used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} - {name}
    needs, imports = [], []
    for each in sorted(used):
        if each in statements:
            needs.append((module, each))
        elif each in imported:
            where = imported[each]
            if where[0].split(".")[0] != PACKAGE:
                imports.append(where)
            else:
                needs.append((where[0], str(where[1])))
    text = "\n".join(lines[first - 1 : node.end_lineno])
    return Definition(text, node.lineno, tuple(needs), tuple(imports))


@cache
def _read(module: str) -> tuple[str, dict[str, ast.stmt], dict[str, Import]]:
    """A module's source, what it defines and what it imports, by name."""
    path = SOURCES / (module.replace(".", "/") + ".py")
    if not path.is_file():
        raise BundleError(f"there is no {path}")
    source = path.read_text(encoding="utf-8")
    statements: dict[str, ast.stmt] = {}
    imported: dict[str, Import] = {}
    for node in ast.parse(source, str(path)).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for where in _imported(node):
                name = where[1] or where[0].split(" as ")[-1].split(".")[0]
                imported[name] = where
        for name in _defined(node):
            statements[name] = node
    return source, statements, imported


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    targets = node.targets if isinstance(node, ast.Assign) else []
    for target in targets:
        for each in ast.walk(target):
            if isinstance(each, ast.Name):
                yield each.id


def _import_block(imports: set[Import]) -> str:
    """Imports as ``usort`` and ``black`` write them."""
    groups: list[str] = []
    for is_own in (True, False):
        some = [
            (module, name)
            for module, name in imports
            if (module.split(".")[0] in sys.stdlib_module_names) is is_own
        ]
        lines = [
            f"import {module}" for module, name in sorted(some, key=str) if not name
        ]
        by_module: dict[str, set[str]] = {}
        for module, name in some:
            if name is not None:
                by_module.setdefault(module, set()).add(name)
        for module in sorted(by_module, key=str.lower):
            lines.append(_from_line(module, by_module[module]))
        groups.append("\n".join(lines))
    return "\n\n".join(filter(None, groups))


def _from_line(module: str, names: set[str]) -> str:
    ordered = sorted(names, key=lambda name: (name.lower(), name))
    line = f"from {module} import {', '.join(ordered)}"
    if len(line) <= _WIDTH:
        return line
    return f"from {module} import (\n" + "".join(f"    {n},\n" for n in ordered) + ")"
