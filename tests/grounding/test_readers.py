"""Each data set's own format, as small as it can be; and files that are not in it."""

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data import open_data
from captum_pairs.grounding.data.differences import changed_between
from captum_pairs.grounding.data.own import row_of
from captum_pairs.grounding.data.refcoco import COCO_CLASSES
from captum_pairs.grounding.data.row import Row
from captum_pairs.grounding.data.words import Names, plurals_of, SYNONYMS
from captum_pairs.grounding.training import class_counts
from captum_pairs.scenes import visible_shares
from PIL import Image

COCO = Path(__file__).parents[3] / "shared" / "data" / "coco-free"
CAPTION = "A man and two dogs near a hot dog stand."


def _write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    is_text = isinstance(content, str)
    path.write_text(content if is_text else json.dumps(content), encoding="utf-8")
    return path


def _phrases(row: Row) -> list[tuple[str, str]]:
    return [(row.caption[span.start : span.end], span.label) for span in row.spans]


def _words(row: Row) -> tuple[str | None, str | None]:
    assert row.changed is not None and row.negative is not None
    right, wrong = row.changed.right, row.changed.wrong
    return (
        None if right is None else row.caption[slice(*right)],
        None if wrong is None else row.negative[slice(*wrong)],
    )


# ---- scenes ------------------------------------------------------------------


def test_scenes_have_their_truth() -> None:
    data = open_data("scenes:20", seed=5)
    assert len(data) == 20 and len(list(data)) == 20
    row = data[3]
    same = open_data("scenes:1000", seed=5)[3]
    assert row.caption == same.caption and np.array_equal(row.image, same.image)
    assert row.caption != open_data("scenes:20", seed=6)[3].caption
    for row in data:
        assert row.spans and all(span.word is not None for span in row.spans)
        for span in row.spans:
            phrase = row.caption[span.start : span.end]
            assert phrase.split()[1] == span.label == row.caption[slice(*span.word)]
            assert (span.label, span.regions) in [tuple(o) for o in row.objects]
        if row.negative is not None:
            right, wrong = _words(row)
            assert right != wrong
            assert row.negative.replace(str(wrong), "?") != row.caption


def test_scenes_with_one_object_covered() -> None:
    data = open_data("scenes:12", covered=True, masks=True)
    for place, row in enumerate(data):
        scene, _ = data.scene(place)  # type: ignore[attr-defined]
        shares = visible_shares(scene)
        assert 0.15 <= shares.min() <= 0.45 and (shares < 0.5).sum() == 1
        for span in row.spans:
            assert span.regions[0].shape == (64, 64)
    assert any(span.visible < 0.5 for row in data for span in row.spans)


# ---- COCO --------------------------------------------------------------------


def _coco(folder: Path) -> Path:
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 10, 20]},
        {"id": 2, "image_id": 7, "category_id": 18, "bbox": [10, 0, 5, 5]},
        {"id": 3, "image_id": 7, "category_id": 18, "bbox": [20, 5, 5, 5]},
        {
            "id": 4,
            "image_id": 7,
            "category_id": 18,
            "bbox": [0, 0, 30, 20],
            "iscrowd": 1,
        },
        {"id": 5, "image_id": 7, "category_id": 18, "bbox": [0, 0, 0, 5]},
    ]
    for each in annotations:
        x, y, w, h = each["bbox"]
        corners = [x, y, x + w, y, x + w, y + h, x, y + h]
        each |= {"iscrowd": each.get("iscrowd", 0), "segmentation": [corners]}
    annotations[3]["segmentation"] = {"counts": [0, 600], "size": [20, 30]}
    _write(
        folder / "annotations" / "instances_val2017.json",
        {
            "images": [
                {"id": 7, "file_name": "000000000007.jpg", "height": 20, "width": 30}
            ],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
        },
    )
    captions = [CAPTION, "Nothing to see.", "A person alone.", "A cat."]
    _write(
        folder / "annotations" / "captions_val2017.json",
        {
            "annotations": [
                {"id": 100 + at, "image_id": 7, "caption": caption}
                for at, caption in enumerate(captions)
            ]
        },
    )
    (folder / "val2017").mkdir()
    Image.new("RGB", (30, 20)).save(folder / "val2017" / "000000000007.jpg")
    return folder


