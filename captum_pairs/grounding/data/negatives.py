"""Hard negatives: SugarCrepe, FOIL, HNC and Winoground."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data.differences import changed_between
from captum_pairs.grounding.data.files import (
    existing,
    field_of,
    found_image,
    read_json,
    wrong,
)
from captum_pairs.grounding.data.row import Data, LeftOut, Row, Span, Thing
from captum_pairs.grounding.data.tables import image_in, opened
from captum_pairs.grounding.data.words import plurals_of

__all__ = ["Foil", "Hnc", "SugarCrepe", "Winoground"]


class _Rows(Data):
    """Rows that are made at once, but for their images."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name, self.options, self.left_out = name, options, LeftOut()
        self._rows: list[Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, place: int) -> Row:
        return self._rows[place]

    def _add(self, row: Row, where: str) -> None:
        if row.negative is not None and row.changed is None:
            self.left_out.add(where, "a negative of the same words as the caption")
        else:
            self._rows.append(row)


def _images(images: Optional[str]) -> Path:
    if images is None:
        expected = "the directory of the images (--images)"
        raise InvalidArgumentError("images", expected, "none")
    return existing(images, "a directory of images")


class SugarCrepe(_Rows):
    """
    SugarCrepe: seven files, one of each kind of change.

    Args:
        rest: the directory of ``add_att.json``, ``replace_obj.json`` and so on, or one
            of these files.
        images: COCO's val2017.
    """

    def __init__(self, rest: str, images: Optional[str] = None) -> None:
        super().__init__(f"sugarcrepe:{rest}", {"images": images})
        folder = _images(images)
        place = existing(rest, "SugarCrepe's files")
        files = [place] if place.is_file() else sorted(place.glob("*_*.json"))
        if not files:
            raise wrong(
                place, "", "add_att.json, replace_obj.json, ...", "none of them"
            )
        for file in files:
            content = read_json(file, "a file of SugarCrepe")
            if not isinstance(content, dict):
                raise wrong(file, "", 'an object {"0": ...}', content)
            for key, each in content.items():
                caption = field_of(each, "caption", str, file, key)
                negative = field_of(each, "negative_caption", str, file, key)
                name = field_of(each, "filename", str, file, key)
                row = Row(
                    f"{file.stem}-{key}",
                    str(found_image(folder, name)),
                    caption,
                    negative=negative,
                    changed=changed_between(file.stem, caption, negative),
                    group=name,
                )
                self._add(row, row.id)


class Foil(_Rows):
    """
    FOIL-COCO: captions in which a noun was exchanged for one of another object.

    Args:
        rest: ``foilv1.0_test_2017.json`` or ``foilv1.0_train_2017.json``.
        images: COCO's val2014 or train2014, or the directory of both.
    """

    def __init__(self, rest: str, images: Optional[str] = None) -> None:
        super().__init__(f"foil:{rest}", {"images": images})
        folder = _images(images)
        file = existing(rest, "FOIL's annotations")
        content = read_json(file, "FOIL's annotations")
        names = {
            field_of(each, "id", int, file, f"images[{at}]"): field_of(
                each, "file_name", str, file, f"images[{at}]"
            )
            for at, each in enumerate(field_of(content, "images", list, file, ""))
        }
        true: dict[int, str] = {}
        false: list[tuple[int, int, int, str, str]] = []
        for at, each in enumerate(field_of(content, "annotations", list, file, "")):
            where = f"annotations[{at}]"
            number = field_of(each, "id", int, file, where)
            image = field_of(each, "image_id", int, file, where)
            caption = field_of(each, "caption", str, file, where)
            if image not in names:
                raise wrong(file, where, "an image that the file has", image)
            if not field_of(each, "foil", bool, file, where):
                true[number] = caption
            else:
                word = field_of(each, "target_word", str, file, where)
                false.append((at, number, image, caption, word))
        for at, number, image, negative, word in false:
            where = f"annotations[{at}]"
            if number not in true:
                self.left_out.add(where, "a foil without its caption")
                continue
            row = Row(
                f"{number}-{at}",
                str(found_image(folder, names[image])),
                true[number],
                negative=negative,
                changed=changed_between(word or "object", true[number], negative),
                group=f"{image}",
            )
            self._add(row, where)


