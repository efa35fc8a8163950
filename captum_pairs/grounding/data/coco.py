"""
COCO: instances and captions, with or without Karpathy's split; and LVIS on its images.

A caption's spans are the places where it names a class (see
:mod:`captum_pairs.grounding.data.words`) that has instances in the image: all of them,
since which one is meant is not known. Crowds count only where there is nothing else.
"""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data.files import (
    box_of_corner_and_size,
    existing,
    field_of,
    found_image,
    read_json,
    wrong,
)
from captum_pairs.grounding.data.row import Box, Data, LeftOut, Region, Row, Span, Thing
from captum_pairs.grounding.data.words import Names, SYNONYMS

__all__ = ["Coco", "Lvis"]


class _Instance(NamedTuple):
    label: str
    box: Box
    is_crowd: bool
    annotation: Mapping[str, Any]


class _Caption(NamedTuple):
    id: str
    image: int
    text: str


class Coco(Data):
    """
    A row for each caption that names a class of which the image has an instance.

    Args:
        rest: the directory of the annotations: ``instances_NAME.json`` and
            ``captions_NAME.json``, as they are published, or ``instances.json`` and
            ``captions.json``.
        images: the directory of the images, or that of ``train2014`` and ``val2014``.
        name: of the annotations ("val2017"), if there are several; default: the images'
            directory's; with a Karpathy split all.
        split: "karpathy:val" (or train, restval, test): only these images, with the
            captions that ``dataset_coco.json`` has.
        karpathy: that file; default: in the annotations' directory.
        masks: regions are masks instead of boxes; needs pycocotools.
        single: only classes that are named in the singular and have one instance.
        all_captions: rows of captions that name nothing too, for studies that need no
            spans.
    """

    kind = "coco"

    def __init__(
        self,
        rest: str,
        images: Optional[str] = None,
        name: Optional[str] = None,
        split: Optional[str] = None,
        karpathy: Optional[str] = None,
        masks: bool = False,
        single: bool = False,
        all_captions: bool = False,
    ) -> None:
        self.name = f"{self.kind}:{rest}"
        self.options = {
            "images": images,
            "name": name,
            "split": split,
            "karpathy": karpathy,
            "masks": masks,
            "single": single,
            "all_captions": all_captions,
        }
        self.left_out = LeftOut()
        self.masks, self.single = masks, single
        if images is None:
            raise InvalidArgumentError(
                "images", "the directory of the images (--images)", "none"
            )
        self.images = existing(images, "a directory of images")
        folder = existing(rest, "the directory of COCO's annotations")
        if masks:
            _mask_library()
        chosen = self._annotations(folder, name, split is not None)
        self._files: dict[int, str] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._instances: dict[int, list[_Instance]] = defaultdict(list)
        labels: dict[int, str] = {}
        for file in self._instance_files(folder, chosen):
            labels |= self._read_instances(file)
        self._names = self._class_names(labels)
        if split is None:
            captions = list(_captions(folder, chosen))
        else:
            wanted = _split_asked_for(split)
            file = Path(karpathy or folder / "dataset_coco.json")
            captions = list(_karpathy(file, wanted))
        self._captions = [
            caption
            for caption in captions
            if self._is_known(caption) and self._is_used(caption, all_captions)
        ]

    # ---- what is read at once ----------------------------------------------

    def _annotations(
        self, folder: Path, name: Optional[str], several: bool
    ) -> list[str]:
        """What stands after "instances" and "captions" in the files' names."""
        files = sorted(folder.glob("instances*.json"))
        endings = [file.stem.removeprefix("instances") for file in files]
        if name is not None:
            endings = [each for each in endings if each.lstrip("_") == name]
        elif len(endings) > 1 and not several:
            endings = [e for e in endings if e.lstrip("_") == self.images.name]
        if not endings:
            names = ", ".join(file.name for file in files) or "no instances*.json"
            expected = "instances_NAME.json for the name that is asked for"
            if name is None and len(files) > 1:
                expected = (
                    "a name (--data-option name=val2017), since there are several"
                )
            raise wrong(folder, "", expected, names)
        return endings

    def _instance_files(self, folder: Path, chosen: list[str]) -> list[Path]:
        return [folder / f"instances{ending}.json" for ending in chosen]

    def _read_instances(self, file: Path) -> dict[int, str]:
        content = read_json(file, "COCO's instances")
        labels = {}
        for at, each in enumerate(field_of(content, "categories", list, file, "")):
            where = f"categories[{at}]"
            number = field_of(each, "id", int, file, where)
            labels[number] = field_of(each, "name", str, file, where)
            self._read_category(number, each)
        for at, each in enumerate(field_of(content, "images", list, file, "")):
            where = f"images[{at}]"
            number = field_of(each, "id", int, file, where)
            self._files[number] = self._file_name(each, file, where)
            self._sizes[number] = (
                field_of(each, "height", int, file, where),
                field_of(each, "width", int, file, where),
            )
            self._read_image(number, each)
        for at, each in enumerate(field_of(content, "annotations", list, file, "")):
            where = f"annotations[{at}]"
            number = field_of(each, "image_id", int, file, where)
            category = field_of(each, "category_id", int, file, where)
            if category not in labels:
                raise wrong(file, where, "a category that the file has", category)
            if number not in self._files:
                raise wrong(file, where, "an image that the file has", number)
            box = box_of_corner_and_size(each.get("bbox"), file, f"{where}.bbox")
            if not (box[0] < box[2] and box[1] < box[3]):
                self.left_out.add(f"annotation {each.get('id')}", "a box without area")
                continue
            crowd = bool(each.get("iscrowd", 0))
            kept = each if self.masks else {}
            found = _Instance(labels[category], box, crowd, kept)
            self._instances[number].append(found)
        return labels

    def _file_name(self, image: Any, file: Path, where: str) -> str:
        name: str = field_of(image, "file_name", str, file, where)
        return name

    def _read_image(self, number: int, image: Mapping[str, Any]) -> None:
        """What else an image's entry says."""

    def _read_category(self, number: int, category: Mapping[str, Any]) -> None:
        """What else a category's entry says."""

    def _is_known(self, caption: _Caption) -> bool:
        """Whether it belongs to the data at all."""
        return True

    def _class_names(self, labels: Mapping[int, str]) -> Names:
        return Names(labels.values(), SYNONYMS)

    def _is_used(self, caption: _Caption, all_captions: bool) -> bool:
        reason = ""
        if not caption.text.strip():
            reason = "an empty caption"
        elif caption.image not in self._files:
            reason = "a caption of an image without instances' entry"
        elif not all_captions:
            reason = self._why_without_spans(caption)
        if reason:
            self.left_out.add(caption.id, reason)
        return not reason

    def _why_without_spans(self, caption: _Caption) -> str:
        mentions = list(self._names.find(caption.text))
        if not mentions:
            return "a caption that names no class"
        if not any(True for _ in self._spans(caption, as_boxes=True)):
            return "a caption whose classes have no instance that can be used"
        return ""

    # ---- rows --------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._captions)

    def row(self, place: int) -> Row:
        caption = self._captions[place]
        objects = tuple(
            Thing(each.label, (self._region(caption.image, each),))
            for each in self._instances[caption.image]
            if not each.is_crowd
        )
        return Row(
            caption.id,
            str(found_image(self.images, self._files[caption.image])),
            caption.text,
            tuple(self._spans(caption)),
            group=f"{caption.image}",
            objects=objects,
        )

    def _spans(self, caption: _Caption, as_boxes: bool = False) -> Iterator[Span]:
        for mention in self._names.find(caption.text):
            there = self._of_class(caption.image, mention.label)
            if self.single and (mention.is_plural or len(there) != 1):
                continue
            if there:
                regions = tuple(
                    each.box if as_boxes else self._region(caption.image, each)
                    for each in there
                )
                place = (mention.start, mention.end)
                yield Span(*place, mention.label, regions, place)

    def _of_class(self, image: int, label: str) -> list[_Instance]:
        there = [each for each in self._instances[image] if each.label == label]
        return [each for each in there if not each.is_crowd] or there

    def _region(self, image: int, instance: _Instance) -> Region:
        if not self.masks:
            return instance.box
        segmentation = instance.annotation.get("segmentation")
        mask = _decoded(segmentation, self._sizes[image])
        # a mask too thin to have a pixel, or none at all: the box has its place
        return mask if mask is not None and mask.any() else instance.box


