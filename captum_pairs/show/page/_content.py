"""What the page is made of: explanations as JSON, each input and picture once."""

import base64
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

import numpy as np
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import AUDIO, TEXT
from captum_pairs.models.view import Box
from captum_pairs.show.reading import (
    FAITHFULNESS,
    key,
    silence,
    silence_of_classes,
    verdict,
    verdict_of_classes,
    verdict_of_contrast,
)
from captum_pairs.show.results import (
    ComparedLike,
    ComparisonLike,
    ContrastLike,
    HitsLike,
    MatchLike,
    PairLike,
    WhyLike,
    ZeroShotLike,
)
from captum_pairs.show.wording import (
    capitalized,
    completeness,
    instead_of,
    isolated,
    isolated_name,
    lacks_picture,
    logits,
    measure,
    method_name,
    NO_PICTURE,
    path,
    question,
    quoted,
    signed,
    sort,
    subject,
    typeset,
)
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

__all__ = ["content_of"]

# Boxes are whole numbers of this part of the picture's width and height.
_FINENESS = 10000
# Larger tables are kept in half precision, relative to their largest number.
_EXACT = 16384
_MOST_MATCHES = 8
_MOST_FRAMES = 1200
# Hits of which each can be compared with each.
_MOST_COMPARED = 20
# Bytes of a picture that need no saving.
_CHEAP = 20_000
_QUERY = "the query"


class _Shared:
    """Inputs and pictures that several explanations have are kept once."""

    def __init__(self) -> None:
        self.pictures: list[str] = []
        self.sides: list[dict[str, Any]] = []
        self._found: dict[str, int] = {}
        self._encoded: dict[int, tuple[NDArray[Any], int]] = {}

    def side(self, side: ExplainedInput) -> int:
        """The number of an input."""
        content = _side(side)
        if side.source.picture is not None:
            content["picture"] = self._picture(side)
        key = json.dumps(content)
        if key not in self._found:
            self._found[key] = len(self.sides)
            self.sides.append(content)
        return self._found[key]

    def _picture(self, side: ExplainedInput) -> int:
        picture = side.source.picture
        assert picture is not None
        # one array serves many explanations; kept, so that its id stays its own
        if id(picture) not in self._encoded:
            uri = _encoded(picture, side.kind == AUDIO)
            if uri not in self.pictures:
                self.pictures.append(uri)
            self._encoded[id(picture)] = picture, self.pictures.index(uri)
        return self._encoded[id(picture)][1]


def content_of(explanations: Sequence[Any]) -> dict[str, Any]:
    """
    All of a page's data.

    Raises:
        InvalidArgumentError: if there is nothing, or not finite numbers.
    """
    wanted = "a PairExplanation, a Contrast, a Comparison, a ZeroShot, or several"
    if not explanations:
        raise InvalidArgumentError("explanations", wanted, "none")
    shared = _Shared()
    if len(explanations) == 1 and isinstance(explanations[0], HitsLike):
        return _of_hits(explanations[0], shared)
    entries: list[dict[str, Any]] = []
    for each in explanations:
        if isinstance(each, PairLike):
            entries.append(_entry(each, shared))
        elif isinstance(each, ComparisonLike):
            entries += _compared_entries(each, shared)
        elif isinstance(each, ContrastLike):
            entries.append(_contrast_entry(each, shared))
        elif isinstance(each, ZeroShotLike):
            entries.append(_zero_shot_entry(each, shared))
        else:
            raise InvalidArgumentError("explanations", wanted, type(each).__name__)
    _tell_apart(entries)
    title = entries[0]["label"] if len(entries) == 1 else f"{len(entries)} explanations"
    return {
        "title": f"{title} – feature-pair attribution",
        "pictures": shared.pictures,
        "sides": shared.sides,
        "entries": entries,
    }


def _tell_apart(entries: list[dict[str, Any]]) -> None:
    """Of several explanations of the same pair each has its method's name."""
    often = Counter(entry["label"] for entry in entries)
    for entry in entries:
        method = entry.pop("method", None)
        if often[entry["label"]] > 1 and method is not None:
            name = capitalized(method_name(method))
            entry["label"] = f"{name}: {entry['label']}"


# ---- entries ---------------------------------------------------------------


def _entry(explanation: PairLike, shared: _Shared) -> dict[str, Any]:
    said = [f"{name} {signed(value, 2)}" for name, value in logits(explanation)]
    return {
        "label": capitalized(" and ".join(subject(explanation))),
        "method": explanation.method,
        "score": explanation.score,
        "measure": capitalized(measure(explanation.similarity)),
        "subheading": said,
        **_reading(
            verdict(explanation),
            silence(explanation),
            key(explanation.similarity, numbers=""),
        ),
        "pairs": [_pair(explanation, shared)],
        "parts": [list(part) for part in explanation.parts().items()],
        "facts": list(_facts(explanation)),
    }


