"""The command ``captum-pairs``.

Nothing heavy is imported before a command needs it: ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TYPE_CHECKING

import click
from captum_pairs import __version__

if TYPE_CHECKING:
    from captum_pairs.explain.comparison import Comparison
    from captum_pairs.explain.contrast import Contrast
    from captum_pairs.explain.pair import PairExplanation
    from captum_pairs.model import DualEncoder
    from captum_pairs.scenes import Caption, Rendering

__all__ = ["main"]

# As captum_pairs.explain.compute.METHODS, which a test compares.
_METHODS = (
    "integrated_gradients",
    "jacobian_x_input",
    "occlusion",
    "banzhaf",
    "shapley",
    "lime",
    "token_similarity",
)
MODEL_MISSING, IMAGE_UNREADABLE, TEXT_UNFIT = 3, 4, 5

_EPILOG = (
    "Exit codes: 0 done, 1 an unexpected error, 2 wrong usage, 3 no such model, "
    "4 unreadable image or sound, 5 empty or too long text."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(__version__, prog_name="captum-pairs")
def main() -> None:
    """Which word of a text matched which region of an image, and why did A beat B?"""


def _options(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Several options as one decorator, in their order."""

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


_tolerance_option = click.option(
    "--tolerance",
    type=click.FloatRange(0.0, min_open=True),
    help="How complete the path integrals have to be, relative.  [default: 0.01]",
)


_where_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where the files are written.  [default: here]",
)
_layer_option = click.option(
    "--layer",
    metavar="N[,M]",
    help="Block of the first input's encoder (and of the second one's) to whose input "
    'is attributed; negative numbers count from the last; "input" is the input.'
    "  [default: stated in the output]",
)
_pair_options = _options(
    click.option(
        "--model",
        required=True,
        metavar="NAME_OR_DIR",
        help="As `captum-pairs models` lists them: a directory, a name on the Hugging "
        'Face hub, open_clip:..., "scenes".',
    ),
    click.option("--image", "images", multiple=True, metavar="FILE", help="An image."),
    click.option("--text", "texts", multiple=True, help="A text."),
    click.option(
        "--audio", "sounds", multiple=True, metavar="FILE", help="A sound (wav)."
    ),
    _layer_option,
    click.option("--baseline", help='Of images: "mean color", "black" or "blur".'),
    click.option("--tokens", is_flag=True, help="Attribute to tokens, not to words."),
    click.option("--device", help='Where it is computed, such as "cuda".'),
    click.option(
        "--page",
        is_flag=True,
        help="Write a page to explore as well, one file that needs no network.",
    ),
    _tolerance_option,
    _where_option,
)
_absent_option = click.option(
    "--absent",
    type=click.Choice(["baseline", "removed"]),
    default="baseline",
    show_default=True,
    help="Methods that leave out features replace them by the baseline's, or take them "
    "out.",
)
_model_options = _options(
    _pair_options,
    click.option(
        "--method",
        type=click.Choice(_METHODS),
        default="integrated_gradients",
        show_default=True,
        help="How contributions are found; only the first one accounts for the score.",
    ),
    _absent_option,
)


@main.command(epilog=_EPILOG)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Which scene is drawn.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0.0, min_open=True),
    default=2e-2,
    show_default=True,
    help="How complete the path integrals have to be, relative.",
)
@_layer_option
@_where_option
def demo(seed: int, layer: str | None, tolerance: float, out: Path) -> None:
    """Explain a drawn scene with the model that comes with the package.

    Writes demo_scene.png (the scene), demo.png (the explanation), demo.json and
    demo.safetensors (its numbers). Where each object really is, is known and printed.
    """
    with _messages():
        import torch

        # products this small are no faster in parallel, and on a machine that is busy
        # their threads wait for each other
        torch.set_num_threads(1)
        drawing, caption = _scene(seed)
        model = _load("scenes", None)
        settings = _settings(layer=layer, tolerance=tolerance)
        explanation = model.explain(drawing.image, caption.text, **settings)
        out.mkdir(parents=True, exist_ok=True)
        scene = out / "demo_scene.png"
        _save_scene(drawing, scene)
        _write(explanation, out, "demo")
        click.echo("where the objects really are:")
        for line in _truth(explanation, drawing, caption):
            click.echo(f"  {line}")
        click.echo(f"the scene: {scene}")