def test_coco(tmp_path: Path) -> None:
    folder = _coco(tmp_path)
    data = open_data(f"coco:{folder}/annotations", images=str(folder / "val2017"))
    assert len(data) == 2
    first, second = data
    # "hot dog" names no dog
    assert _phrases(first) == [("man", "person"), ("dogs", "dog")]
    assert first.spans[1].regions == ((10, 0, 15, 5), (20, 5, 25, 10))
    assert first.id == "100" and first.group == second.group == "7"
    assert Path(first.image).is_file() and len(first.objects) == 3
    assert data.left_out.counts == {
        "a caption that names no class": 2,
        "a box without area": 1,
    }
    assert data.left_out.examples["a box without area"] == ["annotation 5"]
    options = {"images": str(folder / "val2017")}
    single = open_data(f"coco:{folder}/annotations", single=True, **options)
    assert _phrases(single[0]) == [("man", "person")]
    everything = open_data(f"coco:{folder}/annotations", all_captions=True, **options)
    assert len(everything) == 4


def test_masks_of_coco(tmp_path: Path) -> None:
    pytest.importorskip(
        "pycocotools", reason="an extra: pip install captum-pairs[data]"
    )
    folder = _coco(tmp_path)
    given = {"images": str(folder / "val2017"), "masks": True}
    row = open_data(f"coco:{folder}/annotations", **given)[0]
    mask = row.spans[0].regions[0]
    expected = np.zeros((20, 30), dtype=bool)
    expected[0:20, 0:10] = True
    assert mask.shape == (20, 30) and (mask != expected).mean() < 0.05
    assert len(row.spans[1].regions) == 2


def test_karpathys_split(tmp_path: Path) -> None:
    folder = _coco(tmp_path)
    images = [
        {
            "cocoid": 7,
            "split": split,
            "filepath": "val2014",
            "filename": "COCO_val2014_000000000007.jpg",
            "sentences": [{"sentid": 900 + at, "raw": raw, "tokens": raw.split()}],
        }
        for at, (split, raw) in enumerate(
            (("val", "A puppy."), ("test", "A man."), ("val", "Sky."))
        )
    ]
    file = folder / "annotations" / "dataset_coco.json"
    _write(file, {"images": images, "dataset": "coco"})
    name, given = f"coco:{folder}/annotations", {"images": str(folder / "val2017")}
    (row,) = open_data(name, split="karpathy:val", **given)
    assert row.id == "900" and _phrases(row) == [("puppy", "dog")]
    with pytest.raises(InvalidArgumentError, match="split: expected karpathy:train"):
        open_data(name, split="val", **given)
    _write(file, {"images": [{"cocoid": 7}]})
    with pytest.raises(InvalidArgumentError, match=r"dataset_coco.json, images\[0\]"):
        open_data(name, split="karpathy:val", **given)