def _compared_entries(
    comparison: ComparisonLike, shared: _Shared
) -> Iterator[dict[str, Any]]:
    """One of each method that could run."""
    names = ", ".join(map(method_name, comparison.failed))
    for each in comparison.compared:
        entry = _entry(each.explanation, shared)
        faithful = _faithfulness(each)
        entry["subheading"] = [faithful, *entry["subheading"]]
        entry["notes"] += [typeset(f"Could not run: {names}.")] if names else []
        said = f"{capitalized(faithful)}: {FAITHFULNESS}"
        entry["facts"] += [
            ("Faithfulness", typeset(said)),
            ("Took", typeset(f"{each.seconds:.2g} s")),
        ]
        yield entry


def _faithfulness(compared: ComparedLike) -> str:
    pairs = f"of pairs alone {compared.faithfulness_of_pairs:.2f}"
    if compared.faithfulness is None:
        return typeset(f"faithfulness {pairs}")
    return typeset(f"faithfulness {compared.faithfulness:.2f}, {pairs}")


def _contrast_entry(contrast: ContrastLike, shared: _Shared) -> dict[str, Any]:
    titles = _titles(contrast)
    pairs = [
        _pair(each, shared, title)
        for each, title in zip((contrast.preferred, contrast.other), titles)
    ]
    return {**_contrast_in_words(contrast), "pairs": pairs}


def _titles(contrast: ContrastLike) -> tuple[str, str]:
    kind = contrast.candidates[0].kind
    return f"Preferred {kind}", f"Other {kind}"


def _contrast_in_words(contrast: ContrastLike, query: str = "") -> dict[str, Any]:
    """All of a contrast but its tables; `query` is what that is called."""
    preferred, other = contrast.preferred, contrast.other
    kind = contrast.candidates[0].kind
    own = key(preferred.similarity, "a candidate's own similarity", "")
    query = query or preferred.side_names[contrast.query_side == "second"]
    subheading = [
        f"{signed(preferred.score)} for the preferred {sort(kind)}, "
        f"{signed(other.score)} for the other one"
    ]
    if logits(preferred):
        name = preferred.heads[0].name
        subheading.append(f"{signed(contrast.logit_difference, 2)} in {name}")
    entry = {
        "label": " ".join(question(contrast)),
        "score": contrast.difference,
        "measure": f"Difference of the {measure(preferred.similarity, True)}",
        "subheading": subheading,
        **_reading(
            verdict_of_contrast(contrast),
            dict.fromkeys([*silence(preferred), *silence(other)]),
            f"{own} In {query}, which shows the difference, orange speaks for the "
            "preferred one and purple for the other.",
        ),
        "query": contrast.query_side,
        "parts": [list(part) for part in contrast.parts().items()],
        "facts": list(_contrast_facts(contrast)),
    }
    if kind == TEXT:
        entry["changes"] = list(_changes(contrast))
    return entry


# ---- hits ------------------------------------------------------------------


def _of_hits(found: HitsLike, shared: _Shared) -> dict[str, Any]:
    """Hits, and what each of the first has before each one that stands behind it."""
    entries: list[dict[str, Any]] = []
    for hit, explanation in zip(found.hits, found.explanations):
        entry = _entry(explanation, shared)
        entry["label"] = _titled(hit.rank, hit.key)
        if _is_of_one_kind(found):  # neither is told by what it is
            names = [_QUERY, "the hit"][:: 1 if found.query_side == "first" else -1]
            entry["pairs"][0]["names"] = [capitalized(name) for name in names]
        if lacks_picture(found.item(len(entries))):
            entry["notes"].append(f"{typeset(capitalized(NO_PICTURE))}.")
        entries.append(entry)
    count = min(len(entries), _MOST_COMPARED)
    return {
        "title": f"{_searched(found)} – {len(entries)} hits",
        "pictures": shared.pictures,
        "sides": shared.sides,
        "entries": entries,
        "compared": [
            _compared(found, a, b) for a in range(count) for b in range(a + 1, count)
        ],
    }


def _is_of_one_kind(found: HitsLike) -> bool:
    return found.query.kind == found.item(0).kind


def _searched(found: HitsLike) -> str:
    return capitalized(str(found.query.source))


def _titled(rank: int, key: str, kind: str = "") -> str:
    """In a sentence, a text in quotes."""
    return f"{rank}. {isolated(key) if kind == TEXT else isolated_name(key)}"


