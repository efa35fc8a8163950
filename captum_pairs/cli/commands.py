"""The commands: what each takes, what it asks the library, and what it writes."""

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, cast, Literal, Optional, TYPE_CHECKING, Union

import click
from captum_pairs import __version__
from captum_pairs.cli.messages import (
    announced,
    embedding_each,
    failure,
    IMAGE_UNREADABLE,
    in_one_line,
    TEXT_UNFIT,
)
from captum_pairs.cli.options import (
    BoxOption,
    DeviceOption,
    FileOption,
    FolderOption,
    LayerOption,
    MethodOption,
    MethodsOption,
    ModelOption,
    NameOption,
    NewFileOption,
    options,
    SettingOption,
    TextOption,
)
from captum_pairs.known import did_you_mean, KINDS, METHODS, TAKEN_BY

if TYPE_CHECKING:
    from captum_pairs import (
        Comparison,
        Contrast,
        Contributions,
        DualEncoder,
        PairExplanation,
        ZeroShot,
    )
    from captum_pairs.scenes import Caption, HardNegative, Rendering

__all__ = ["main"]

# What is given of each kind of input.
Given = dict[str, tuple[str, ...]]

# Endings of the files of a directory that are read.
_ENDINGS = {
    "images": ".avif .bmp .gif .ico .jp2 .jpeg .jpg .png .ppm .tga .tif .tiff .webp",
    "sounds": ".wav",
    "texts": ".txt",
}
# How many references are drawn, which is no setting of an explanation.
_SIZE = "references_size"
# Inputs that could not be read, which are told.
_LISTED = 10
# What the demo explains with.
_DEMO = "scenes"

_EPILOG = (
    "Exit codes: 0 done, 1 an unexpected error, 2 wrong usage, 3 no such model, "
    "4 unreadable image or sound, 5 empty or too long text."
)


class _Main(click.Group):
    """Whatever goes wrong in a command is said in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        with in_one_line(ctx.params["traceback"]):
            _print_anything()
            return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[Optional[str], Optional[click.Command], list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            close = did_you_mean(name, self.commands)
            ctx.fail(f"No such command “{name}”{close}")
        return super().resolve_command(ctx, args)


def _print_anything() -> None:
    """File names and texts are written on standard output whatever it can show."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


@click.group(
    cls=_Main, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG
)
@click.version_option(__version__, prog_name="captum-pairs")
@click.option(
    "--traceback", is_flag=True, help="Show where an unexpected error comes from."
)
def main(traceback: bool) -> None:
    """Which word of a text matched which region of an image, and why did A beat B?"""


# ---- options -----------------------------------------------------------------