@pytest.mark.parametrize(
    "change, message",
    [
        ("{", "line 1: no JSON"),
        ({"images": []}, "a list as 'categories'"),
        ({"annotations": [{"image_id": 7}]}, r"'category_id'.*annotations\[0\]"),
        (
            {"annotations": [{"image_id": 8, "category_id": 1, "bbox": [0, 0, 1, 1]}]},
            "an image that the file has",
        ),
        (
            {"annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, "1"]}]},
            r"a box \[x, y, width, height\], got .*annotations\[0\].bbox",
        ),
    ],
)
def test_wrong_files_of_coco(tmp_path: Path, change: Any, message: str) -> None:
    folder = _coco(tmp_path)
    file = folder / "annotations" / "instances_val2017.json"
    whole = json.loads(file.read_text())
    if isinstance(change, dict):
        only_images = change == {"images": []}
        change = change if only_images else {**whole, **change}
    _write(file, change)
    with pytest.raises(InvalidArgumentError, match=f"(?s){message}"):
        open_data(f"coco:{folder}/annotations", images=str(folder / "val2017"))


def test_which_annotations_are_meant(tmp_path: Path) -> None:
    folder = _coco(tmp_path)
    annotations = folder / "annotations"
    for kind in ("instances", "captions"):
        text = (annotations / f"{kind}_val2017.json").read_text()
        _write(annotations / f"{kind}_train2017.json", text)
    name = f"coco:{annotations}"
    assert len(open_data(name, images=str(folder / "val2017"))) == 2
    with pytest.raises(InvalidArgumentError, match="since there are several"):
        open_data(name, images=str(folder))
    assert len(open_data(name, images=str(folder), name="val2017")) == 2
    with pytest.raises(InvalidArgumentError, match="images: expected the directory"):
        open_data(name)
    with pytest.raises(InvalidArgumentError, match="no such file"):
        open_data("coco:nowhere", images=str(folder))


@pytest.mark.skipif(not COCO.is_dir(), reason="without the free photos of COCO")
def test_photos_of_coco() -> None:
    data = open_data(f"coco:{COCO}", images=str(COCO / "images"))
    captions = json.loads((COCO / "captions.json").read_text())["annotations"]
    left_out = sum(
        number for reason, number in data.left_out.counts.items() if "caption" in reason
    )
    assert len(data) + left_out == len(captions) == 435
    assert len(data) > 350 and len({row.group for row in data}) > 80
    seen: dict[str, tuple[int, int]] = {}
    for row in data:
        if row.image not in seen:
            with Image.open(row.image) as opened:
                seen[row.image] = opened.size
        width, height = seen[row.image]
        for span in row.spans:
            for left, top, right, bottom in span.regions:
                assert -1 <= left < right <= width + 1 and -1 <= top < bottom
                assert bottom <= height + 1
    content = json.loads((COCO / "instances.json").read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    assert names == dict(COCO_CLASSES) and list(SYNONYMS) == list(names.values())
    masked = open_data(f"coco:{COCO}", images=str(COCO / "images"), masks=True)
    shapes = {np.shape(r) for row in masked[:12] for s in row.spans for r in s.regions}
    assert any(len(shape) == 2 for shape in shapes)


def test_lvis(tmp_path: Path) -> None:
    folder = _coco(tmp_path)
    file = folder / "annotations" / "lvis_v1_val.json"
    image = {
        "id": 7,
        "coco_url": "http://images.cocodataset.org/val2017/000000000007.jpg",
        "height": 20,
        "width": 30,
        "neg_category_ids": [2],
        "not_exhaustive_category_ids": [3],
    }
    categories = [
        {"id": 1, "name": "dog", "synonyms": ["dog", "domestic_dog"]},
        {"id": 2, "name": "bow_(weapon)", "synonyms": ["bow_(weapon)"]},
        {"id": 3, "name": "man", "synonyms": ["man"]},
        {"id": 4, "name": "bow_(ribbon)", "synonyms": ["bow_(ribbon)"]},
    ]
    boxes = {1: [10, 0, 5, 5], 3: [0, 0, 10, 20]}
    annotations = [
        {"id": at, "image_id": 7, "category_id": at, "bbox": box}
        for at, box in boxes.items()
    ]
    content = {"images": [image], "annotations": annotations, "categories": categories}
    _write(file, content)
    (row,) = open_data(f"lvis:{folder}/annotations", images=str(folder))
    # "man" is not marked wherever it is; "a person" and "a cat" are no classes of it
    assert _phrases(row) == [("dogs", "dog")] and row.spans[0].regions == (
        (10, 0, 15, 5),
    )
    assert row.image == str(folder / "val2017" / "000000000007.jpg")
    image["coco_url"] = 3
    _write(file, content)
    with pytest.raises(InvalidArgumentError, match=r"'coco_url'.*images\[0\]"):
        open_data(f"lvis:{folder}/annotations", images=str(folder))


# ---- words -------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Two men with a puppy", [("men", "person"), ("puppy", "dog")]),
        ("hot dogs and a hotdog", [("hot dogs", "hot dog"), ("hotdog", "hot dog")]),
        ("Teddy-bear, BUSES", [("Teddy-bear", "teddy bear"), ("BUSES", "bus")]),
        ("a train station", []),
        ("carpet, catalogue, busy", []),
        ("knives and mice", [("knives", "knife"), ("mice", "mouse")]),
        ("a baseball player", [("baseball player", "person")]),
        ("passenger jets", [("passenger jets", "airplane")]),
    ],
)
def test_where_captions_name_classes(text: str, expected: list[Any]) -> None:
    found = [(text[m.start : m.end], m.label) for m in Names(SYNONYMS).find(text)]
    assert found == expected