def _compared(found: HitsLike, a: int, b: int) -> dict[str, Any]:
    """Two hits, whose tables their own entries have."""
    why = found.why(a, b)
    entry = _contrast_in_words(why.contrast, _QUERY if _is_of_one_kind(found) else "")
    names = [
        _titled(hit.rank, hit.key, found.item(at).kind)
        for at, hit in ((at, found.hits[at]) for at in (a, b))
    ]
    entry["label"] = f"Why {names[0]} rather than {names[1]}?"
    if "changes" not in entry:
        entry["decided"] = list(_decided(why))
    titles = _titles(why.contrast)
    return {"of": [a, b], "titles": list(titles), "entry": entry}


def _decided(why: WhyLike) -> Iterator[dict[str, Any]]:
    for each in why.decided:
        features = list(each.features)
        label, value = typeset(each.name), each.value
        yield {"label": label, "value": value, "features": features}


# ---- classes ---------------------------------------------------------------


def _zero_shot_entry(zero_shot: ZeroShotLike, shared: _Shared) -> dict[str, Any]:
    """The input beside the names of the classes, as if they were words of a text."""
    table = zero_shot.by_class()
    (best, probability), *others = zero_shot.top(_MOST_MATCHES)
    pair = _pair(table, shared)
    pair["names"] = [capitalized(f"the {sort(zero_shot.input.kind)}"), "Classes"]
    facts = dict(_facts(table))
    for name in (f"Path of {table.side_names[1]}", "Completeness"):
        facts.pop(name, None)
    return {
        "label": f"{quoted(best)}, {probability:.1%}: {zero_shot.input.source}",
        "score": table.score,
        "measure": f"{capitalized(measure(table.similarity))} with {quoted(best)}",
        "subheading": [f"{quoted(name)} {share:.1%}" for name, share in others],
        **_reading(
            verdict_of_classes(zero_shot),
            silence_of_classes(zero_shot),
            key(table.similarity, numbers=""),
        ),
        "pairs": [pair],
        "parts": [list(part) for part in zero_shot.parts(best).items()],
        "facts": [*facts.items(), ("Prompts", "; ".join(zero_shot.prompts))],
    }


def _reading(verdict: str, notes: Iterable[str], key: str) -> dict[str, Any]:
    """What it says in a sentence, what it is silent about, and how to read it."""
    return {
        "verdict": typeset(verdict),
        "notes": [typeset(note) for note in notes],
        "key": key,
    }


def _pair(explanation: PairLike, shared: _Shared, title: str = "") -> dict[str, Any]:
    effects = explanation.first_effects, explanation.second_effects
    return {
        "title": title,
        "names": [capitalized(name) for name in explanation.side_names],
        "sides": [shared.side(explanation.first), shared.side(explanation.second)],
        "table": _packed(explanation.interactions),
        "effects": [None if values is None else _packed(values) for values in effects],
        "matches": [
            _match(each, explanation) for each in explanation.top_pairs(_MOST_MATCHES)
        ],
    }


def _match(match: MatchLike, explanation: PairLike) -> dict[str, Any]:
    sides = explanation.first, explanation.second
    said = [
        isolated(name) if side.kind == TEXT else name
        for name, side in zip((match.first, match.second), sides)
    ]
    if sides[0].kind != TEXT == sides[1].kind:  # the word is read first
        said.reverse()
    return {
        "label": " – ".join(said),
        "value": match.value,
        "features": [list(match.first_features), list(match.second_features)],
    }


def _changes(contrast: ContrastLike) -> Iterator[dict[str, Any]]:
    """The words of both candidates side by side, and their numbers."""
    for change, spans in zip(contrast.changes(), contrast.aligned()):
        yield {
            "label": instead_of(change.preferred, change.other, isolated("{}")),
            "changed": change.is_changed,
            "value": change.total,
            "features": [list(span) for span in spans],
        }


# ---- inputs ----------------------------------------------------------------


def _side(side: ExplainedInput) -> dict[str, Any]:
    extent = _extent(side)
    boxes = [_in_extent(feature.box, extent, side) for feature in side.features]
    names = list(side.names)
    grid = list(side.grid) if side.grid is not None else None
    if grid is not None and grid[0] * grid[1] == side.count:
        names = names[side.count :]  # the page knows patches by row and column
    else:
        grid = None
    return {
        "kind": side.kind,
        "label": (
            capitalized(str(side.source)) if side.kind != TEXT else side.source.text
        ),
        "text": side.source.text,
        "count": side.count,
        "grid": grid,
        "names": names,
        "extent": extent if any(boxes) else None,
        "size": list(side.source.size) if side.source.size is not None else None,
        "asked": _in_extent(side.asked, extent, side),
        "boxes": boxes if any(boxes) else None,
        "pieces": _pieces(side) if side.kind == TEXT else None,
        "picture": None,
    }


