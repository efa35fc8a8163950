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
    from captum_pairs.explanation import PairExplanation
    from captum_pairs.scenes import Caption, Rendering

__all__ = ["main"]

MODEL_MISSING, IMAGE_UNREADABLE, TEXT_UNFIT = 3, 4, 5

_EPILOG = (
    "Exit codes: 0 done, 1 an unexpected error, 2 wrong usage, 3 no such model, "
    "4 unreadable image, 5 empty or too long text."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(__version__, prog_name="captum-pairs")
def main() -> None:
    """Which word of a text matched which region of an image?"""


def _common_options(command: Callable[..., None]) -> Callable[..., None]:
    """What both commands take."""
    options = (
        click.option(
            "--layer",
            type=int,
            help="Block of the image encoder to whose input is attributed; negative "
            "numbers count from the last.  [default: stated in the output]",
        ),
        click.option(
            "--out",
            type=click.Path(file_okay=False, path_type=Path),
            default=Path(),
            help="Where the files are written.  [default: here]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _tolerance_option(
    default: float,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--tolerance",
        type=click.FloatRange(0.0, min_open=True),
        default=default,
        show_default=True,
        help="How complete the path integrals have to be, relative.",
    )


@main.command(epilog=_EPILOG)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Which scene is drawn.",
)
@_tolerance_option(2e-2)
@_common_options
def demo(seed: int, layer: int | None, tolerance: float, out: Path) -> None:
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
        explanation = _explain("scenes", drawing.image, caption.text, layer, tolerance)
        out.mkdir(parents=True, exist_ok=True)
        scene = out / "demo_scene.png"
        _save_scene(drawing, scene)
        _write(explanation, drawing.image, out, "demo")
        click.echo("where the objects really are:")
        for line in _truth(explanation, drawing, caption):
            click.echo(f"  {line}")
        click.echo(f"the scene: {scene}")


@main.command(epilog=_EPILOG)
@click.option(
    "--model",
    required=True,
    metavar="DIR_OR_HUB_ID",
    help='A saved CLIP, a CLIP\'s name on the Hugging Face hub, or "scenes".',
)
@click.option("--image", required=True, metavar="FILE", help="The image.")
@click.option("--text", required=True, help="What is compared with it.")
@_tolerance_option(1e-2)
@_common_options
def explain(
    model: str, image: str, text: str, layer: int | None, tolerance: float, out: Path
) -> None:
    """Explain why a Hugging Face CLIP finds an image and a text similar, or not.

    Writes explanation.png (the image, a heat map for each content word, the parts of
    the score), explanation.json and explanation.safetensors (its numbers). Words such
    as "a", "of" or "photo" get no heat map; the JSON file lists all of these.
    """
    with _messages():
        explanation = _explain(model, image, text, layer, tolerance)
        _write(explanation, image, out, "explanation")


@contextmanager
def _messages() -> Iterator[None]:
    """What can go wrong, as one line and an exit code."""
    from captum_pairs.attr import InvalidArgumentError
    from captum_pairs.models import (
        ModelUnavailableError,
        TextLengthError,
        UnreadableImageError,
    )

    codes: dict[type[InvalidArgumentError], int] = {
        ModelUnavailableError: MODEL_MISSING,
        UnreadableImageError: IMAGE_UNREADABLE,
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


def _explain(
    model: str, image: Any, text: str, layer: int | None, tolerance: float
) -> PairExplanation:
    """The explanation; inputs that need no model are looked at before it is loaded."""
    from captum_pairs.explanation import explain as explain_pair
    from captum_pairs.models import load, read_image
    from transformers.utils import logging

    # the bar is that of loading weights; their functions are untyped
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    photo = read_image(image)
    encoders = load(model)
    return explain_pair(
        encoders,
        photo,
        text,
        layer=layer,
        tolerance=tolerance,
        progress=sys.stderr.isatty(),
    )


def _write(explanation: PairExplanation, image: Any, out: Path, name: str) -> None:
    """The files, and what they say, on standard output."""
    from captum_pairs.picture import save_picture

    numbers = explanation.save(out, name)
    picture = save_picture(explanation, image, out / f"{name}.png")
    click.echo(f"model {explanation.model}, text “{explanation.text}”")
    click.echo(explanation.summary())
    click.echo(f"the picture: {picture}")
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
    maps = explanation.maps()
    for phrase, objects in zip(caption.phrases, caption.objects):
        start, stop = phrase.span
        words = [
            index
            for index, word in enumerate(explanation.text_features[: len(maps)])
            if word.span and start <= word.span[0] and word.span[1] <= stop
        ]
        strongest = int(maps[words].sum(0).argmax())
        patch = explanation.image_features[strongest].box
        left, top, right, bottom = drawing.boxes[objects[0]].tolist()
        found = patch is not None and (
            left <= (patch[0] + patch[2]) / 2 < right
            and top <= (patch[1] + patch[3]) / 2 < bottom
        )
        yield (
            f"“{caption.text[start:stop]}” x {left}–{right}, y {top}–{bottom} px: "
            f"its strongest patch is {'inside' if found else 'outside'}"
        )
