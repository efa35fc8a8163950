"""The page's script: its modules, joined to one."""

import re
from functools import cache
from importlib.resources import files

__all__ = ["joined_script", "part"]

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([a-z]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=class|const|function)", re.MULTILINE)


def part(name: str) -> str:
    """A file that the page is made of."""
    return files("captum_pairs.show.page").joinpath(name).read_text(encoding="utf-8")


@cache
def joined_script(start: str = "main") -> str:
    """
    A module and all that it imports, each after what it imports itself, in one scope.

    The modules keep to what that takes: names are imported from "./name.js" as they
    are, declared once in all of them, and exported where they are declared.
    """
    modules: dict[str, str] = {}

    def add(name: str, importing: tuple[str, ...] = ()) -> None:
        if name in importing:
            raise ImportError(" imports ".join([*importing, name]))
        if name not in modules:
            text = part(f"{name}.js")
            for imported in _IMPORT.findall(text):
                add(imported, (*importing, name))
            modules[name] = _EXPORT.sub("", _IMPORT.sub("", text))

    add(start)
    return '"use strict";\n(() => {\n' + "\n".join(modules.values()) + "})();\n"