def _extent(side: ExplainedInput) -> Optional[list[float]]:
    """Left, top, right, bottom of what is shown, in the original's units."""
    source = side.source
    if source.visible is not None:
        return [float(edge) for edge in source.visible]
    if source.size is not None:
        return [0.0, 0.0, float(source.size[0]), float(source.size[1])]
    boxes = [feature.box for feature in side.features if feature.box is not None]
    if not boxes:
        return None
    edges = list(zip(*boxes))
    return [min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3])]


def _in_extent(
    box: Optional[Box], extent: Optional[list[float]], side: ExplainedInput
) -> Optional[list[int]]:
    """A box in parts of the picture, from its top left corner as it is shown."""
    if box is None or extent is None:
        return None
    left, top, right, bottom = extent
    if right <= left or bottom <= top:
        return None
    x = [(edge - left) / (right - left) for edge in box[::2]]
    y = [(edge - top) / (bottom - top) for edge in box[1::2]]
    if side.kind == AUDIO:  # low bands below
        y = [1 - y[1], 1 - y[0]]
    return [round(_FINENESS * min(max(v, 0), 1)) for v in (x[0], y[0], x[1], y[1])]


def _pieces(side: ExplainedInput) -> Optional[list[tuple[str, int]]]:
    """
    The text in pieces, with the feature of each, or -1 between them.

    Returns:
        None if features share characters (tokens that are parts of one) or have none.
    """
    text, at = side.source.text, 0
    pieces: list[tuple[str, int]] = []
    spans = [(f.span, i) for i, f in enumerate(side.features) if not f.special]
    for span, index in sorted(spans, key=lambda each: each[0] or (0, 0)):
        if span is None or span[0] < at or span[1] <= span[0]:
            return None
        if span[0] > at:
            pieces.append((text[at : span[0]], -1))
        pieces.append((text[slice(*span)], index))
        at = span[1]
    return pieces + [(text[at:], -1)] if at < len(text) else pieces


def _encoded(picture: NDArray[Any], is_sound: bool) -> str:
    """As a data URI: PNG where that is as small, JPEG for photos."""
    if is_sound:
        low, high = np.percentile(picture, [1, 99])
        shares = (picture[::-1] - low) / max(float(high - low), 1e-12)
        image = Image.fromarray(np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8))
        if image.width > _MOST_FRAMES:
            image = image.resize((_MOST_FRAMES, image.height), Image.Resampling.BOX)
    else:
        image = Image.fromarray(picture.astype(np.uint8))
    found = []
    for name, options in (("png", {"optimize": True}), ("jpeg", {"quality": 88})):
        written = io.BytesIO()
        image.save(written, name, **options)
        found.append((len(written.getvalue()), name, written.getvalue()))
    # exact, unless that costs much
    is_cheap = found[0][0] <= max(_CHEAP, 1.5 * found[1][0])
    _, name, data = found[0] if is_cheap else found[1]
    return f"data:image/{name};base64,{base64.b64encode(data).decode()}"


def _packed(values: Tensor) -> dict[str, Any]:
    """
    A table of numbers as little-endian floats in base64.

    Raises:
        InvalidArgumentError: if one is not finite.
    """
    array = values.detach().cpu().double().numpy()
    if not np.isfinite(array).all():
        raise InvalidArgumentError(
            "explanations", "finite attributions", "NaN or infinity"
        )
    bits = 32 if array.size <= _EXACT else 16
    scale = float(np.abs(array).max(initial=0.0)) or 1.0
    data = (array / scale).astype(f"<f{bits // 8}").tobytes()
    return {"bits": bits, "scale": scale, "data": base64.b64encode(data).decode()}


# ---- words -----------------------------------------------------------------


def _facts(explanation: PairLike) -> Iterator[tuple[str, str]]:
    yield "Model", explanation.model
    yield "Method", method_name(explanation.method)
    sides = explanation.first, explanation.second
    for name, side in zip(explanation.side_names, sides):
        yield f"Path of {name}", f"attributed at the {path(side, explanation.method)}"
    yield from _exactness(explanation)


def _exactness(explanation: PairLike) -> Iterator[tuple[str, str]]:
    """How far the parts are the score, and of a late interaction how far the score goes
    along with them."""
    if found := completeness(explanation):
        yield "Completeness", typeset(found)
    if explanation.maxsim is not None:
        said = explanation.maxsim.in_words(explanation.side_names)
        yield "MaxSim", typeset(capitalized("; ".join(said)))


def _contrast_facts(contrast: ContrastLike) -> Iterator[tuple[str, str]]:
    own = dict(_exactness(contrast.preferred))
    yield from (fact for fact in _facts(contrast.preferred) if fact[0] not in own)
    pairs = ("preferred", contrast.preferred), ("other", contrast.other)
    for which, explanation in pairs:
        for name, said in _exactness(explanation):
            yield f"{name}, {which}", said