@main.command(epilog=_EPILOG)
@_model_options
@click.option("--phrase", help="Explain these words of the text only.")
@click.option(
    "--occurrence",
    type=click.IntRange(1),
    help="Which one, if they stand there several times.",
)
@click.option(
    "--box",
    metavar="LEFT,TOP,RIGHT,BOTTOM",
    help="Explain this part of the image only, in its pixels.",
)
def explain(
    model: str,
    images: tuple[str, ...],
    texts: tuple[str, ...],
    sounds: tuple[str, ...],
    phrase: str | None,
    occurrence: int | None,
    box: str | None,
    device: str | None,
    page: bool,
    out: Path,
    **settings: Any,
) -> None:
    """Explain why a dual encoder finds two inputs similar, or not.

    The two inputs are an image and a text, two texts, two images, or a sound and a
    text, as the model takes them.

    Writes explanation.png (the inputs, a heat map for each content word, the parts of
    the score), explanation.json and explanation.safetensors (its numbers). Words such
    as "a", "of" or "photo" get no heat map; the JSON file lists all of these.
    """
    with _messages():
        region = None if box is None else _numbers("box", box, 4)
        given = {"image": images, "text": texts, "audio": sounds}
        _look_at(images, 2, given)
        encoders = _load(model, device)
        pair = _pair(encoders, given)
        explanation = encoders.explain(
            *pair,
            phrase=phrase,
            occurrence=occurrence,
            region=region,
            **_settings(**settings),
        )
        _write(explanation, out, "explanation", page)


@main.command(epilog=_EPILOG)
@_model_options
def contrast(
    model: str,
    images: tuple[str, ...],
    texts: tuple[str, ...],
    sounds: tuple[str, ...],
    device: str | None,
    page: bool,
    out: Path,
    **settings: Any,
) -> None:
    """Explain why one candidate is more similar to a query than another.

    The candidates are what is given twice, the preferred one first: two texts for an
    image, or two images for a text. Of three of a kind the first one is the query.

    Writes contrast.png, contrast.json, and the numbers of both pairs
    (contrast_preferred and contrast_other, .json and .safetensors).
    """
    with _messages():
        given = {"image": images, "text": texts, "audio": sounds}
        _look_at(images, 3, given)
        encoders = _load(model, device)
        query, candidates, side = _query(encoders, given)
        found = encoders.contrast(
            query, *candidates, side=side, **_settings(**settings)
        )
        _write(found, out, "contrast", page)


@main.command(epilog=_EPILOG)
@_pair_options
@click.option(
    "--methods",
    metavar="NAME,NAME,...",
    help="Which ones, with commas between.  [default: all]",
)
@_absent_option
def compare(
    model: str,
    images: tuple[str, ...],
    texts: tuple[str, ...],
    sounds: tuple[str, ...],
    methods: str | None,
    device: str | None,
    page: bool,
    out: Path,
    **settings: Any,
) -> None:
    """Explain a pair by several methods, and say how faithful each is.

    Writes comparison.png (a row for each method), comparison.json (its measures), and
    the numbers of each explanation (comparison_METHOD, .json and .safetensors).
    """
    with _messages():
        given = {"image": images, "text": texts, "audio": sounds}
        _look_at(images, 2, given)
        encoders = _load(model, device)
        names = None
        if methods is not None:
            names = [name.strip() for name in methods.split(",")]
        found = encoders.compare(
            *_pair(encoders, given), methods=names, **_settings(**settings)
        )
        _write(found, out, "comparison", page)


@main.command()
def models() -> None:
    """List the models that are supported, and what of it is installed."""
    from captum_pairs.models import SUPPORTED

    for support in SUPPORTED:
        state = (
            "installed"
            if support.is_installed
            else (f"not installed: pip install {support.package}")
        )
        click.echo(f"{support.models}\n  --model {support.write}  ({state})")
    click.echo(
        "your own: two functions, captum_pairs.from_functions(encode_first, "
        "encode_second)"
    )


@contextmanager
def _messages() -> Iterator[None]:
    """What can go wrong, as one line and an exit code."""
    from captum_pairs.attr import InvalidArgumentError
    from captum_pairs.models import (
        ModelUnavailableError,
        TextLengthError,
        UnreadableImageError,
        UnreadableSoundError,
    )

    codes: dict[type[InvalidArgumentError], int] = {
        ModelUnavailableError: MODEL_MISSING,
        UnreadableImageError: IMAGE_UNREADABLE,
        UnreadableSoundError: IMAGE_UNREADABLE,
        TextLengthError: TEXT_UNFIT,
        InvalidArgumentError: 2,
    }
    try:
        yield
    except InvalidArgumentError as error:
        raise _failure(str(error), codes.get(type(error), 2)) from error
    except OSError as error:
        raise _failure(str(error), 1) from error


def _failure(message: str, code: int) -> click.ClickException:
    """A message without a traceback, and the exit code after it."""
    failure = click.ClickException(message)
    failure.exit_code = code  # type: ignore[misc]  # click reads it from the instance
    return failure


def _load(name: str, device: str | None) -> DualEncoder:
    from captum_pairs.model import load
    from transformers.utils import logging

    # the bar is that of loading weights; their functions are untyped
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return load(name, device=device)


