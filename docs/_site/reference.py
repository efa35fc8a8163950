"""
The reference: a page for each room, made from the names that its modules export.

`write` puts every name of every ``__all__`` on exactly one page: where a user imports
it from. What is exported again elsewhere is listed there with a link.
"""

import ast
import functools
import importlib
import inspect
import itertools
import pkgutil
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import captum_pairs
from captum.attr import Attribution

HERE = Path(__file__).parent
# Bases of others, whose members are documented where they come from.
_FOREIGN = (
    "Module, Attribution, LayerAttribution, ValueError, Exception, tuple, dict, object"
)


class Page(NamedTuple):
    """A page of the reference: modules in their order, a user's first."""

    name: str
    title: str
    text: str
    modules: tuple[str, ...]


# Pages in the order in which names look for their place: those that a user imports
# from come before the modules that define them. "room.*" is what is left of a room.
PAGES = (
    Page(
        "captum_pairs",
        "Models and results",
        "What is loaded, what can be asked of it, and what comes back. How to ask: "
        ":doc:`/start`, :doc:`/questions/index`, :doc:`/explaining`.",
        (
            "captum_pairs",
            "captum_pairs.explain.pair",
            "captum_pairs.explain.contrast",
            "captum_pairs.explain.comparison",
            "captum_pairs.explain.cost",
            "captum_pairs.explain.options",
            "captum_pairs.inputs",
        ),
    ),
    Page(
        "search",
        "Search",
        "``captum_pairs.search``: an index of many inputs, and what is found in it.",
        ("captum_pairs.search.*",),
    ),
    Page(
        "attr",
        "Methods, in Captum's manner",
        "``captum_pairs.attr``: attributions to pairs, contribution vectors of one "
        "input, and what a method of one's own is made of. The symbols and the "
        "arguments that they share: :doc:`/notation`. Which one to trust: "
        ":doc:`/methods`.",
        ("captum_pairs.attr",),
    ),
    Page(
        "visualization",
        "Figures",
        "``captum_pairs.attr.visualization``. What each of them looks like: "
        ":doc:`/visualization`.",
        ("captum_pairs.attr.visualization",),
    ),
    Page(
        "metrics",
        "Metrics",
        "``captum_pairs.metrics``: what is measured of an attribution.",
        ("captum_pairs.metrics",),
    ),
    Page(
        "grounding",
        "Studies and data",
        "``captum_pairs.grounding``. What they ask and answer: :doc:`/studies`.",
        ("captum_pairs.grounding", "captum_pairs.grounding.data"),
    ),
    Page(
        "models",
        "Encoders",
        "``captum_pairs.models``: models as data, and what an adapter says. How to "
        "write one: :doc:`/extending`.",
        ("captum_pairs.models",),
    ),
    Page(
        "scenes",
        "Scenes",
        "``captum_pairs.scenes``: drawn scenes and captions with known truth, and the "
        "small models that were trained on them (:doc:`/model_card`).",
        ("captum_pairs.scenes",),
    ),
    Page(
        "show",
        "Pages and pictures of results",
        "``captum_pairs.show``: what ``plot()`` and ``page()`` call.",
        ("captum_pairs.show.page", "captum_pairs.show.pictures"),
    ),
    Page(
        "testing",
        "Contracts",
        "``captum_pairs.testing``: what methods and adapters of anybody's have to "
        "pass.",
        ("captum_pairs.testing",),
    ),
    Page(
        "inside_explain",
        "Inside: explaining",
        "How explanations are computed, compared, kept and read.",
        ("captum_pairs.explain.*", "captum_pairs.model", "captum_pairs.known"),
    ),
    Page(
        "inside_models",
        "Inside: encoders",
        "The adapters, one a file, and what they share.",
        ("captum_pairs.models.*",),
    ),
    Page(
        "inside_grounding",
        "Inside: studies",
        "Readers of data sets, studies, what runs them, and the report.",
        ("captum_pairs.grounding.*",),
    ),
    Page(
        "inside_scenes",
        "Inside: scenes",
        "How scenes are drawn and described, and how the models were trained.",
        ("captum_pairs.scenes.*",),
    ),
    Page(
        "inside_show",
        "Inside: figures, pages, words",
        "How results are drawn and put into words, and the command.",
        ("captum_pairs.show.*", "captum_pairs.cli.*", "captum_pairs.*"),
    ),
)


class Entry(NamedTuple):
    """A name on a page, and where it is documented if not here."""

    module: str
    name: str
    value: Any
    elsewhere: str = ""

    @property
    def full_name(self) -> str:
        return f"{self.module}.{self.name}"