def test_plurals() -> None:
    written = ("dog", "bus", "cherry", "knife", "potato", "wine glass", "sheep", "boy")
    assert [plurals_of(each)[0] for each in written] == [
        "dogs",
        "buses",
        "cherries",
        "knives",
        "potatoes",
        "wine glasses",
        "sheep",
        "boys",
    ]


def test_what_two_classes_are_called_names_neither() -> None:
    names = Names(["bow_(weapon)", "bow_(ribbon)", "arrow"], {})
    assert [m.label for m in names.find("a bow and arrows")] == ["arrow"]


def test_counts_of_training_captions(tmp_path: Path) -> None:
    data = open_data("scenes:30")
    file = _write(tmp_path / "captions.txt", "a red circle\ntwo circles, a star\n\n")
    counts = class_counts(file, data)
    assert counts["circle"] == 2 and counts["star"] == 1 and counts["heart"] == 0
    written = {"dog": 3, "star": 2}  # some of other data
    assert class_counts(_write(tmp_path / "a.json", written), data) == written
    text = "class,n\ndog,3\nstar,2\n"
    assert class_counts(_write(tmp_path / "a.csv", text), data) == written
    for name, content, message in (
        ("b.json", {"dog": "many"}, "counts of classes"),
        ("b.csv", "class,n\ndog,many\n", "line 2"),
        ("c.json", {"Star": 3}, r"the data's classes \(circle, cross, .*json: Star"),
        ("c.csv", "class,n\n", "the data's classes .*csv: none"),
    ):
        with pytest.raises(InvalidArgumentError, match=f"trained_on: .*{message}"):
            class_counts(_write(tmp_path / name, content), data)
    with pytest.raises(InvalidArgumentError, match="trained_on: expected a file"):
        class_counts(tmp_path / "none.txt", data)


# ---- your own ----------------------------------------------------------------

OWN = [
    {
        "id": "a",
        "image": "a.png",
        "caption": "A brown dog and a cat.",
        "spans": [
            {
                "phrase": "brown dog",
                "word": "dog",
                "label": "dog",
                "boxes": [[1, 2, 3, 4]],
            }
        ],
        "negative": "A brown cow and a cat.",
        "changed": {"kind": "noun", "right": "dog", "wrong": "cow"},
        "group": "g",
    },
    {"id": "b", "image": "a.png", "caption": "Nothing."},
]


def _as_csv(file: Path, rows: list[dict[str, Any]]) -> None:
    names = list(OWN[0])
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, names)
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {
                    name: json.dumps(value) if name in ("spans", "changed") else value
                    for name, value in row.items()
                }
            )


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "dataset"])
def test_your_own(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"rows.{ending}"
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "a.png")
    if ending == "jsonl":
        _write(file, "\n\n".join(map(json.dumps, OWN)))
    elif ending == "csv":
        _as_csv(file, OWN)
    elif ending == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(OWN), file)
    else:
        datasets = pytest.importorskip("datasets", reason="an extra: [data]")
        datasets.Dataset.from_list(OWN).save_to_disk(file)
    data = open_data(f"rows:{file}", images=str(tmp_path))
    assert len(data) == 2 and not data.left_out.counts
    first, second = data
    assert _phrases(first) == [("brown dog", "dog")]
    assert first.spans[0].regions == ((1, 2, 3, 4),)
    assert first.caption[slice(*first.spans[0].word or (0, 0))] == "dog"
    assert _words(first) == ("dog", "cow") and first.group == "g"
    assert first.image == str(tmp_path / "a.png")
    assert second.spans == () and second.negative is None
    # another process has the same
    again = pickle.loads(pickle.dumps(data))
    assert [row.caption for row in again] == [each["caption"] for each in OWN]
    assert again[0].spans == first.spans and again[0].image == first.image