_seed_range = click.IntRange(0, 2**62 - 1)
_tolerance_option = click.option(
    "--tolerance",
    type=click.FloatRange(0.0, min_open=True),
    help="How complete the path integrals have to be, relative.  [default: 0.01]",
)
_where_option = click.option(
    "--out",
    type=FolderOption(),
    default=".",
    metavar="DIRECTORY",
    help="Where the files are written.  [default: here]",
)
_layer_option = click.option(
    "--layer",
    type=LayerOption(),
    metavar="N[,M]",
    help="Block of the first input's encoder (and of the second one's) to whose input "
    'is attributed; negative numbers count from the last; "input" is the input.'
    "  [default: stated in the output]",
)
_device_option = click.option(
    "--device", type=DeviceOption(), help='Where it is computed, such as "cuda".'
)
_model_option = click.option(
    "--model",
    type=ModelOption(),
    required=True,
    metavar="NAME_OR_DIR",
    help="As `captum-pairs models` lists them: a directory, a name on the Hugging "
    'Face hub, open_clip:..., "scenes".',
)
_target_option = click.option(
    "--target",
    type=TextOption(),
    metavar="CLASS",
    help="Of a reranker or classifier of two texts with a score for each of several "
    "classes the one that is meant: its label or number.",
)
_inputs_options = options(
    click.option(
        "--image",
        "images",
        type=FileOption("image", "an image file"),
        multiple=True,
        metavar="FILE",
        help="An image.",
    ),
    click.option("--text", "texts", type=TextOption(), multiple=True, help="A text."),
    click.option(
        "--audio",
        "sounds",
        type=FileOption("sound", "a sound file"),
        multiple=True,
        metavar="FILE",
        help="A sound (wav).",
    ),
)
_page_option = click.option(
    "--page",
    is_flag=True,
    help="Write a page to explore as well, one file that needs no network.",
)
_method_option = click.option(
    "--method",
    type=MethodOption(),
    metavar="NAME",
    help=f"How contributions are found: {', '.join(METHODS)}, or package.module:Class; "
    "only the first two account for the score.  [default: integrated_gradients]",
)
_settings_options = options(
    _layer_option,
    click.option(
        "--baseline",
        type=TextOption(),
        help='Of images: "mean color", "black" or "blur"; of texts: "padding", or '
        '"mask" if the tokenizer has a mask token.',
    ),
    click.option(
        "--references",
        type=click.Path(file_okay=False, exists=True, path_type=Path),
        metavar="DIRECTORY",
        help="Compare with a sample of the images (or sounds) of a directory and those "
        "in it, and with texts of the lines of its .txt files, instead of a baseline.",
    ),
    click.option(
        "--references-size",
        type=click.IntRange(1),
        metavar="NUMBER",
        help="How many an input is compared with.  [default: 64]",
    ),
    click.option("--tokens", is_flag=True, help="Attribute to tokens, not to words."),
    _tolerance_option,
    click.option(
        "--n-steps",
        type=click.IntRange(1),
        help="The most steps of a path; they are doubled until the tolerance is "
        "reached.  [default: 128]",
    ),
    click.option(
        "--absent",
        type=NameOption("absence", ("baseline", "removed")),
        metavar="NAME",
        help="Methods that leave out features replace them by the baseline's, or take "
        'them out: "baseline" or "removed".  [default: baseline]',
    ),
    click.option(
        "--n-samples",
        type=click.IntRange(2),
        help="The most subsets of an input's features that are embedded.  [default: "
        "2048, or 8 for each feature if these are more]",
    ),
    click.option(
        "--seed",
        type=_seed_range,
        help="How subsets, or references, are drawn.  [default: 0]",
    ),
    click.option(
        "--settings",
        type=SettingOption(),
        multiple=True,
        metavar="NAME=VALUE",
        help="A method's own setting, the value as Python writes it.",
    ),
    _device_option,
)
_corpus_options = options(
    click.option(
        "--images",
        type=click.Path(file_okay=False, exists=True),
        help="A directory; its images, and those of the directories in it, are taken.",
    ),
    click.option(
        "--texts",
        type=FileOption("texts", "a text file", TEXT_UNFIT),
        metavar="FILE",
        help="A file with a text a line.",
    ),
    click.option(
        "--sounds",
        type=click.Path(file_okay=False, exists=True),
        help="A directory of sounds (wav).",
    ),
)
_corpus_side_option = click.option(
    "--side",
    type=NameOption("side", ("first", "second")),
    metavar="NAME",
    help='Which of a pair\'s inputs they are, if both are of a kind: "first" or '
    '"second".',
)
_one_method = options(
    _model_option,
    _target_option,
    _inputs_options,
    _method_option,
    _settings_options,
    _page_option,
    _where_option,
)


# ---- commands ----------------------------------------------------------------