@functools.cache
def exporting_modules() -> dict[str, ModuleType]:
    """Every module with an ``__all__``, by name; private ones are no place to import
    from, except for the figures, which ``captum_pairs.attr`` exports as a module."""
    found = {"captum_pairs": captum_pairs}
    for info in pkgutil.walk_packages(captum_pairs.__path__, "captum_pairs."):
        if "._" not in info.name:
            module = importlib.import_module(info.name)
            if hasattr(module, "__all__"):
                found[info.name] = module
    figures = importlib.import_module("captum_pairs.attr").visualization
    found["captum_pairs.attr.visualization"] = figures
    return dict(sorted(found.items()))


def entries() -> dict[str, list[Entry]]:
    """The names of each page, in the order of its modules."""
    left = dict(exporting_modules())
    documented: dict[tuple[str, int], str] = {}
    pages: dict[str, list[Entry]] = {}
    for page in PAGES:
        pages[page.name] = []
        for pattern in page.modules:
            for module in list(_matching(pattern, left)):
                for entry in _of_module(module, left.pop(module), documented):
                    pages[page.name].append(entry)
    assert not left, f"on no page: {sorted(left)}"
    return pages


def write(folder: Path) -> None:
    """Writes the pages into `folder`; those that are the same are not touched."""
    texts = {"index": _index()}
    found = entries()
    taken = {e.full_name for each in found.values() for e in each if not e.elsewhere}
    for page in PAGES:
        texts[page.name] = "\n".join(_page(page, found[page.name], taken))
    folder.mkdir(parents=True, exist_ok=True)
    for left in {each.stem for each in folder.glob("*.rst")} - set(texts):
        (folder / f"{left}.rst").unlink()
    for name, text in texts.items():
        path = folder / f"{name}.rst"
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def inventories() -> dict[str, tuple[str, str]]:
    """What other projects document, from ``inventories/*.txt``: no network is asked.

    Each file has a project's address, and lines of name, role and place in it."""
    made = HERE.parent / "_made" / "inventories"
    made.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for path in sorted((HERE / "inventories").glob("*.txt")):
        address, *lines = path.read_text("utf-8").split("\n")
        head = f"# Sphinx inventory version 2\n# Project: {path.stem}\n# Version: \n"
        head += "# The remainder of this file is compressed using zlib.\n"
        rows = (line.split() for line in lines if line)
        body = "".join(f"{name} py:{role} 1 {at} -\n" for name, role, at in rows)
        target = made / f"{path.stem}.inv"
        target.write_bytes(head.encode() + zlib.compress(body.encode()))
        mapping[path.stem] = (address, str(target))
    return mapping


# Names of parameters that go on in the next line, and shapes such as (n, *value).
_UNFINISHED = re.compile(r"\s*[\w*]+(, [\w*]+)*,")
# What comes back, of which napoleon makes what stands before the colon slanted.
_KIND = re.compile(r"(?<=^    )\*(Tensor)\*(?= .*:)")
_STAR = re.compile(r"(?<=[ (])(\*{1,2})(?=\w+[,):]| ?\w+$)")