class Lvis(Coco):
    """
    LVIS's classes on COCO's images, with COCO's captions.

    LVIS marks every instance of a class only where it does not list the class as not
    exhaustive for the image: a mention of such a class is no span. A class that an
    image does not list as negative may be there unmarked.

    Args:
        rest: the directory of ``lvis_v1_NAME.json`` and of COCO's ``captions_*.json``
            (an image of LVIS's validation may be one of COCO's training).
        images: the directory of the images, or that of ``train2017`` and ``val2017``.
        name: "val" or "train", if both are there.
        masks, single, all_captions: as of :class:`Coco`.
    """

    kind = "lvis"

    def __init__(
        self,
        rest: str,
        images: Optional[str] = None,
        name: Optional[str] = None,
        masks: bool = False,
        single: bool = False,
        all_captions: bool = False,
    ) -> None:
        self._synonyms: dict[str, tuple[str, ...]] = {}
        self._partly: dict[int, frozenset[int]] = {}
        self._numbers: dict[str, int] = {}
        super().__init__(
            rest, images, name, masks=masks, single=single, all_captions=all_captions
        )
        del self.options["split"], self.options["karpathy"]

    def _annotations(
        self, folder: Path, name: Optional[str], several: bool
    ) -> list[str]:
        files = sorted(folder.glob("lvis_v1_*.json"))
        names = [file.stem.removeprefix("lvis_v1_") for file in files]
        chosen = [each for each in names if name in (None, each)]
        if len(chosen) != 1:
            raise wrong(
                folder,
                "",
                "one lvis_v1_NAME.json, or a name (--data-option name=val)",
                ", ".join(file.name for file in files) or "none",
            )
        self._file = files[names.index(chosen[0])]
        endings = sorted(
            f.stem.removeprefix("captions") for f in folder.glob("captions*.json")
        )
        if not endings:
            raise wrong(folder, "", "COCO's captions_*.json", "none")
        return endings

    def _instance_files(self, folder: Path, chosen: list[str]) -> list[Path]:
        return [self._file]

    def _file_name(self, image: Any, file: Path, where: str) -> str:
        url: str = field_of(image, "coco_url", str, file, where)
        return "/".join(url.split("/")[-2:])

    def _read_image(self, number: int, image: Mapping[str, Any]) -> None:
        self._partly[number] = frozenset(image.get("not_exhaustive_category_ids", ()))

    def _read_category(self, number: int, category: Mapping[str, Any]) -> None:
        label = category["name"]
        self._numbers[label] = number
        others = [str(each).replace("_", " ") for each in category.get("synonyms", ())]
        # a name in brackets tells senses apart that a caption does not
        self._synonyms[label] = tuple(o.lower() for o in others if "(" not in o)

    def _class_names(self, labels: Mapping[int, str]) -> Names:
        return Names(labels.values(), self._synonyms)

    def _is_known(self, caption: _Caption) -> bool:
        return caption.image in self._files  # most of COCO's are not in one of LVIS's

    def _of_class(self, image: int, label: str) -> list[_Instance]:
        if self._numbers[label] in self._partly[image]:
            return []
        return super()._of_class(image, label)