def _settings(layer: str | None, **others: Any) -> dict[str, Any]:
    """What `explain` and `contrast` take."""
    layers: Any = None
    if layer is not None:
        parts = [_layer(part.strip()) for part in layer.split(",")]
        if len(parts) > 2:
            raise click.BadParameter("at most two layers", param_hint="--layer")
        layers = parts[0] if len(parts) == 1 else tuple(parts)
    given = {name: value for name, value in others.items() if value is not None}
    return {"layer": layers, "progress": sys.stderr.isatty(), **given}


def _layer(part: str) -> int | str | None:
    if part in ("input", ""):
        return part or None
    try:
        return int(part)
    except ValueError as error:
        message = f'a number or "input", not {part!r}'
        raise click.BadParameter(message, param_hint="--layer") from error


def _numbers(option: str, text: str, count: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        message = f"{count} numbers with commas between, not {text!r}"
        raise click.BadParameter(message, param_hint=f"--{option}")
    return values


def _look_at(
    images: tuple[str, ...], count: int, given: dict[str, tuple[str, ...]]
) -> None:
    """What needs no model is looked at before it is loaded."""
    from captum_pairs.models import read_image

    number = sum(map(len, given.values()))
    if number != count:
        raise click.UsageError(
            f"{count} inputs are needed (--image, --text or --audio), not {number}"
        )
    for image in images:
        read_image(image)


def _pair(encoders: DualEncoder, given: dict[str, tuple[str, ...]]) -> tuple[str, str]:
    """The two inputs in the model's order."""
    kinds = encoders.first.kind, encoders.second.kind
    waiting = {kind: list(values) for kind, values in given.items()}
    for kind in kinds:
        if not waiting.get(kind):
            raise click.UsageError(
                f"{encoders.name} compares {_article(kinds[0])} with "
                f"{_article(kinds[1])}"
            )
    return waiting[kinds[0]].pop(0), waiting[kinds[1]].pop(0)


def _article(kind: str) -> str:
    return {"image": "an image", "audio": "a sound"}.get(kind, f"a {kind}")


def _query(
    encoders: DualEncoder, given: dict[str, tuple[str, ...]]
) -> tuple[str, tuple[str, ...], str]:
    """The query, the candidates, and which side the query is on."""
    kinds = encoders.first.kind, encoders.second.kind
    if kinds[0] == kinds[1]:
        values = given.get(kinds[0], ())
        if len(values) != 3:
            raise click.UsageError(f"{encoders.name} takes three {kinds[0]}s")
        return values[0], values[1:], "first"
    counts = tuple(len(given.get(kind, ())) for kind in kinds)
    if sorted(counts) != [1, 2]:
        raise click.UsageError(
            f"one {kinds[0]} and two {kinds[1]}s are needed, or the other way round"
        )
    at = counts.index(1)
    side = ("first", "second")[at]
    return given[kinds[at]][0], given[kinds[1 - at]], side


def _write(
    found: PairExplanation | Contrast | Comparison,
    out: Path,
    name: str,
    page: bool = False,
) -> None:
    """The files, and what they say, on standard output."""
    out.mkdir(parents=True, exist_ok=True)
    numbers = found.save(out, name)
    picture = out / f"{name}.png"
    found.plot().savefig(picture, dpi=150)
    click.echo(found.summary())
    click.echo(f"the picture: {picture}")
    if page:
        click.echo(f"the page: {found.page(out / f'{name}.html')}")
    click.echo(f"the numbers: {', '.join(map(str, numbers))}")


def _scene(seed: int) -> tuple[Rendering, Caption]:
    """Three objects that differ, and a caption that names each."""
    import numpy as np
    from captum_pairs.scenes import render, sample_caption, sample_scene

    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, 3, distinct=True)
    return render(scene), sample_caption(rng, scene, plain=True)


def _save_scene(drawing: Rendering, path: Path) -> None:
    from PIL import Image

    Image.fromarray(drawing.image).save(path)


def _truth(
    explanation: PairExplanation, drawing: Rendering, caption: Caption
) -> Iterator[str]:
    """For each phrase its object's box, and whether its strongest patch is there."""
    from captum_pairs.inputs import words_of

    maps = explanation.maps()
    for phrase, objects in zip(caption.phrases, caption.objects):
        start, stop = phrase.span
        words = words_of(explanation.second.features, phrase.span)
        strongest = int(maps[words].sum(0).argmax())
        patch = explanation.first.features[strongest].box
        left, top, right, bottom = drawing.boxes[objects[0]].tolist()
        found = patch is not None and (
            left <= (patch[0] + patch[2]) / 2 < right
            and top <= (patch[1] + patch[3]) / 2 < bottom
        )
        yield (
            f"“{caption.text[start:stop]}” x {left}–{right}, y {top}–{bottom} px: "
            f"its strongest patch is {'inside' if found else 'outside'}"
        )
