"""
Flickr30k Entities: five captions an image, whose phrases are linked to boxes.

A sentence's phrases are marked ``[/EN#ID/TYPE words]``; the XML file of the image has
the boxes of each id, VOC-like: from 1, the last pixel included. An id may have several
boxes; of a scene, or of what can't be seen, it has none.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional
from xml.etree import ElementTree

from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data.files import existing, read_text, wrong
from captum_pairs.grounding.data.row import Box, Data, LeftOut, Row, Span, Thing

__all__ = ["Flickr30k", "read_boxes", "read_sentence"]

_PHRASE = re.compile(r"\[/EN#(\d+)((?:/[^\s\]/]+)+) ([^\]]+)\]")
_NOT_VISUAL = "0"


class Phrase(NamedTuple):
    """Words of a sentence: half-open offsets, the id of what they name, its type."""

    start: int
    end: int
    id: str
    type: str


class Boxes(NamedTuple):
    """Of an image: by id the boxes; and the ids that have none, since they are the
    scene, or can't be seen."""

    boxes: dict[str, list[Box]]
    scenes: set[str]
    unseen: set[str]


class Flickr30k(Data):
    """
    A row for each sentence that names something with a box.

    Args:
        rest: the directory of ``Sentences`` and ``Annotations``.
        images: the directory of the photos.
        split: a file of images' ids, one a line, or its name beside these directories
            ("test" for ``test.txt``). Default: all
        all_captions: rows of sentences without boxes too, for studies that need none.
    """

    def __init__(
        self,
        rest: str,
        images: Optional[str] = None,
        split: Optional[str] = None,
        all_captions: bool = False,
    ) -> None:
        self.name = f"flickr30k:{rest}"
        self.options = {"images": images, "split": split, "all_captions": all_captions}
        self.left_out = LeftOut()
        if images is None:
            raise InvalidArgumentError(
                "images", "the directory of the photos (--images)", "none"
            )
        self._images = existing(images, "a directory of photos")
        self._folder = existing(rest, "the directory of Sentences and Annotations")
        sentences = existing(
            self._folder / "Sentences", "Flickr30k Entities' Sentences"
        )
        names = sorted(path.stem for path in sentences.glob("*.txt"))
        if split is not None:
            names = self._of_split(split, set(names))
        if not names:
            raise wrong(sentences, "", "IMAGE.txt, one a photo", "none")
        self._places: list[tuple[str, int]] = []
        self._sentences: dict[str, list[str]] = {}
        self._boxes: dict[str, Boxes] = {}
        for name in names:
            self._places += self._of_image(name, all_captions)

    def _of_split(self, split: str, there: set[str]) -> list[str]:
        file = Path(split)
        if not file.is_file():
            file = existing(
                self._folder / f"{split}.txt", "a split's images, one a line"
            )
        names = read_text(file, "a split's images, one a line").split()
        for name in names:
            if name not in there:
                self.left_out.add(name, "an image of the split without sentences")
        return [name for name in names if name in there]

    def _of_image(self, name: str, all_captions: bool) -> Iterator[tuple[str, int]]:
        file = self._folder / "Sentences" / f"{name}.txt"
        lines = read_text(file, "sentences, one a line").splitlines()
        self._sentences[name] = lines
        self._boxes[name] = read_boxes(self._folder / "Annotations" / f"{name}.xml")
        for at, line in enumerate(lines):
            where = f"{file}, line {at + 1}"
            if not line.strip():
                continue
            text, phrases = read_sentence(line, where)
            spans = list(self._spans(name, phrases, where))
            if spans or all_captions:
                yield name, at
            else:
                self.left_out.add(where, "a sentence of whose phrases none has a box")

    def _spans(
        self, name: str, phrases: list[Phrase], where: str = ""
    ) -> Iterator[Span]:
        known = self._boxes[name]
        for phrase in phrases:
            boxes = known.boxes.get(phrase.id)
            if boxes:
                yield Span(phrase.start, phrase.end, phrase.type, tuple(boxes))
            elif where:
                self.left_out.add(f"{where}, {phrase.id}", _why(phrase, known))

    def __len__(self) -> int:
        return len(self._places)

    def row(self, place: int) -> Row:
        name, at = self._places[place]
        text, phrases = read_sentence(self._sentences[name][at], name)
        types: dict[str, str] = {}
        for line in self._sentences[name]:
            for phrase in read_sentence(line, name)[1]:
                types.setdefault(phrase.id, phrase.type)
        objects = tuple(
            Thing(types.get(key, "other"), tuple(boxes))
            for key, boxes in self._boxes[name].boxes.items()
        )
        return Row(
            f"{name}-{at}",
            str(self._images / f"{name}.jpg"),
            text,
            tuple(self._spans(name, phrases)),
            group=name,
            objects=objects,
        )


