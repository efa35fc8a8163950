"""What the command says when something goes wrong, or takes long: one line."""

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional, TextIO, Union

import click

__all__ = [
    "announced",
    "embedding_each",
    "failure",
    "IMAGE_UNREADABLE",
    "in_one_line",
    "MODEL_MISSING",
    "TEXT_UNFIT",
    "UNEXPECTED",
    "USAGE",
]

UNEXPECTED, USAGE, MODEL_MISSING, IMAGE_UNREADABLE, TEXT_UNFIT = 1, 2, 3, 4, 5

# By the names of the errors' classes, the most special one first: to import these takes
# longer than a wrong option may.
_CODES = {
    "ModelUnavailableError": MODEL_MISSING,
    "UnreadableImageError": IMAGE_UNREADABLE,
    "UnreadableSoundError": IMAGE_UNREADABLE,
    "TextLengthError": TEXT_UNFIT,
    "InvalidArgumentError": USAGE,
    "OSError": UNEXPECTED,
}
# Seconds before it is said what is waited for.
_PATIENCE = 2.0


@contextmanager
def in_one_line(with_traceback: bool = False) -> Iterator[None]:
    """Whatever goes wrong, as one line and an exit code; warnings in a line each."""
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        try:
            yield
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:  # nobody reads any more, as in "| head"
            raise
        except Exception as error:
            if with_traceback:
                raise
            raise _told(error) from error


def _told(error: Exception) -> click.ClickException:
    names = [kind.__name__ for kind in type(error).__mro__]
    known = [code for name, code in _CODES.items() if name in names]
    if known:
        return failure(_line(str(error)), known[0])
    lines = str(error).strip().splitlines()
    reason = f": {lines[0]}" if lines else ""
    return failure(
        f"unexpected {names[0]}{reason} (captum-pairs --traceback ... shows where)",
        UNEXPECTED,
    )


@contextmanager
def embedding_each(model: str) -> Iterator[None]:
    """A model of several classes, which asks for one of them, is refused where no score
    of both inputs at once will do."""
    try:
        yield
    except ValueError as error:
        if getattr(error, "argument", None) != "target":
            raise
        message = (
            "a model that embeds each input, not one that scores both at once, "
            f"{click.format_filename(model)}"
        )
        raise click.BadParameter(message, param_hint="--model") from error


def failure(message: str, code: int) -> click.ClickException:
    """A message without a traceback, and the exit code after it."""
    found = click.ClickException(message)
    found.exit_code = code  # type: ignore[misc]  # click reads it from the instance
    return found


def _line(said: str) -> str:
    return "; ".join(line.strip() for line in said.splitlines() if line.strip())


def _warn(
    message: Union[Warning, str],
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Optional[TextIO] = None,
    line: Optional[str] = None,
) -> None:
    """As warnings.showwarning is called: what it says, and not where."""
    click.echo(f"Warning: {_line(str(message))}", err=True)


@contextmanager
def announced(what: str) -> Iterator[None]:
    """Says on standard error what is being done, if it takes more than two seconds."""
    timer = threading.Timer(_PATIENCE, click.echo, (f"{what} ...",), {"err": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        sys.stderr.flush()
