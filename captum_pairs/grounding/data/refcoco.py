"""RefCOCO, RefCOCO+ and RefCOCOg: an expression, and the one object that it means."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

from captum_pairs.grounding.data.files import (
    box_of_corner_and_size,
    existing,
    found_image,
    wrong,
)
from captum_pairs.grounding.data.row import Data, LeftOut, Row, Span, Thing
from captum_pairs.grounding.data.tables import image_in, opened
from captum_pairs.grounding.data.words import Names, SYNONYMS

__all__ = ["COCO_CLASSES", "RefCoco"]

# COCO's categories have ids up to 90, of which ten were never used.
_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_CLASSES: Mapping[int, str] = dict(
    zip((n for n in range(1, 91) if n not in _UNUSED), SYNONYMS)
)


class RefCoco(Data):
    """
    A row for each expression.

    The pickles that were published are never read, since a pickle can run any code:
    these are the same data as parquet or a saved dataset, in one of the two forms in
    use: with ``sentences``, ``raw_anns`` and ``category_id``, or with ``answer`` and
    ``bbox`` (x, y, width, height); the first form's ``bbox`` is not read, since it has
    edges.

    Args:
        rest: a parquet file, a directory of such, or what ``Dataset.save_to_disk``
            wrote.
        images: COCO's train2014, or the directory of it; not needed where rows have
            their images.
        split: of a saved dataset of several.
    """

    def __init__(
        self, rest: str, images: Optional[str] = None, split: Optional[str] = None
    ) -> None:
        self.name = f"refcoco:{rest}"
        self.options = {"images": images, "split": split}
        self.left_out = LeftOut()
        self._table = table = opened(rest, split)
        beside = table.file if table.file.is_dir() else table.file.parent
        self._folder = (
            beside if images is None else existing(images, "a directory of images")
        )
        self._names = Names(SYNONYMS)
        if "raw_anns" in table.columns:
            table.check("sentences", "category_id", "image_id")
        else:
            table.check("answer", "bbox")
        self._places = list(self._usable())

    def _usable(self) -> Iterator[tuple[int, int, str]]:
        """Places of rows in the file, of expressions in these, and their ids."""
        seen: Counter[str] = Counter()
        for place in range(self._table.number):
            item, where = self._table.at(place), self._table.line(place)
            box = self._box(item, where)
            key = str(item.get("ref_id", item.get("question_id", place)))
            seen[key] += 1
            # several rows may ask for one object, by other expressions
            key += f".{seen[key]}" if seen[key] > 1 else ""
            for which, text in enumerate(self._texts(item)):
                name = f"{self._table.file}, {where}, expression {which + 1}"
                if not text.strip():
                    self.left_out.add(name, "an empty expression")
                elif not (box[0] < box[2] and box[1] < box[3]):
                    self.left_out.add(name, "a box without area")
                else:
                    yield place, which, f"{key}-{which}"

    def _box(self, item: Mapping[str, Any], where: str) -> Any:
        file = self._table.file
        if "raw_anns" not in item:
            return box_of_corner_and_size(item["bbox"], file, f"{where}.bbox")
        try:
            annotation = json.loads(item["raw_anns"])
            found = annotation["bbox"]
        except (TypeError, ValueError, KeyError) as error:
            expected = 'an annotation with a "bbox", as JSON, in raw_anns'
            raise wrong(file, where, expected, item["raw_anns"]) from error
        return box_of_corner_and_size(found, file, f"{where}.raw_anns.bbox")

    def _texts(self, item: Mapping[str, Any]) -> list[str]:
        if "raw_anns" not in item:
            answers = item["answer"]
            return [answers] if isinstance(answers, str) else list(answers)
        sentences = item["sentences"]
        if isinstance(sentences, Mapping):  # a list of objects as lists of fields
            return list(sentences.get("raw") or sentences["sent"])
        return [each.get("raw") or each.get("sent") or "" for each in sentences]

    def __len__(self) -> int:
        return len(self._places)

    def row(self, place: int) -> Row:
        at, which, key = self._places[place]
        item, where = self._table.at(at), self._table.line(at)
        text = self._texts(item)[which]
        mentions = list(self._names.find(text))
        label = COCO_CLASSES.get(item.get("category_id") or 0)
        if label is None:
            label = mentions[0].label if mentions else "object"
        of_label = [mention for mention in mentions if mention.label == label]
        word = (of_label[0].start, of_label[0].end) if len(of_label) == 1 else None
        box = self._box(item, where)
        return Row(
            key,
            self._image(item, at),
            text,
            (Span(0, len(text), label, (box,), word),),
            group=f"{item.get('image_id') or _image_name(item) or at}",
            objects=(Thing(label, (box,)),),
        )

    def _image(self, item: Mapping[str, Any], at: int) -> Any:
        if item.get("image") is not None:
            return image_in(self._table, at, item["image"], self._folder)
        return str(found_image(self._folder, _image_name(item)))


def _image_name(item: Mapping[str, Any]) -> str:
    """An image's file; an expression's is named after its image and its annotation."""
    name = Path(str(item.get("image_path") or item.get("file_name") or "")).name
    return re.sub(r"(_\d{12})_\d+(\.\w+)$", r"\1\2", name)