@main.command(epilog=_EPILOG)
@click.option(
    "--seed",
    type=_seed_range,
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
def demo(seed: int, layer: Any, tolerance: float, out: Path) -> None:
    """Explain a drawn scene with a model that comes with the package.

    Writes demo_scene.png (the scene), demo.png (the explanation), demo.json and
    demo.safetensors (its numbers), and demo_wrong_word.png: the caption beside one in
    which a word is wrong. Where each object really is, is known and printed.
    """
    _check_layer(_DEMO, layer)
    with announced("importing PyTorch"):
        import torch

    # products this small are no faster in parallel, and on a machine that is busy
    # their threads wait for each other
    torch.set_num_threads(1)
    drawing, caption, wrong = _scene(seed)
    model = _load(_DEMO, None)
    options = {"layer": layer, "tolerance": tolerance}
    with announced("explaining"):
        explanation = model.explain(
            drawing.image, caption.text, progress=sys.stderr.isatty(), **options
        )
        contrast = model.contrast(
            drawing.image, caption.text, wrong.caption.text, **options
        )
    out.mkdir(parents=True, exist_ok=True)
    scene = out / "demo_scene.png"
    _save_scene(drawing, scene)
    _write(explanation, out, "demo")
    click.echo("where the objects really are:")
    for line in _truth(explanation, drawing, caption):
        click.echo(f"  {line}")
    click.echo(_of_wrong_word(contrast, wrong))
    picture = out / "demo_wrong_word.png"
    contrast.plot().savefig(picture, dpi=150)
    click.echo(f"the scene: {scene}")
    click.echo(f"the wrong word: {picture}")


@main.command(epilog=_EPILOG)
@_one_method
@click.option(
    "--phrase", type=TextOption(), help="Explain these words of the text only."
)
@click.option(
    "--occurrence",
    type=click.IntRange(1),
    help="Which one, if they stand there several times.",
)
@click.option(
    "--box",
    type=BoxOption(),
    metavar="LEFT,TOP,RIGHT,BOTTOM",
    help="Explain this part of the image only, in its pixels.",
)
@click.option(
    "--side",
    type=NameOption("side", ("first", "second")),
    metavar="NAME",
    help='Whose words or box it is, if both inputs have such: "first" or "second".',
)
def explain(
    model: str,
    target: Optional[str],
    images: tuple[str, ...],
    texts: tuple[str, ...],
    sounds: tuple[str, ...],
    phrase: Optional[str],
    occurrence: Optional[int],
    box: Any,
    side: Optional[str],
    device: Optional[str],
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
    given = {"image": images, "text": texts, "audio": sounds}
    _check_number(given, 2)
    _check_part(given, phrase, occurrence, box)
    settings = _settings(settings)
    _check_layer(model, settings.get("layer"))
    _check_settings(settings)
    _look_at(given, phrase, occurrence)
    encoders = _load_scorer(model, device, target)
    pair = _pair(encoders, given)
    with announced("explaining"):
        explanation = encoders.explain(
            *pair,
            phrase=phrase,
            occurrence=occurrence,
            region=box,
            side=side,
            **_as_asked(encoders, settings),
        )
    _write(explanation, out, "explanation", page)


@main.command(epilog=_EPILOG)
@_one_method
def contrast(
    model: str,
    target: Optional[str],
    images: tuple[str, ...],
    texts: tuple[str, ...],
    sounds: tuple[str, ...],
    device: Optional[str],
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
    given = {"image": images, "text": texts, "audio": sounds}
    _check_number(given, 3)
    settings = _settings(settings)
    _check_layer(model, settings.get("layer"))
    _check_settings(settings)
    _look_at(given)
    encoders = _load_scorer(model, device, target)
    query, candidates, side = _query(encoders, given)
    with announced("explaining"):
        found = encoders.contrast(
            query, *candidates, side=side, **_as_asked(encoders, settings)
        )
    _write(found, out, "contrast", page)


@main.command(epilog=_EPILOG)
@_model_option
@_inputs_options
@click.option(
    "--methods",
    type=MethodsOption(),
    metavar="NAME,NAME,...",
    help="Which ones, with commas between.  [default: all]",
)
@_settings_options
@_page_option
@_where_option
def compare(
    model: str,
    images: tuple[str, ...],
    texts: tuple[str, ...],
    sounds: tuple[str, ...],
    methods: Optional[Sequence[str]],
    device: Optional[str],
    page: bool,
    out: Path,
    **settings: Any,
) -> None:
    """Explain a pair by several methods, and say how faithful each is.

    Writes comparison.png (a row for each method), comparison.json (its measures), and
    the numbers of each explanation (comparison_METHOD, .json and .safetensors). A
    method that can't run says why.
    """
    given = {"image": images, "text": texts, "audio": sounds}
    _check_number(given, 2)
    settings = _settings(settings)
    _check_layer(model, settings.get("layer"))
    _check_settings(settings, methods, several=True)
    _look_at(given)
    encoders = _load(model, device)
    pair = _pair(encoders, given)
    with announced("explaining by several methods"):
        found = encoders.compare(
            *pair, methods=methods, **_as_asked(encoders, settings)
        )
    _write(found, out, "comparison", page)


@main.command("zero-shot", epilog=_EPILOG)
@_model_option
@_inputs_options
@click.option(
    "--class",
    "classes",
    type=TextOption(),
    multiple=True,
    help="A class; at least one, or --classes.",
)
@click.option(
    "--classes",
    "listed",
    type=FileOption("classes", "a text file", TEXT_UNFIT),
    metavar="FILE",
    help="A file with a class a line.",
)
@click.option(
    "--template",
    type=TextOption(),
    default="{}",
    show_default=True,
    help='What each class is put into, such as "a photo of a {}".',
)
@_method_option
@_settings_options
@_page_option
@_where_option
def zero_shot(
    model: str,
    images: tuple[str, ...],
    texts: tuple[str, ...],
    sounds: tuple[str, ...],
    classes: tuple[str, ...],
    listed: Optional[str],
    template: str,
    device: Optional[str],
    page: bool,
    out: Path,
    **settings: Any,
) -> None:
    """Classify an input by texts, and show where it speaks for each class.

    The input is an image (or a sound or a text, as the model takes it first).

    Writes zero_shot.png (the probabilities, a map for each of the first classes, and
    what separates the first two), zero_shot.json and zero_shot.safetensors.
    """
    given = {"image": images, "text": texts, "audio": sounds}
    _check_number(given, 1)
    names = [*classes, *([] if listed is None else _lines(Path(listed)))]
    if not names or len(set(names)) < len(names):
        raise click.UsageError("classes are needed (--class or --classes), each once")
    if "{}" not in template:
        raise click.BadParameter("a text with {} in it", param_hint="--template")
    settings = _settings(settings)
    _check_layer(model, settings.get("layer"))
    _check_settings(settings, width="a classification")
    _look_at(given)
    encoders = _load(model, device)
    kind = encoders.first.kind
    if not given.get(kind):
        raise click.UsageError(f"{encoders.name} classifies {_article(kind)}")
    with announced("classifying"):
        found = encoders.zero_shot(
            given[kind][0], names, template=template, **_as_asked(encoders, settings)
        )
    _write(found, out, "zero_shot", page)


@main.command(epilog=_EPILOG)
@_model_option
@_corpus_options
@click.option(
    "--dtype",
    type=NameOption("type", ("float16", "float32")),
    default="float16",
    show_default=True,
    metavar="NAME",
    help='As what numbers are kept: "float16" or "float32".',
)
@_corpus_side_option
@_method_option
@_settings_options
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The directory in which they are kept.",
)
def contributions(
    model: str,
    images: Optional[str],
    texts: Optional[str],
    sounds: Optional[str],
    dtype: str,
    side: Optional[str],
    device: Optional[str],
    out: Path,
    **settings: Any,
) -> None:
    """Compute what many inputs contribute, once, and keep it in a directory.

    Any other input is then explained against them by a matrix product (in Python:
    captum_pairs.Contributions.load). A run that was stopped goes on where it was; what
    can't be read is left out and listed.
    """
    corpus, kind = _corpus(images, texts, sounds)
    settings = _settings(settings)
    _check_layer(model, settings.get("layer"))
    _check_settings(settings, width="contributions")
    encoders = _load(model, device)
    place = _place_of(encoders, kind, side)
    with announced(f"computing what {len(corpus)} inputs contribute"):
        # those that can't be read are listed below
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            stored = encoders.contributions(
                corpus,
                side=place,
                directory=out,
                dtype=dtype,
                **_as_asked(encoders, settings),
            )
    _tell_stored(stored, len(corpus), out)


_directory_argument = click.argument(
    "directory", type=click.Path(file_okay=False, path_type=Path)
)


@main.command(epilog=_EPILOG)
@_directory_argument
@click.option(
    "--model",
    type=ModelOption(),
    metavar="NAME_OR_DIR",
    help="As `captum-pairs models` lists them.  [default: that of the index, if there "
    "is one already]",
)
@_corpus_options
@click.option(
    "--dtype",
    type=NameOption("type", ("float32", "float16")),
    metavar="NAME",
    help='As what embeddings are kept: "float32" or "float16".  [default: float32, or '
    "that of the index]",
)
@_corpus_side_option
@_device_option
def index(
    directory: Path,
    model: Optional[str],
    images: Optional[str],
    texts: Optional[str],
    sounds: Optional[str],
    dtype: Optional[str],
    side: Optional[str],
    device: Optional[str],
) -> None:
    """Embed many inputs, once, and keep them in DIRECTORY to be searched.

    What is there already is not embedded again: a run that was stopped goes on where it
    was, and another one adds to it. What can't be read is left out and listed.
    """
    corpus, kind = _corpus(images, texts, sounds)
    name = model or _model_of_index(directory)
    if name is None:
        raise click.UsageError("--model is needed: there is no index there yet")
    encoders = _load(name, device)
    place = _place_of(encoders, kind, side)
    with announced(f"embedding {len(corpus)} inputs"):
        # those that can't be read are listed below
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = encoders.index(
                corpus,
                side=place,
                directory=directory,
                dtype=dtype,
                progress=sys.stderr.isatty(),
            )
    failed = {
        name: found.failed[name] for name in map(str, corpus) if name in found.failed
    }
    click.echo(f"{len(found)} {kind}s can be searched in {directory}")
    _tell_failed(failed)
    if len(failed) == len(corpus):
        raise failure("none of the inputs could be read", IMAGE_UNREADABLE)


@main.command(epilog=_EPILOG)
@_directory_argument
@click.argument("query", type=TextOption())
@click.option(
    "--number",
    "-k",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="How many hits; all, if there are no more.",
)
@click.option(
    "--why",
    is_flag=True,
    help="Explain the hits, and why each stands before the next one.",
)
@click.option(
    "--why-not",
    type=TextOption(),
    metavar="NAME",
    help="What this item lacks to be among the first.",
)
@click.option(
    "--paraphrase",
    type=TextOption(),
    metavar="TEXT",
    help="What other words find, and which of them move what.",
)
@click.option(
    "--page",
    type=NewFileOption(),
    metavar="FILE",
    help="Write a page with the hits' maps and the contrast of two that are picked, "
    "one file that needs no network.",
)
@click.option(
    "--once",
    is_flag=True,
    help="Explain for this query alone, several times as fast the first time, and keep "
    "nothing.",
)
@click.option(
    "--model",
    type=ModelOption(),
    metavar="NAME_OR_DIR",
    help="The index's model, if it is called something else now.",
)
@_method_option
@_settings_options
def search(
    directory: Path,
    query: str,
    number: int,
    why: bool,
    why_not: Optional[str],
    paraphrase: Optional[str],
    page: Optional[Path],
    once: bool,
    model: Optional[str],
    device: Optional[str],
    **settings: Any,
) -> None:
    """Search the index in DIRECTORY, by a text or by an image's file.

    Prints the hits, best first. What hits contribute is kept in DIRECTORY, so that they
    are explained for other queries by a matrix product.
    """
    known = _model_of_index(directory)
    if known is None:
        shown = click.format_filename(directory)
        message = f"{shown}: no index there (`captum-pairs index` makes one)"
        raise click.BadParameter(message, param_hint="DIRECTORY")
    for what, text in (("query", query), ("--paraphrase", paraphrase)):
        if text is not None and not text.strip():
            message = f"{what}: expected at least one word, got an empty text"
            raise failure(message, TEXT_UNFIT)
    settings = _settings(settings)
    name = model or known
    _check_layer(name, settings.get("layer"))
    _check_settings(settings, width="an index")
    encoders = _load(name, device)
    asked = _as_asked(encoders, settings)
    found = encoders.index(directory=directory, keep=not once, **asked)
    if why_not is not None:
        with _as_options(hits="--why-not"):
            found.embeddings([why_not])  # a name that is none is told at once
    with announced(f"searching {len(found)} items"):
        hits = found.search(query, number)
    for hit in hits:
        click.echo(str(hit))
    if why or page is not None:
        with announced("explaining the hits"):
            explained = found.explain(query, hits)
        if why:
            click.echo(explained.summary())
            for at in range(1, len(hits) - 1):
                click.echo(
                    "\n".join(explained.why(at, at + 1).summary().splitlines()[:2])
                )
        if page is not None:
            click.echo(f"the page: {explained.page(page)}")
    if why_not is not None:
        with announced("explaining"), _as_options(a="--why-not"):
            click.echo(found.why_not(query, why_not, number).summary())
    if paraphrase is not None:
        named = _as_options(other="--paraphrase", query="QUERY")
        with announced("comparing two wordings"), named:
            click.echo(found.paraphrases(query, paraphrase, number).summary())


@main.command()
def models() -> None:
    """List the models that are supported, and what of it is installed."""
    from importlib.util import find_spec

    for kind in KINDS.values():
        is_installed = not kind.module or find_spec(kind.module) is not None
        missing = f"not installed: pip install {kind.package}"
        state = "installed" if is_installed else missing
        click.echo(f"{kind.models}\n  --model {kind.write}  ({state})")
    click.echo(
        "your own: two functions, captum_pairs.from_functions(encode_first, "
        "encode_second)"
    )


# ---- what is checked before a model is loaded --------------------------------


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """Those that were asked for."""
    found = {
        name: value
        for name, value in given.items()
        if value is not None and value is not False and value != ()
    }
    if "settings" in found:
        found["settings"] = dict(found["settings"])
    return found


def _as_asked(encoders: "DualEncoder", settings: dict[str, Any]) -> dict[str, Any]:
    """With references of the model, and a bar, if there is somebody to see it."""
    found = {**settings, "progress": sys.stderr.isatty()}
    size = found.pop(_SIZE, 64)
    if "references" in found:
        seed = found.get("seed", 0)
        found["references"] = _references(encoders, found["references"], size, seed)
    return found


def _references(encoders: "DualEncoder", place: Path, size: int, seed: int) -> Any:
    """A sample of what a directory has for each of the model's sides."""
    kinds = {"images": "image", "texts": "text", "sounds": "audio"}
    having = {path.suffix.lower() for path in place.rglob("*") if path.is_file()}
    given: dict[str, Any] = {
        name: place
        for name, kind in kinds.items()
        if kind in (encoders.first.kind, encoders.second.kind)
        and having & {*_ENDINGS[name].split()}
    }
    if not given:
        message = (
            f"files that {encoders.name} takes, not {click.format_filename(place)}"
        )
        raise click.BadParameter(message, param_hint="--references")
    return encoders.references(**given, size=size, seed=seed)


def _check_number(given: Given, count: int) -> None:
    number = sum(map(len, given.values()))
    if number != count:
        inputs = "one input is" if count == 1 else f"{count} inputs are"
        raise click.UsageError(
            f"{inputs} needed (--image, --text or --audio), not {number}"
        )


def _check_part(
    given: Given, phrase: Optional[str], occurrence: Optional[int], box: Any
) -> None:
    """A phrase that is in no text, a box that is in no image."""
    if phrase is not None and box is not None:
        raise click.UsageError("a phrase or a box, not both")
    if phrase is None and occurrence is not None:
        raise click.UsageError("--occurrence is that of a --phrase")
    if phrase is not None:
        _check_phrase(given["text"], phrase)
    if box is not None and given["image"]:
        sizes = [size for image in given["image"] if (size := _size(image)) is not None]
        _check_box(box, sizes)


def _check_phrase(texts: Sequence[str], phrase: str) -> None:
    """Refuse words whose letters are in no text; words are looked for later."""
    wanted = "".join(phrase.casefold().split())
    if any(wanted in "".join(text.casefold().split()) for text in texts) and wanted:
        return
    close = did_you_mean(phrase, _runs(texts, len(phrase.split())))
    texts_in_words = " or ".join(f"“{text}”" for text in texts) or "no text"
    message = f"words of {texts_in_words}, not “{phrase}”{close}"
    raise click.BadParameter(message, param_hint="--phrase")


def _runs(texts: Sequence[str], size: int) -> list[str]:
    """Words of texts that stand one after the other, as many as that."""
    every = [text.split() for text in texts]
    return [
        " ".join(words[at : at + size]).strip(".,;:!?")
        for words in every
        for at in range(len(words) - size + 1)
        if size
    ]


def _check_box(box: Sequence[float], sizes: Sequence[tuple[int, int]]) -> None:
    if all(edge <= 1 for edge in box) and any(edge % 1 for edge in box):
        message = "pixels of the image, not shares of it"
        raise click.BadParameter(message, param_hint="--box")
    fits = [box[2] <= width and box[3] <= height for width, height in sizes]
    if sizes and not any(fits):
        width, height = sizes[0]
        came = ",".join(f"{edge:g}" for edge in box)
        message = f"a part of the image of {width} x {height} px, not “{came}”"
        raise click.BadParameter(message, param_hint="--box")


def _size(image: str) -> Optional[tuple[int, int]]:
    """Width and height of an image as it is seen; None if that has to be told later."""
    from PIL import Image

    try:
        with Image.open(Path(image).expanduser()) as opened:
            turned = opened.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = opened.size
    except Exception:  # whatever a decoder raises: who reads it says what is wrong
        return None
    return (height, width) if turned else (width, height)


def _check_taken(settings: dict[str, Any], methods: Sequence[str]) -> None:
    """Refuse an option that none of the methods takes; of one that is imported later it
    is not known yet."""
    if not set(METHODS).issuperset(methods):
        return
    for name in settings:
        using = TAKEN_BY.get(name, methods)
        if not set(using) & set(methods):
            message = f"one of the methods that use it ({', '.join(using)})"
            came = " and ".join(methods)
            hint = f"--{name.replace('_', '-')}"
            raise click.BadParameter(f"{message}, not {came}", param_hint=hint)


def _check_settings(
    settings: dict[str, Any],
    methods: Optional[Sequence[str]] = None,
    several: bool = False,
    width: Optional[str] = None,
) -> None:
    """What a method does not take is refused before a model is loaded."""
    if _SIZE in settings and "references" not in settings:
        message = "it is that of --references"
        raise click.BadParameter(message, param_hint="--references-size")
    # which are made of the model
    settings = {n: v for n, v in settings.items() if n not in ("references", _SIZE)}
    one = settings.get("method", next(iter(METHODS)))
    _check_taken(settings, (methods or list(METHODS)) if several else [one])
    with announced("importing PyTorch"):
        from captum_pairs.explain.comparison import methods_asked_for, own_settings
        from captum_pairs.explain.methods import check_width
        from captum_pairs.explain.options import Options

    if several:
        asked = methods_asked_for(methods, settings.get("absent"))
        own_settings(asked, settings.get("settings"))
        shared = {n: v for n, v in settings.items() if n != "settings"}
        Options.of({**shared, "method": asked[0]}, asked)
        return
    checked = Options.of(settings)
    if width is not None:
        check_width(checked.method, width)


def _check_layer(model: str, layer: Any) -> None:
    """Refuse a block that a model's configuration, which lies on the disk, has not."""
    counts = _blocks(model)
    if counts is None or layer is None:
        return
    wanted = layer if isinstance(layer, tuple) else (layer,)
    for number, count, kind in zip(wanted, counts, ("image", "text")):
        if isinstance(number, int) and not -count <= number < count:
            message = (
                f'a block from 0 to {count - 1} or -{count} to -1 or "input" of the '
                f"{kind} encoder, not {number}"
            )
            raise click.BadParameter(message, param_hint="--layer")


def _blocks(model: str) -> Optional[tuple[int, int]]:
    """How many blocks the encoders of images and of texts have; None if that has to be
    told later."""
    prefix, _, rest = model.partition(":")
    folder = Path(model).expanduser()
    if prefix == "scenes" and not folder.is_dir():
        kept = files("captum_pairs") / "scenes" / "checkpoints" / (rest or "neutral")
        folder = Path(str(kept))
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if found["model_type"] not in ("clip", "siglip"):
            return None
        vision, text = (
            int(found[f"{each}_config"].get("num_hidden_layers", 12))
            for each in ("vision", "text")
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # who loads it says what is wrong
    return vision, text


def _look_at(
    given: Given, phrase: Optional[str] = None, occurrence: Optional[int] = None
) -> None:
    """Images and words are looked at before the model is loaded."""
    from captum_pairs.inputs import find_phrase
    from captum_pairs.models import read_image

    for image in given["image"]:
        read_image(image)
    if phrase is not None and len(given["text"]) == 1:
        find_phrase(given["text"][0], phrase, occurrence)


def _load(name: str, device: Optional[str]) -> "DualEncoder":
    """One that embeds each input."""
    with embedding_each(name):
        return _load_any(name, device)


def _load_scorer(
    name: str, device: Optional[str], target: Optional[str]
) -> "DualEncoder":
    """One that may score both inputs at once: of several classes the one that is
    meant."""
    from captum_pairs.attr import InvalidArgumentError

    try:
        return _load_any(name, device, target=target)
    except InvalidArgumentError as error:
        if error.argument != "target":
            raise
        if target is None:
            message = f"--target is needed: {error.expected}"
            raise click.UsageError(message) from error
        message = f"{error.expected}, not {error.got}"
        if error.expected.startswith("None"):
            shown = click.format_filename(name)
            message = f"taken by models of several classes only, not by {shown}"
        raise click.BadParameter(message, param_hint="--target") from error


def _load_any(name: str, device: Optional[str], **more: Any) -> "DualEncoder":
    with announced(f"loading the model {click.format_filename(name)}"):
        from captum_pairs.model import load
        from transformers.utils import logging

        # the bar is that of loading weights; their functions are untyped
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        return load(name, device=device, **more)


def _model_of_index(directory: Path) -> Optional[str]:
    """The name of the model whose index is in a directory; None if there is none."""
    path = directory / "index.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.get("holds") == "embeddings":
            return str(found["name"])
        reason = f"it holds {found.get('holds', 'contributions')}, and is no index"
    except OSError as error:
        if not path.exists():
            return None
        reason = f"index.json can't be read ({error.strerror or error})"
    except (ValueError, KeyError, AttributeError):
        reason = "index.json is damaged: take it from a copy, or make the index anew"
    message = f"{click.format_filename(directory)}: {reason}"
    raise click.BadParameter(message, param_hint="DIRECTORY")


@contextmanager
def _as_options(**names: str) -> Iterator[None]:
    """What the library says of an argument is said of the option that it came as."""
    from captum_pairs.attr import InvalidArgumentError

    try:
        yield
    except InvalidArgumentError as error:
        if error.argument not in names:
            raise
        message = f"expected {error.expected}, got {error.got}"
        raise click.BadParameter(message, param_hint=names[error.argument]) from error


# ---- inputs ------------------------------------------------------------------


def _pair(encoders: "DualEncoder", given: Given) -> tuple[str, str]:
    """The two inputs in the model's order."""
    kinds = encoders.first.kind, encoders.second.kind
    waiting = {kind: list(values) for kind, values in given.items()}
    for kind in kinds:
        if not waiting.get(kind):
            raise click.UsageError(
                f"{encoders.name} compares {_article(kinds[0])} with "
                f"{_article(kinds[1])}"
            )
        waiting[kind].pop(0)
    first = given[kinds[0]][0]
    return first, given[kinds[1]][int(kinds[0] == kinds[1])]


def _article(kind: str) -> str:
    return {"image": "an image", "audio": "a sound"}.get(kind, f"a {kind}")


def _query(
    encoders: "DualEncoder", given: Given
) -> tuple[str, tuple[str, str], Literal["first", "second"]]:
    """The query, the candidates, and which side the query is on."""
    kinds = encoders.first.kind, encoders.second.kind
    if kinds[0] == kinds[1]:
        values = given.get(kinds[0], ())
        if len(values) != 3:
            raise click.UsageError(f"{encoders.name} takes three {kinds[0]}s")
        return values[0], (values[1], values[2]), "first"
    counts = tuple(len(given.get(kind, ())) for kind in kinds)
    if sorted(counts) != [1, 2]:
        raise click.UsageError(
            f"one {kinds[0]} and two {kinds[1]}s are needed, or the other way round"
        )
    at = counts.index(1)
    candidates = cast(tuple[str, str], given[kinds[1 - at]])
    return given[kinds[at]][0], candidates, "second" if at else "first"


def _place_of(encoders: "DualEncoder", kind: str, side: Optional[str]) -> str:
    """Which of a pair's inputs those of a kind are."""
    kinds = encoders.first.kind, encoders.second.kind
    if kind not in kinds:
        raise click.UsageError(
            f"{encoders.name} compares {_article(kinds[0])} with {_article(kinds[1])}"
        )
    return side or ("first" if kinds[0] == kind else "second")


def _corpus(
    images: Optional[str], texts: Optional[str], sounds: Optional[str]
) -> tuple[list[Any], str]:
    """The inputs that are kept, and their kind."""
    named = {"images": images, "texts": texts, "sounds": sounds}
    given = [name for name, value in named.items() if value is not None]
    if len(given) != 1:
        raise click.UsageError("one of --images, --texts or --sounds is needed")
    place = Path(cast(str, named[given[0]])).expanduser()
    if given[0] == "texts":
        lines = list(dict.fromkeys(_lines(place)))
        if not lines:
            raise failure(f"texts: no text in {place}", TEXT_UNFIT)
        return lines, "text"
    endings = _ENDINGS[given[0]].split()
    files = sorted(
        path
        for path in place.rglob("*")
        if path.suffix.lower() in endings and path.is_file()
    )
    if not files:
        message = f"{given[0]}: no files ({', '.join(endings)}) in {place}"
        raise failure(message, IMAGE_UNREADABLE)
    return list(files), {"images": "image", "sounds": "audio"}[given[0]]


def _lines(path: Path) -> list[str]:
    """The lines of a file that are not empty."""
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{click.format_filename(path)}: not UTF-8 ({error.reason})"
        raise failure(message, TEXT_UNFIT) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


# ---- what is written ---------------------------------------------------------


def _write(
    found: "Union[PairExplanation, Contrast, Comparison, ZeroShot]",
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


def _tell_stored(stored: "Contributions", number: int, out: Path) -> None:
    failed = dict(stored.failed)
    kept = len(stored)
    click.echo(f"{kept} of {number} inputs are kept in {out}")
    _tell_failed(failed)
    if not kept:
        raise failure("none of the inputs could be read", IMAGE_UNREADABLE)


def _tell_failed(failed: dict[str, str]) -> None:
    if failed:
        click.echo(f"{len(failed)} could not be read:")
    for reason in list(failed.values())[:_LISTED]:
        click.echo(f"  {reason}")
    if len(failed) > _LISTED:
        click.echo(f"  and {len(failed) - _LISTED} more")


def _scene(seed: int) -> "tuple[Rendering, Caption, HardNegative]":
    """Three objects that differ, a caption that names each, and the same with a word
    that is wrong."""
    import numpy as np
    from captum_pairs.scenes import hard_negative, render, sample_caption, sample_scene

    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, 3, distinct=True)
    caption = sample_caption(rng, scene, plain=True)
    wrong = None
    while wrong is None:  # of a few tries none may be false
        wrong = hard_negative(rng, scene, caption)
    return render(scene), caption, wrong


def _of_wrong_word(contrast: "Contrast", wrong: "HardNegative") -> str:
    """What a right word and the wrong one in its place add, in a line."""
    from captum_pairs.inputs import words_of

    told = []
    spans = (wrong.right, wrong.changed)
    for pair, span in zip((contrast.preferred, contrast.other), spans):
        text = pair.second.source.text
        words = words_of(pair.second.features, span)
        patches = [at for at, each in enumerate(pair.first.features) if each.box]
        total = float(pair.interactions[patches][:, words].sum())
        told.append(f"\u201c{text[slice(*span)]}\u201d {total:+.3f}")
    return f"with a wrong word, \u201c{wrong.caption.text}\u201d: {' but '.join(told)}"


def _save_scene(drawing: "Rendering", path: Path) -> None:
    from PIL import Image

    Image.fromarray(drawing.image).save(path)


def _truth(
    explanation: "PairExplanation", drawing: "Rendering", caption: "Caption"
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