# ---- captions ----------------------------------------------------------------


def _captions(folder: Path, endings: list[str]) -> Iterator[_Caption]:
    for ending in endings:
        file = folder / f"captions{ending}.json"
        content = read_json(file, "COCO's captions")
        for at, each in enumerate(field_of(content, "annotations", list, file, "")):
            where = f"annotations[{at}]"
            number = field_of(each, "id", int, file, where)
            yield _Caption(
                f"{number}",
                field_of(each, "image_id", int, file, where),
                field_of(each, "caption", str, file, where),
            )


def _split_asked_for(split: str) -> str:
    kind, _, part = split.partition(":")
    if kind != "karpathy" or part not in ("train", "restval", "val", "test"):
        raise InvalidArgumentError(
            "split", "karpathy:train, restval, val or test", repr(split)
        )
    return part


def _karpathy(file: Path, part: str) -> Iterator[_Caption]:
    content = read_json(file, "Karpathy's dataset_coco.json")
    for at, each in enumerate(field_of(content, "images", list, file, "")):
        where = f"images[{at}]"
        if field_of(each, "split", str, file, where) != part:
            continue
        image = field_of(each, "cocoid", int, file, where)
        for of, sentence in enumerate(field_of(each, "sentences", list, file, where)):
            place = f"{where}.sentences[{of}]"
            yield _Caption(
                f"{field_of(sentence, 'sentid', int, file, place)}",
                image,
                field_of(sentence, "raw", str, file, place),
            )


# ---- masks -------------------------------------------------------------------


def _mask_library() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InvalidArgumentError(
            "masks",
            'an installation with pycocotools (pip install "captum-pairs[data]")',
            "none",
        ) from error
    return mask


def _decoded(
    segmentation: Any, size: tuple[int, int]
) -> Optional[np.ndarray[Any, Any]]:
    """Polygons, or run lengths as lists or compressed, to (h, w) of bool."""
    library = _mask_library()
    if isinstance(segmentation, list) and segmentation:
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not polygons:
            return None
        runs = library.merge(library.frPyObjects(polygons, *size))
    elif isinstance(segmentation, Mapping) and isinstance(segmentation["counts"], list):
        runs = library.frPyObjects(dict(segmentation), *size)
    elif isinstance(segmentation, Mapping):
        runs = dict(segmentation)
    else:
        return None
    with warnings.catch_warnings():
        # it makes arrays as NumPy 1 did
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(library.decode(runs)).astype(bool)