def test_images_in_a_table(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), (255, 0, 0)).save(tmp_path / "a.png")
    picture = (tmp_path / "a.png").read_bytes()
    rows = [
        {"photo": {"bytes": picture, "path": None}, "text": "A dog."},
        {"photo": {"bytes": b"no image", "path": None}, "text": "A cat."},
    ]
    file = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    columns = {"image": "photo", "caption": "text"}
    data = open_data(f"rows:{file}", columns=columns)
    assert data[0].image.size == (8, 6) and data[0].id == "0"
    with pytest.raises(InvalidArgumentError, match="rows.parquet, row 2"):
        data[1]
    with pytest.raises(InvalidArgumentError, match="a column 'image'"):
        open_data(f"rows:{file}")
    with pytest.raises(InvalidArgumentError, match="columns: expected fields"):
        open_data(f"rows:{file}", columns={"colour": "photo"})


def test_lines_that_are_no_rows_are_counted(tmp_path: Path) -> None:
    good = {"image": "a.png", "caption": "A dog."}
    span = {"label": "dog", "boxes": [[1, 2, 3, 4]]}
    lines = [
        good,
        {"image": "a.png"},
        {"caption": "A dog."},
        {**good, "spans": [{**span, "phrase": "cat"}]},
        {**good, "spans": [{"label": "dog", "phrase": "dog", "boxes": []}]},
        {**good, "spans": [{**span, "phrase": "dog", "boxes": [[3, 2, 1, 4]]}]},
        {**good, "id": "0"},
    ]
    file = _write(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, lines)))
    data = open_data(f"rows:{file}")
    assert len(data) == 1 and sum(data.left_out.counts.values()) == 6
    told = " ".join(each for of in data.left_out.examples.values() for each in of)
    for line in range(2, 8):
        assert f"line {line}" in told or line in (6,)
    _write(file, json.dumps(good) + "\n{")
    with pytest.raises(InvalidArgumentError, match="rows.jsonl, line 2: no JSON"):
        open_data(f"rows:{file}")
    with pytest.raises(InvalidArgumentError, match=r"ends in \.txt"):
        open_data(f"rows:{_write(tmp_path / 'rows.txt', '')}")