class Hnc(_Rows):
    """
    HNC: captions from scene graphs, each with one in which a part was exchanged.

    A box's object is a span where the caption has its name once.

    Args:
        rest: ``hnc_clean_strict_test.json``, or another of its files.
        images: GQA's images (Visual Genome's).
    """

    def __init__(self, rest: str, images: Optional[str] = None) -> None:
        super().__init__(f"hnc:{rest}", {"images": images})
        folder = _images(images)
        file = existing(rest, "HNC's captions")
        content = read_json(file, "HNC's captions")
        if not isinstance(content, dict):
            raise wrong(file, "", "an object {image: {captions: ...}}", content)
        for image, each in content.items():
            # its files are published in both forms
            is_flat = isinstance(each, dict) and "captions" not in each
            captions = (
                each if is_flat else field_of(each, "captions", dict, file, f"{image}")
            )
            for row in self._of_image(file, folder, image, captions):
                self._add(row, row.id)

    def _of_image(
        self, file: Path, folder: Path, image: str, captions: Mapping[str, Any]
    ) -> Iterator[Row]:
        name = image if Path(image).suffix else f"{image}.jpg"
        for key, each in captions.items():
            where = f"{image}.captions.{key}"
            text = field_of(each, "caption", str, file, where)
            if field_of(each, "label", int, file, where):
                continue
            of = each.get("cpt_p_id")
            right = captions.get(f"{of}")
            if right is None or not right.get("label"):
                self.left_out.add(where, "a negative without its caption")
                continue
            caption = field_of(right, "caption", str, file, f"{image}.captions.{of}")
            kind = field_of(each, "type", str, file, where)
            objects = tuple(self._objects(file, f"{image}.captions.{of}", right))
            yield Row(
                f"{image}-{key}",
                str(folder / name),
                caption,
                tuple(_named(caption, objects)),
                text,
                changed_between(kind, caption, text),
                image,
                objects,
            )

    def _objects(
        self, file: Path, where: str, caption: Mapping[str, Any]
    ) -> Iterator[Thing]:
        boxes = caption.get("bboxes") or {}
        if not isinstance(boxes, Mapping):
            raise wrong(file, f"{where}.bboxes", "an object of boxes", boxes)
        for key, each in boxes.items():
            place = f"{where}.bboxes.{key}"
            name = field_of(each, "name", str, file, place)
            box = field_of(each, "bbox", dict, file, place)
            x, y, w, h = (field_of(box, edge, float, file, place) for edge in "xywh")
            if w > 0 and h > 0:
                yield Thing(name, ((float(x), float(y), float(x + w), float(y + h)),))
            else:
                self.left_out.add(place, "a box without area")


def _named(caption: str, objects: tuple[Thing, ...]) -> Iterator[Span]:
    """The objects whose name the caption has once, with all of that name's boxes."""
    for label in dict.fromkeys(thing.label for thing in objects):
        names = "|".join(re.escape(each) for each in (label, *plurals_of(label)))
        found = list(re.finditer(rf"(?<!\w)(?:{names})(?!\w)", caption, re.IGNORECASE))
        if len(found) == 1:
            regions = [
                r for thing in objects if thing.label == label for r in thing.regions
            ]
            yield Span(*found[0].span(), label, tuple(regions), found[0].span())


class Winoground(Data):
    """
    Winoground: two images and two captions of the same words; each image with its
    caption is a row, whose negative is the other caption.

    Args:
        rest: ``examples.jsonl``, a parquet file, a directory of such, or what
            ``Dataset.save_to_disk`` wrote.
        images: the directory of ``ex_0_img_0.png``; needed with examples.jsonl only.
        split: of a saved dataset of several, "test".
    """

    def __init__(
        self, rest: str, images: Optional[str] = None, split: Optional[str] = None
    ) -> None:
        self.name = f"winoground:{rest}"
        self.options = {"images": images, "split": split}
        self.left_out = LeftOut()
        self._table = table = opened(rest, split)
        table.check("image_0", "image_1", "caption_0", "caption_1")
        self._folder = table.file.parent if images is None else _images(images)

    def __len__(self) -> int:
        return 2 * self._table.number

    def row(self, place: int) -> Row:
        at, which = divmod(place, 2)
        item, where = self._table.at(at), self._table.line(at)
        captions = [
            field_of(item, f"caption_{side}", str, self._table.file, where)
            for side in (0, 1)
        ]
        caption, negative = captions[which], captions[1 - which]
        image = item.get(f"image_{which}")
        if isinstance(image, str) and not Path(image).suffix:
            image = f"{image}.png"
        kind = item.get("collapsed_tag") or item.get("tag") or "unknown"
        name = item.get("id", at)
        return Row(
            f"{name}-{which}",
            image_in(self._table, at, image, self._folder),
            caption,
            negative=negative,
            changed=changed_between(str(kind), caption, negative),
            group=f"{name}",
        )
