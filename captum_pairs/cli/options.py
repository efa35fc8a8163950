"""Options of the command that are checked when they are read, without torch."""

import ast
import os
import re
from collections.abc import Callable, Collection
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any, Optional, TYPE_CHECKING, TypeVar, Union

import click
from captum_pairs.cli.messages import (
    failure,
    IMAGE_UNREADABLE,
    MODEL_MISSING,
    UNEXPECTED,
)
from captum_pairs.known import did_you_mean, KINDS, METHODS

__all__ = [
    "BoxOption",
    "DeviceOption",
    "FileOption",
    "FolderOption",
    "LayerOption",
    "MethodOption",
    "MethodsOption",
    "ModelOption",
    "NameOption",
    "NewFileOption",
    "options",
    "SettingOption",
    "TextOption",
]

Command = TypeVar("Command", bound=Callable[..., Any])
Context = Optional[click.Context]
Parameter = Optional[click.Parameter]

_DEVICES = ("cpu", "cuda", "hpu", "mps", "mtia", "npu", "xla", "xpu")


def options(*each: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several options as one decorator, in their order."""

    def decorated(command: Any) -> Any:
        for option in reversed(each):
            command = option(command)
        return command

    return decorated


if TYPE_CHECKING:  # it is generic since click 8.4 only
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType


class _Option(_ParamType):
    """A type whose values are checked by `read`."""

    def convert(self, value: Any, param: Parameter, ctx: Context) -> Any:
        if not isinstance(value, str):
            return value  # a default
        try:
            return self.read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def read(self, value: str) -> Any:
        """
        What was written, as it is used.

        Raises:
            ValueError: with what is wrong.
        """
        raise NotImplementedError


class TextOption(_Option):
    """Words: what came as other bytes than UTF-8 has none."""

    name = "text"

    def read(self, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError("not UTF-8") from error
        return value


class NameOption(_Option):
    """One of several names."""

    def __init__(self, name: str, known: Collection[str]) -> None:
        self.name, self.known = name, tuple(known)

    def read(self, value: str) -> str:
        if value not in self.known:
            names = ", ".join(self.known)
            close = did_you_mean(value, self.known)
            raise ValueError(f"no {self.name} “{value}” (there are {names}){close}")
        return value


class MethodOption(NameOption):
    """A method's name, or package.module:Class, which is imported later."""

    def __init__(self) -> None:
        super().__init__("method", METHODS)

    def read(self, value: str) -> str:
        return value if ":" in value else super().read(value)


class MethodsOption(MethodOption):
    """Several with commas between, each once."""

    def read(self, value: str) -> Any:
        read = super().read
        names = [read(name.strip()) for name in value.split(",")]
        twice = [name for at, name in enumerate(names) if name in names[:at]]
        if twice:
            raise ValueError(f"“{twice[0]}” several times")
        return names


class LayerOption(_Option):
    """A block's number or "input"; two with a comma between; an empty one is left."""

    name = "layer"

    def read(self, value: str) -> Any:
        parts = [self._one(part.strip()) for part in value.split(",")]
        if len(parts) > 2:
            raise ValueError("at most two layers")
        return parts[0] if len(parts) == 1 else tuple(parts)

    def _one(self, part: str) -> Union[int, str, None]:
        if part in ("input", ""):
            return part or None
        if not re.fullmatch(r"-?\d{1,6}", part, re.ASCII):
            close = did_you_mean(part, ["input"])
            raise ValueError(f'a number or "input", not “{part}”{close}')
        return int(part)


class BoxOption(_Option):
    """Left, top, right, bottom."""

    name = "box"

    def read(self, value: str) -> tuple[float, ...]:
        try:
            box = tuple(float(part) for part in value.split(","))
        except ValueError:
            box = ()
        if len(box) != 4 or not all(map(isfinite, box)):
            raise ValueError(f"4 numbers with commas between, not “{value}”")
        left, top, right, bottom = box
        if not (0 <= left < right and 0 <= top < bottom):
            raise ValueError(f"0 <= left < right and 0 <= top < bottom, not “{value}”")
        return box


class DeviceOption(_Option):
    """A device as PyTorch calls it; whether it is there, is seen later."""

    name = "device"

    def read(self, value: str) -> str:
        kind, _, number = value.partition(":")
        if not re.fullmatch(r"[a-z]+(:\d{1,3})?", value, re.ASCII):
            raise ValueError(f'a device such as "cpu" or "cuda:0", not “{value}”')
        if kind not in _DEVICES:
            meant = "; did you mean “cuda”?" if kind == "gpu" else ""
            meant = meant or did_you_mean(kind, _DEVICES)
            raise ValueError(f"no device “{kind}” ({', '.join(_DEVICES)}){meant}")
        return value


class SettingOption(_Option):
    """NAME=VALUE, the value as Python writes it."""

    name = "setting"

    def read(self, value: str) -> Any:
        name, equals, written = value.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ValueError(f"NAME=VALUE, not “{value}”")
        try:
            return name.strip(), ast.literal_eval(written.strip())
        except (SyntaxError, ValueError):
            return name.strip(), written.strip()


class FileOption(_Option):
    """A file that is there; a path of any bytes."""

    def __init__(self, name: str, what: str, code: int = IMAGE_UNREADABLE) -> None:
        self.name, self.what, self.code = name, what, code

    def read(self, value: str) -> str:
        reason = "no such file"
        try:
            if Path(value).expanduser().is_file():
                return value
            if Path(value).expanduser().is_dir():
                reason = "a directory"
        except (OSError, RuntimeError, ValueError) as error:  # too long, or a null byte
            reason = str(getattr(error, "strerror", None) or error)
        shown = click.format_filename(value)
        message = f"{self.name}: expected {self.what}, got {shown}: {reason}"
        raise failure(message, self.code)


class FolderOption(_Option):
    """Where files are to be written: whether that can be is seen before the work."""

    name = "directory"

    def read(self, value: str) -> Path:
        folder = Path(value).expanduser()
        reason = _what_is_wrong_with_a_place(folder)
        if reason:
            raise failure(f"--out: {reason}", UNEXPECTED)
        return folder


class NewFileOption(_Option):
    """A file that is to be written, or written anew."""

    name = "file"

    def read(self, value: str) -> Path:
        path = Path(value).expanduser()
        reason = _what_is_wrong_with_a_place(path.parent)
        if not reason and (path.is_dir() or not path.name):
            reason = f"{click.format_filename(path)} is a directory"
        if reason:
            raise ValueError(reason)
        return path


def _what_is_wrong_with_a_place(folder: Path) -> str:
    there = folder
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
        reason = "" if there.is_dir() else "is no directory"
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error)
    if not reason and not os.access(there, os.W_OK | os.X_OK):
        reason = "can't be written to"
    return reason and f"{click.format_filename(there)} {reason}"