def _why(phrase: Phrase, known: Boxes) -> str:
    if phrase.id == _NOT_VISUAL:
        return "a phrase of what is not visual"
    if phrase.id in known.scenes:
        return "a phrase of the scene, which has no box"
    return "a phrase without a box"


def read_sentence(line: str, where: str) -> tuple[str, list[Phrase]]:
    """
    A line of Sentences/IMAGE.txt.

    Returns:
        the sentence without its marks, and its phrases.

    Raises:
        InvalidArgumentError: naming `where`, if a mark is not as it should be.
    """
    text, phrases, last = "", [], 0
    for match in _PHRASE.finditer(line):
        text += line[last : match.start()]
        words = match[3].strip()
        start = len(text)
        text += words
        types = match[2].strip("/")
        phrases.append(Phrase(start, len(text), match[1], types))
        last = match.end()
    text += line[last:]
    if "[/EN" in text or not text.strip():
        raise wrong(where, "", "phrases as [/EN#ID/TYPE words]", line)
    blank = len(text) - len(text.lstrip())
    moved = [p._replace(start=p.start - blank, end=p.end - blank) for p in phrases]
    return text.strip(), moved


def read_boxes(file: Path) -> Boxes:
    """
    Annotations/IMAGE.xml.

    Raises:
        InvalidArgumentError: naming the file, the object and what was expected.
    """
    existing(file, "the boxes of an image")
    try:
        root = ElementTree.fromstring(file.read_bytes())
    except (ElementTree.ParseError, OSError) as error:
        raise wrong(file, "", "XML", str(error)) from error
    found = Boxes(defaultdict(list), set(), set())
    for at, item in enumerate(root.iter("object")):
        where = f"object {at + 1}"
        names = [(name.text or "").strip() for name in item.findall("name")]
        if not names or not all(names):
            raise wrong(file, where, "the ids of what it is, <name>", "none")
        box = item.find("bndbox")
        if box is not None:
            edges = _edges(box, file, where)
            for name in names:
                found.boxes[name].append(edges)
        elif (item.findtext("scene") or "0").strip() == "1":
            found.scenes.update(names)
        elif (item.findtext("nobndbox") or "0").strip() == "1":
            found.unseen.update(names)
        else:
            raise wrong(file, where, "<bndbox>, <scene> or <nobndbox>", "none of them")
    return found


def _edges(box: ElementTree.Element, file: Path, where: str) -> Box:
    edges = []
    for name in ("xmin", "ymin", "xmax", "ymax"):
        written = (box.findtext(name) or "").strip()
        try:
            edges.append(float(written))
        except ValueError as error:
            expected = f"a number in <{name}>"
            raise wrong(file, where, expected, written or "none") from error
    left, top, right, bottom = edges
    if not (left <= right and top <= bottom):
        expected = "xmin <= xmax and ymin <= ymax"
        raise wrong(file, where, expected, f"{left:g} {top:g} {right:g} {bottom:g}")
    # from 1 and with the last pixel, to from 0 and without
    return left - 1, top - 1, right, bottom