def process(
    app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Of a docstring, before napoleon reads it: several parameters stand in one line,
    and a star is a star."""
    found: list[str] = []
    for line in lines:
        if found and _UNFINISHED.fullmatch(found[-1]):
            found[-1] += f" {line.strip()}"
        else:
            found.append(line)
    found = [_STAR.sub(lambda star: r"\*" * len(star[1]), line) for line in found]
    # of a property napoleon takes what stands before a colon for its type
    start = [""] if what == "property" else []
    lines[:] = [*start, *(_KIND.sub(r"\1", line) for line in found)]


def _matching(pattern: str, names: Iterable[str]) -> Iterator[str]:
    room = pattern.removesuffix(".*")
    for name in names:
        if name == room or pattern != room and name.startswith(f"{room}."):
            yield name


def _of_module(
    name: str, module: ModuleType, documented: dict[tuple[str, int], str]
) -> Iterator[Entry]:
    for public in module.__all__:
        value = getattr(module, public)
        # what two modules export under one name and as one thing is one thing
        key = public, id(value)
        if inspect.ismodule(value):
            yield Entry(name, public, value, "a module")
        elif key in documented:
            yield Entry(name, public, value, documented[key])
        else:
            documented[key] = f"{name}.{public}"
            yield Entry(name, public, value)


def _index() -> str:
    lines = [_heading("Reference", "="), _INDEX, ".. toctree::", "   :maxdepth: 1", ""]
    return "\n".join([*lines, *(f"   {page.name}" for page in PAGES), ""])


_INDEX = """
Every public name, made from its docstring. What a user imports is on the first pages;
those called *Inside* have the modules behind them, whose names may change with a minor
version.
"""


def _page(page: Page, found: list[Entry], taken: set[str]) -> Iterator[str]:
    yield _heading(page.title, "=")
    yield f"\n{page.text}\n"
    for module, named in itertools.groupby(found, lambda entry: entry.module):
        # a function may have the name of its module
        yield from _module(module, module in taken)
        for group, members in _grouped(module, list(named)):
            if group:
                yield "\n" + _heading(group, "^") + "\n"
            if not page.name.startswith("inside"):
                yield from _overview(members)
            for entry in members:
                yield from _entry(entry)


def _grouped(module: str, named: list[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """The names of captum_pairs.attr by what they are for; others as they come."""
    if module != "captum_pairs.attr":
        yield "", named
        return
    left = list(named)
    for title, pattern in _GROUPS.items():
        yield title, [each for each in left if re.fullmatch(pattern, each.name)]
        left = [each for each in left if not re.fullmatch(pattern, each.name)]


_GROUPS = {
    "Attributions to pairs": r"(Layer)?FeaturePair.*",
    "Contribution vectors of one input": r"(Layer)?IntegratedJacobian|ExpectedJacobian"
    r"|JacobianXInput|Embedding(Occlusion|Banzhaf|Shapley|Lime|LRP)|TokenDecomposition",
    "The product, and what comes back": r"pair|.*Decomposition|EmbeddingReading"
    r"|Convergence|confidence_factor|ReferenceValues|InvalidArgumentError",
    "For a method of your own": r".*",
}


def _overview(found: list[Entry]) -> Iterator[str]:
    """A table of names, each with the first sentence of what it is."""
    shown = [each for each in found if not each.elsewhere and _first_sentence(each)]
    if len(shown) < 2:
        return
    yield "\n.. list-table::\n   :widths: 35 65\n"
    for entry in shown:
        yield f"   * - :py:obj:`{entry.name} <{entry.full_name}>`"
        yield f"     - {_first_sentence(entry)}"
    yield ""


def _first_sentence(entry: Entry) -> str:
    """In one line; none, if it would be cut inside of its marks."""
    if not (isinstance(entry.value, type) or inspect.isroutine(entry.value)):
        return ""
    text = (inspect.getdoc(entry.value) or "").split("\n\n")[0]
    sentence = re.split(r"(?<=[.:]) ", " ".join(text.split()) + " ")[0].rstrip(" :")
    sentence = _STAR.sub(lambda star: r"\*" * len(star[1]), sentence)
    is_whole = sentence.count("`") % 2 == 0 and sentence.count("*") % 2 == 0
    return sentence if is_whole and not sentence.startswith("Args") else ""


def _module(name: str, is_taken: bool) -> Iterator[str]:
    yield "\n" + _heading(f"``{name}``", "-")
    yield f"\n.. py:module:: {name}"
    yield "   :no-index:\n" if is_taken else ""
    text = inspect.getdoc(exporting_modules()[name]) or ""
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("|"):
            yield ".. code-block:: text\n"
            yield re.sub("^", "    ", paragraph, flags=re.MULTILINE) + "\n"
        else:
            yield re.sub(r"\|(\w)\|", r"\|\1\|", paragraph) + "\n"


def _entry(entry: Entry) -> Iterator[str]:
    name, value = entry.full_name, entry.value
    if entry.elsewhere == "a module":
        yield f"\n``{entry.name}``: a module, :mod:`{name}`.\n"
    elif entry.elsewhere:
        yield f"\n``{entry.name}``: :any:`{entry.elsewhere}`\n"
    elif isinstance(value, type):
        yield f"\n.. autoclass:: {name}\n   :members:\n   :show-inheritance:"
        # methods have much in common, which their bases say once
        is_method = issubclass(value, Attribution)
        yield "" if is_method else f"   :inherited-members: {_FOREIGN}\n"
    elif inspect.isroutine(value):
        yield f"\n.. autofunction:: {name}\n"
    else:
        yield f"\n.. py:data:: {name}\n"
        yield f"   {_comment(entry)}\n"


def _comment(entry: Entry) -> str:
    """What the source says above an assignment, in one line."""
    for module in _homes(entry):
        source = inspect.getsource(module)
        lines = source.splitlines()
        for node in ast.parse(source).body:
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            if entry.name in [getattr(each, "id", "") for each in targets]:
                found: list[str] = []
                at = node.lineno - 2
                while at >= 0 and lines[at].startswith("#"):
                    found.insert(0, lines[at].lstrip("# "))
                    at -= 1
                return " ".join(found).replace("*", r"\*").replace("`", "``")
    return ""


def _homes(entry: Entry) -> Iterator[ModuleType]:
    """The modules that may assign a constant."""
    own = exporting_modules()[entry.module]
    yield own
    for node in ast.parse(inspect.getsource(own)).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            if entry.name in [alias.name for alias in node.names]:
                yield importlib.import_module(node.module)


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}"