class ModelOption(_Option):
    """A model's name or directory. What can't be one is told at once: to ask a hub that
    is not there takes a minute."""

    name = "model"

    def read(self, value: str) -> str:
        reason = _what_is_wrong_with_a_model(value)
        if reason:
            raise failure(f"model: {reason}", MODEL_MISSING)
        return value


def _what_is_wrong_with_a_model(name: str) -> str:
    shown = click.format_filename(name)
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return ""
        is_file = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        return f"{shown}: {getattr(error, 'strerror', None) or error}"
    prefix, colon, _ = name.partition(":")
    if prefix in KINDS:
        return _what_is_missing(prefix)
    if is_file or name.startswith((".", "/", "~")) or name.count("/") > 1:
        where = "a file, not a directory" if is_file else "no such directory"
        return f"expected a directory or a name on the hub, got {shown}: {where}"
    written = "a directory, owner/name on the hub, or a name with one of the prefixes"
    if colon or "/" not in name:
        close = did_you_mean(prefix, KINDS)
        return f"expected {written} {', '.join(KINDS)}, got “{shown}”{close}"
    return ""


def _what_is_missing(prefix: str) -> str:
    kind = KINDS[prefix]
    if not kind.module or find_spec(kind.module) is not None:
        return ""
    return (
        f"expected the package {kind.package} (pip install {kind.package}), got an "
        "installation without it"
    )