def test_rows_check_themselves() -> None:
    for fields, message in (
        ({"spans": ((0, 99, "a", ((0, 0, 1, 1),)),)}, r"spans\[0\]: expected a start"),
        ({"spans": ((0, 1, "a", ()),)}, "boxes or masks"),
        ({"spans": ((0, 1, "", ((0, 0, 1, 1),)),)}, "label: expected a text"),
        ({"spans": ((0, 1, "a", (np.zeros((2, 2), bool),)),)}, "not empty"),
        ({"changed": ("kind", None, None)}, "None without a negative"),
        ({"caption": ""}, "caption: expected a text"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            Row(**{"id": "a", "image": "a.png", "caption": "A dog.", **fields})
    plain = row_of({"id": 3, "image": "a.png", "caption": "A dog.", "spans": None})
    # rows of one image are not independent of one another
    assert plain.id == "3" and plain.group_or_id == "a.png"
    seen = row_of({"id": 3, "image": np.zeros((2, 2, 3)), "caption": "A dog."})
    assert seen.group_or_id == "3"


# ---- hard negatives ----------------------------------------------------------


@pytest.mark.parametrize(
    "caption, negative, right, wrong",
    [
        ("A red dog.", "A blue dog.", "red", "blue"),
        ("A dog.", "A big dog.", None, "big"),
        ("a cat on a mat", "a mat on a cat", "cat on a mat", "mat on a cat"),
        ("A dog", "A Dog.", None, None),
        ("a a b", "a b", "a", None),
    ],
)
def test_which_words_differ(
    caption: str, negative: str, right: str | None, wrong: str | None
) -> None:
    found = changed_between("kind", caption, negative)
    if right is None and wrong is None:
        assert found is None or negative[slice(*found.wrong or (0, 0))] == "."
        return
    assert found is not None
    assert right == (None if found.right is None else caption[slice(*found.right)])
    assert wrong == (None if found.wrong is None else negative[slice(*found.wrong)])


def test_sugarcrepe(tmp_path: Path) -> None:
    item = {
        "filename": "000000000007.jpg",
        "caption": "A man holding a dog.",
        "negative_caption": "A man holding a cat.",
    }
    same = {**item, "negative_caption": item["caption"]}
    _write(tmp_path / "sc" / "replace_obj.json", {"0": item, "1": same})
    added = {**item, "negative_caption": "A tall man holding a dog."}
    _write(tmp_path / "sc" / "add_att.json", {"0": added})
    (tmp_path / "val2017").mkdir()
    given = {"images": str(tmp_path / "val2017")}
    data = open_data(f"sugarcrepe:{tmp_path}/sc", **given)
    rows = {row.id: row for row in data}
    assert set(rows) == {"replace_obj-0", "add_att-0"}
    assert _words(rows["replace_obj-0"]) == ("dog", "cat")
    assert _words(rows["add_att-0"]) == (None, "tall")
    assert rows["add_att-0"].changed is not None
    assert rows["add_att-0"].changed.kind == "add_att"
    assert sum(data.left_out.counts.values()) == 1
    _write(tmp_path / "sc" / "swap_obj.json", {"0": {"filename": "a.jpg"}})
    with pytest.raises(InvalidArgumentError, match="'caption'.*swap_obj.json, 0"):
        open_data(f"sugarcrepe:{tmp_path}/sc", **given)


def test_foil(tmp_path: Path) -> None:
    shared = {"id": 55, "image_id": 7}
    original = {
        **shared,
        "caption": "A man holding a dog.",
        "foil": False,
        "foil_word": "ORIG",
        "target_word": "ORIG",
        "foil_id": 1,
    }
    foil = {
        **shared,
        "caption": "A man holding a cat.",
        "foil": True,
        "foil_word": "cat",
        "target_word": "dog",
        "foil_id": 2,
    }
    alone = {**foil, "id": 56}
    content = {
        "images": [{"id": 7, "file_name": "COCO_val2014_000000000007.jpg"}],
        "annotations": [foil, original, alone],
    }
    file = _write(tmp_path / "foil.json", content)
    data = open_data(f"foil:{file}", images=str(tmp_path))
    (row,) = data
    assert _words(row) == ("dog", "cat") and row.changed and row.changed.kind == "dog"
    assert data.left_out.counts == {"a foil without its caption": 1}
    foil["foil"] = "yes"
    _write(file, content)
    with pytest.raises(InvalidArgumentError, match=r"true or false.*annotations\[0\]"):
        open_data(f"foil:{file}", images=str(tmp_path))


def test_hnc(tmp_path: Path) -> None:
    def box(name: str, x: int, width: int = 10) -> dict[str, Any]:
        return {"bbox": {"x": x, "y": 2, "w": width, "h": 5}, "name": name}

    captions = {
        "0": {
            "caption": "The man is to the left of the dogs.",
            "label": 1,
            "type": "relation_pred",
            "bboxes": {"11": box("man", 0), "12": box("dog", 20), "13": box("x", 0, 0)},
        },
        "1": {
            "caption": "The man is to the right of the dogs.",
            "label": 0,
            "type": "relation_pred",
            "cpt_p_id": 0,
            "bboxes": None,
        },
        "2": {"caption": "A cat.", "label": 0, "type": "attribute", "cpt_p_id": 9},
    }
    file = _write(tmp_path / "hnc.json", {"2377985": {"captions": captions}})
    data = open_data(f"hnc:{file}", images=str(tmp_path))
    (row,) = data
    assert _phrases(row) == [("man", "man"), ("dogs", "dog")]
    assert row.spans[0].regions == ((0, 2, 10, 7),)
    assert _words(row) == ("left", "right") and row.group == "2377985"
    assert row.image == str(tmp_path / "2377985.jpg")
    assert data.left_out.counts == {
        "a negative without its caption": 1,
        "a box without area": 1,
    }
    # its files have captions with and without that name above them
    _write(file, {"2377985": captions})
    (flat,) = open_data(f"hnc:{file}", images=str(tmp_path))
    assert (flat.id, flat.caption, flat.spans) == (row.id, row.caption, row.spans)
    _write(file, {"2377985": {"captions": {"0": {"caption": "x"}}}})
    with pytest.raises(InvalidArgumentError, match="'label'.*2377985.captions.0"):
        open_data(f"hnc:{file}", images=str(tmp_path))


def test_winoground(tmp_path: Path) -> None:
    item = {
        "id": 4,
        "image_0": "ex_4_img_0",
        "image_1": "ex_4_img_1",
        "caption_0": "a dog on a cat",
        "caption_1": "a cat on a dog",
        "collapsed_tag": "Object",
    }
    file = _write(tmp_path / "examples.jsonl", json.dumps(item))
    first, second = open_data(f"winoground:{file}", images=str(tmp_path))
    assert (first.caption, first.negative) == (item["caption_0"], item["caption_1"])
    assert (second.caption, second.negative) == (item["caption_1"], item["caption_0"])
    assert second.image == str(tmp_path / "ex_4_img_1.png") and second.id == "4-1"
    assert first.changed is not None and first.changed.kind == "Object"
    _write(file, json.dumps({"id": 4}))
    with pytest.raises(InvalidArgumentError, match="a column 'image_0'"):
        open_data(f"winoground:{file}", images=str(tmp_path))


# ---- phrases and expressions -------------------------------------------------

SENTENCES = """\
[/EN#1/people Two dogs] chase [/EN#2/other a red ball] in [/EN#3/scene the park] .
[/EN#0/notvisual It] is [/EN#4/other windy] .
"""
XML = """<annotation><filename>36979.jpg</filename>
<size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>1</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>12</ymax>
</bndbox></object>
<object><name>1</name><name>2</name><bndbox><xmin>11</xmin><ymin>2</ymin><xmax>20</xmax>
<ymax>12</ymax></bndbox></object>
<object><name>3</name><scene>1</scene><nobndbox>0</nobndbox></object>
<object><name>4</name><scene>0</scene><nobndbox>1</nobndbox></object>
</annotation>"""


def _flickr(folder: Path, sentences: str = SENTENCES, xml: str = XML) -> dict[str, str]:
    _write(folder / "Sentences" / "36979.txt", sentences)
    _write(folder / "Annotations" / "36979.xml", xml)
    _write(folder / "test.txt", "36979\n1000\n")
    return {"images": str(folder)}


def test_flickr30k_entities(tmp_path: Path) -> None:
    data = open_data(f"flickr30k:{tmp_path}", **_flickr(tmp_path), split="test")
    (row,) = data
    assert row.caption == "Two dogs chase a red ball in the park ."
    assert _phrases(row) == [("Two dogs", "people"), ("a red ball", "other")]
    # from 1 and with the last pixel, to from 0 and without; a chain of two boxes
    assert row.spans[0].regions == ((0, 1, 10, 12), (10, 1, 20, 12))
    assert row.spans[1].regions == ((10, 1, 20, 12),)
    assert row.id == "36979-0" and row.group == "36979"
    assert data.left_out.counts == {
        "a phrase of the scene, which has no box": 1,
        "a phrase of what is not visual": 1,
        "a phrase without a box": 1,
        "a sentence of whose phrases none has a box": 1,
        "an image of the split without sentences": 1,
    }
    given = {"images": str(tmp_path), "all_captions": True}
    assert len(open_data(f"flickr30k:{tmp_path}", **given)) == 2


@pytest.mark.parametrize(
    "sentences, xml, message",
    [
        ("[/EN#1people Two dogs] run", XML, r"\[/EN#ID.*36979.txt, line 1"),
        (SENTENCES, "<annotation>", "36979.xml: no element|36979.xml"),
        (SENTENCES, XML.replace("<xmin>1<", "<xmin>one<"), "object 1: one"),
        (SENTENCES, XML.replace("<scene>1<", "<scene>0<"), "object 3: none of them"),
        (SENTENCES, XML.replace("<xmax>10<", "<xmax>0<"), "xmin <= xmax"),
    ],
)
def test_wrong_files_of_flickr30k(
    tmp_path: Path, sentences: str, xml: str, message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        open_data(f"flickr30k:{tmp_path}", **_flickr(tmp_path, sentences, xml))


def test_refcoco_as_the_hub_has_it(tmp_path: Path) -> None:
    name = "COCO_train2014_000000296747"
    Image.new("RGB", (9, 7)).save(tmp_path / "a.png")
    rows = [
        {
            "question_id": key,
            "image": {"bytes": (tmp_path / "a.png").read_bytes(), "path": None},
            "question": "Please carefully observe the area circled in the image.",
            "answer": answers,
            "segmentation": [1.0, 2.0, 4.0, 2.0, 4.0, 6.0],
            "bbox": [1.0, 2.0, 3.0, 4.0],
            "iscrowd": 0,
            "file_name": f"{name}_{at}.jpg",
        }
        for at, (key, answers) in enumerate(
            (("469306", ["left man"]), ("469307", ["dog"]), ("469306", ["big guy"]))
        )
    ]
    (tmp_path / "data").mkdir()
    for part, some in (
        ("val-00000-of-00002", rows[:2]),
        ("val-00001-of-00002", rows[2:]),
    ):
        table = pyarrow.Table.from_pylist(some)
        parquet.write_table(table, tmp_path / "data" / f"{part}.parquet")
    parquet.write_table(
        pyarrow.Table.from_pylist(rows[:1]), tmp_path / "data" / "testA-0.parquet"
    )
    data = open_data(f"refcoco:{tmp_path}", split="val")
    assert [row.caption for row in data] == ["left man", "dog", "big guy"]
    # one picture; and one object by several rows, each with an id of its own
    assert {row.group for row in data} == {f"{name}.jpg"}
    assert [row.id for row in data] == ["469306-0", "469307-0", "469306.2-0"]
    assert data[0].image.size == (9, 7)
    assert data[0].spans[0].regions == ((1, 2, 4, 6),)
    assert pickle.loads(pickle.dumps(data))[2].caption == "big guy"
    with pytest.raises(InvalidArgumentError, match="split: expected one of testA, val"):
        open_data(f"refcoco:{tmp_path}")


def test_refcoco_in_both_forms(tmp_path: Path) -> None:
    name = "COCO_train2014_000000000007"
    long = {
        "ref_id": 8,
        "image_id": 7,
        "category_id": 18,
        "file_name": f"{name}_16.jpg",
        "image_path": f"coco/train2014/{name}.jpg",
        "bbox": [1.0, 2.0, 4.0, 6.0],
        "raw_anns": json.dumps({"bbox": [1, 2, 3, 4]}),
        "sentences": [{"raw": "left dog", "sent": "left dog", "sent_id": 1}] * 2,
    }
    short = {
        "question_id": "9",
        "answer": ["the puppy", "thing on the left"],
        "bbox": [1.0, 2.0, 3.0, 4.0],
        "file_name": f"{name}_16.jpg",
    }
    for at, item in enumerate((long, short)):
        file = tmp_path / f"{at}.parquet"
        parquet.write_table(pyarrow.Table.from_pylist([item]), file)
        rows = list(open_data(f"refcoco:{file}", images=str(tmp_path)))
        assert len(rows) == 2 and len({row.id for row in rows}) == 2
        for row in rows:
            assert row.spans[0].regions == ((1, 2, 4, 6),)
            assert row.spans[0][:2] == (0, len(row.caption))
            assert row.image == str(tmp_path / f"{name}.jpg")
        assert rows[0].spans[0].label == "dog"
        word = rows[0].spans[0].word
        assert word is not None and rows[0].caption[slice(*word)] in ("dog", "puppy")
        assert rows[1].spans[0].label == ("dog", "object")[at]
    with pytest.raises(
        InvalidArgumentError, match="a pickle, which could run any code"
    ):
        open_data(f"refcoco:{_write(tmp_path / 'refs(unc).p', '')}")
    bad = tmp_path / "bad.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{**long, "raw_anns": "{"}]), bad)
    with pytest.raises(InvalidArgumentError, match="bad.parquet, row 1"):
        open_data(f"refcoco:{bad}")
