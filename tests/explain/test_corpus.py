"""Contributions of a corpus: of these inputs in their order, of this content, under
these settings and weights; whatever else is in the directory, or happens meanwhile."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import Contributions, DualEncoder, from_functions, load
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.explain import content, corpus
from PIL import Image
from torch import nn

TEXTS = ["a red circle", "square", "red or not red"]


def photo(seed: int, width: int = 20) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (20, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> DualEncoder:
    return load(tiny_clip)


@pytest.fixture
def model(tiny_clip: Path) -> DualEncoder:
    """One that a test may change."""
    return load(tiny_clip)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        photo(number, 20 + 3 * number).save(path)
    return paths


def widths(kept: Contributions) -> list[float]:
    return [each.input.source.size[0] for each in kept]


class Count:
    """Prepares as an encoder does, and counts how often."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, encoder: Any) -> None:
        self.inputs: list[Any] = []
        prepare = type(encoder).prepare

        def counted(own: Any, raw: Any, baseline: Any = None) -> Any:
            self.inputs.append(raw)
            return prepare(own, raw, baseline)

        monkeypatch.setattr(type(encoder), "prepare", counted)


# ---- what was asked for, in the order asked for ------------------------------


def test_these_inputs_in_their_order(
    clip: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    clip.contributions(files[::-1], directory=kept)
    asked = [files[1], files[2], files[1]]
    found = clip.contributions(asked, directory=kept)
    assert found.keys == list(map(str, asked)) and widths(found) == [23, 26, 23]
    assert found[0].values is not found[2].values
    assert torch.equal(found.of(str(files[1])).values, found[2].values)
    assert widths(Contributions.load(kept)) == [26, 23, 20]
    assert len(found.embeddings) == 3
    # in memory as in a directory
    assert widths(clip.contributions(asked)) == [23, 26, 23]


def test_a_repaired_file_is_paired_with_its_own_caption(
    clip: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    good = files[0].read_bytes()
    files[0].write_text("no image")
    with pytest.warns(UserWarning, match="1 of 3 inputs"):
        found = clip.contributions(files, directory=tmp_path / "kept")
    assert found.keys == [str(path) for path in files[1:]]
    assert list(found.failed) == [str(files[0])]
    with pytest.raises(InvalidArgumentError, match=r"second: .* 2, got 3; .*0\.png"):
        clip.explain(found, TEXTS)
    with pytest.raises(InvalidArgumentError, match="key: .*which failed: .*not an im"):
        found.of(str(files[0]))
    left = clip.explain(found, TEXTS[1:])  # theirs were left out
    assert [each.first.source.size[0] for each in left] == [23, 26]
    files[0].write_bytes(good)
    found = clip.contributions(files, directory=tmp_path / "kept")
    pairs = clip.explain(found, TEXTS)
    for pair, path, text in zip(pairs, files, TEXTS):
        assert pair.score == pytest.approx(clip.explain(path, text).score, abs=1e-6)
    assert Contributions.load(tmp_path / "kept").failed == {}


def test_two_corpora_that_lack_different_ones_are_not_paired(
    clip: DualEncoder, files: list[Path]
) -> None:
    files[0].write_text("no image")
    with pytest.warns(UserWarning):
        images = clip.contributions(files)
        texts = clip.contributions([*TEXTS[:2], " "], side="second")
        alike = clip.contributions([" ", *TEXTS[:2]], side="second")
    assert len(images) == len(texts) == len(alike) == 2
    with pytest.raises(InvalidArgumentError, match=r"second: .*0\.png.*' '"):
        clip.explain(images, texts)
    assert len(clip.explain(images, alike)) == 2
    assert len(clip.explain(images[:], texts[:])) == 2  # as lists, they belong so


def test_when_all_failed_nothing_is_explained(clip: DualEncoder) -> None:
    with pytest.warns(UserWarning, match="1 of 1"):
        none = clip.contributions(["missing.png"])
    assert len(none) == 0 and none.error == 0 and none.embeddings.shape == (0, 0)
    for pair in [(none, "red"), (none, TEXTS)]:
        with pytest.raises(InvalidArgumentError, match="first: .*at least one.*failed"):
            clip.explain(*pair)


def test_what_is_wrong_with_all_of_them_is_no_broken_input(clip: DualEncoder) -> None:
    net = clip.first.module.vision_model.embeddings.patch_embedding
    with pytest.raises(InvalidArgumentError, match="absent|layer"):
        clip.contributions(
            [photo(0)] * 2, method="occlusion", absent="removed", layer=(net, None)
        )


@pytest.mark.parametrize(
    "alone",
    [
        "photo.png",
        b"photo.png",
        Path("photo.png"),
        photo(0),
        np.zeros((20, 20, 3), np.uint8),
        torch.zeros(3, 20, 20),
        {"a": "photo.png"},
        {"photo.png"},
        BytesIO(),
        None,
        3,
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_alone_is_refused(clip: DualEncoder, alone: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="^inputs: expected a list"):
        clip.contributions(alone)


def test_names_are_a_list(clip: DualEncoder) -> None:
    for keys in ("abc", 3):
        with pytest.raises(InvalidArgumentError, match="^keys: expected a list"):
            clip.contributions(TEXTS, keys=keys)
    for dtype in ("int8", None, ["float16"]):
        with pytest.raises(InvalidArgumentError, match="^dtype"):
            clip.contributions(TEXTS, dtype=dtype)
    for directory in (3, b"", ""):
        with pytest.raises(InvalidArgumentError, match="^directory"):
            clip.contributions(TEXTS, directory=directory)


def test_a_name_that_several_inputs_have(clip: DualEncoder, tmp_path: Path) -> None:
    for seed in range(2):
        clip.contributions([photo(seed)], directory=tmp_path)
    every = Contributions.load(tmp_path)
    assert every.keys == ["0", "0"]
    with pytest.raises(InvalidArgumentError, match="key: .*2 different ones"):
        every.of("0")


# ---- by content --------------------------------------------------------------


def test_an_overwritten_file_is_new(
    clip: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    """Also with its old time and size."""
    rng = np.random.default_rng(0)
    sizes = []
    for seed in range(2):
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        files[0].unlink()
        Image.fromarray(pixels).save(files[0], format="BMP")
        os.utime(files[0], (10**9, 10**9))
        found = clip.contributions([files[0]], directory=tmp_path / "kept")
        expected = clip.contributions([pixels])
        torch.testing.assert_close(found[0].values, expected[0].values)
        sizes.append(files[0].stat().st_size)
    assert sizes[0] == sizes[1] and len(Contributions.load(tmp_path / "kept")) == 2


def test_images_and_arrays_are_told_by_what_they_hold(
    clip: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = clip.contributions([photo(0, 20), photo(1, 23)], directory=tmp_path)
    assert widths(first) == [20, 23]
    count = Count(monkeypatch, clip.first)
    found = clip.contributions([photo(1, 23), photo(2, 26)], directory=tmp_path)
    assert widths(found) == [23, 26] and len(count.inputs) == 1
    array = np.asarray(photo(1, 23))
    clip.contributions([array, array.copy()], directory=tmp_path)
    clip.contributions([array], directory=tmp_path)
    assert len(count.inputs) == 2


def test_what_turns_pixels_into_colours_counts() -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    palette = grey.copy()
    palette.putpalette([7] * 768)
    other = grey.copy()
    other.putpalette([8] * 768)
    clear = palette.copy()
    clear.info["transparency"] = 3
    turned = grey.copy()
    turned.getexif()[0x0112] = 6
    wide = Image.frombytes("L", (16, 4), grey.tobytes())
    images = [grey, palette, other, clear, turned, wide, grey.convert("RGB")]
    assert len({content.content_of("image", image) for image in images}) == 7
    arrays: list[Any] = [
        np.zeros((2, 4)),
        np.zeros((4, 2)),
        np.zeros((2, 4), np.float32),
        torch.zeros(2, 4, dtype=torch.bfloat16),
        (torch.zeros(8), 16000),
        (torch.zeros(8), 8000),
    ]
    found = [content.content_of("audio", array) for array in arrays]
    assert len(set(found)) == 6 and None not in found
    strange = [3, None, {}, np.array([None]), "missing.wav", (1, 2), BytesIO]
    assert {content.content_of("audio", each) for each in strange} == {None}


def test_a_file_however_it_comes(files: list[Path]) -> None:
    data = files[0].read_bytes()
    stream = BytesIO(data)
    stream.seek(5)
    found = {content.content_of("image", raw) for raw in (files[0], data, stream)}
    assert len(found) == 1 and stream.tell() == 5
    stream.close()
    assert content.content_of("image", stream) is None


def test_a_file_that_did_not_change_is_not_read_again(
    clip: DualEncoder,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(content, "_RECENT", -100.0)
    clip.contributions(files, directory=tmp_path / "kept")
    read = []
    monkeypatch.setattr(corpus, "content_of", lambda *given: read.append(given))
    found = clip.contributions(files, directory=tmp_path / "kept")
    assert widths(found) == [20, 23, 26] and read == []


def test_a_file_that_was_written_just_now_is_read(files: list[Path]) -> None:
    assert content.stamp_of(files[0]) is None
    assert content.stamp_of(files[0].parent) is None
    assert content.stamp_of(Path("\0")) is None


def test_a_file_that_changes_meanwhile(
    clip: DualEncoder,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is kept of a content was computed of it."""
    before = files[1].read_bytes()
    others = [photo(8, 40), photo(9, 50)]
    prepare = clip.first.prepare

    def changing(raw: Any, baseline: Any = None) -> Any:
        found = prepare(raw, baseline)
        if raw == files[1] and others:
            others.pop().save(files[1])
        return found

    monkeypatch.setattr(type(clip.first), "prepare", lambda _, *given: changing(*given))
    found = clip.contributions(files, directory=tmp_path / "kept")
    assert widths(found) == [20, 40, 26] and not others
    files[1].write_bytes(before)
    found = clip.contributions(files, directory=tmp_path / "kept")
    assert widths(found) == [20, 23, 26]
    photo(8, 40).save(files[1])
    assert widths(clip.contributions(files, directory=tmp_path / "kept"))[1] == 40


# ---- settings and weights ----------------------------------------------------


def test_another_processor_has_another_store(
    model: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    found = model.contributions(files, directory=tmp_path / "kept")
    model.first.processor.image_mean = [0.1, 0.2, 0.3]
    with pytest.raises(InvalidArgumentError, match="directory: .*with encoder"):
        model.contributions(files, directory=tmp_path / "kept")
    with pytest.raises(InvalidArgumentError, match="contributions: .*processor"):
        model.explain(found[0], "red")


def change_by_data(weight: nn.Parameter) -> None:
    weight.data.view(-1)[3] += 0.5


def change_by_numpy(weight: nn.Parameter) -> None:
    weight.detach().numpy().reshape(-1)[3] += 0.5


def change_order(weight: nn.Parameter) -> None:
    numbers = weight.detach().numpy().reshape(-1)
    numbers[[3, 8]] = numbers[[8, 3]]


def train(weight: nn.Parameter) -> None:
    weight.requires_grad_()
    optimizer = torch.optim.SGD([weight], 0.1)
    ((weight - 3) ** 2).sum().backward()
    optimizer.step()


@pytest.mark.parametrize(
    "change", [change_by_data, change_by_numpy, change_order, train]
)
@pytest.mark.parametrize(
    "name", ["q_proj.weight", "layernorm.weight", "layernorm.bias"]
)
def test_weights_as_they_are_at_each_call(
    model: DualEncoder, tmp_path: Path, change: Any, name: str
) -> None:
    found = model.contributions(TEXTS, directory=tmp_path)
    before = model.fingerprint
    weights = dict(model.first.module.named_parameters())
    (weight, *_) = [weights[each] for each in weights if each.endswith(name)]
    if change is change_order:
        weight.data.view(-1)[3] += 1.0
        before = model.fingerprint
    change(weight)
    assert model.fingerprint != before
    with pytest.raises(InvalidArgumentError, match="directory: .*with model"):
        model.contributions(TEXTS, directory=tmp_path)
    with pytest.raises(InvalidArgumentError, match="those of another one"):
        model.explain(photo(0), found[0])


def test_every_number_of_a_large_weight_counts() -> None:
    net = nn.Linear(300, 100)  # more than one block of numbers, and a rest
    model = from_functions(net, net)
    before = model.fingerprint
    numbers = net.weight.detach().numpy().reshape(-1)
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(numbers), 40).tolist():
        kept = numbers[at]
        numbers[at] = np.nextafter(kept, np.float32(9))
        assert model.fingerprint != before
        numbers[at] = kept
        other = int(rng.integers(0, len(numbers)))
        numbers[[at, other]] = numbers[[other, at]]
        assert (model.fingerprint != before) == (numbers[at] != numbers[other])
        numbers[[at, other]] = numbers[[other, at]]
    assert model.fingerprint == before


def test_a_fingerprint_survives_copies_and_is_hashed_once(
    model: DualEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model.fingerprint
    calls = []
    hashed = type(model)._hashed
    monkeypatch.setattr(
        type(model), "_hashed", lambda *given: calls.append(1) or hashed(*given)
    )
    assert model.fingerprint == before and calls == []
    with model.as_it_is():
        assert model.fingerprint == before
        change_by_data(next(model.first.module.parameters()).view(-1).expand(9))
        assert model.fingerprint == before  # one call
    change_by_numpy(model.first.module.visual_projection.weight)
    assert model.fingerprint != before and calls == [1]


class Opaque(nn.Module):
    """With state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.state = nn.Linear(4, 4), {"a": 1}

    def get_extra_state(self) -> Any:
        return self.state

    def set_extra_state(self, state: Any) -> None:
        self.state = state

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.net(inputs)


def test_weights_of_any_kind() -> None:
    net = Opaque()
    model = from_functions(net, net)
    before = model.fingerprint
    net.state["a"] = 2
    assert model.fingerprint != before
    net.register_buffer("short", torch.zeros(3, dtype=torch.bfloat16))
    net.register_buffer("none", torch.zeros(0))
    net.register_buffer("sparse", torch.eye(3).to_sparse())
    before = model.fingerprint
    net.short[1] = 1
    assert model.fingerprint != before
    net.sparse = 2 * net.sparse
    assert len({model.fingerprint, before}) == 2


def test_what_identifies_plain_functions(tmp_path: Path) -> None:
    """Their code, what they close over, and the networks that they speak of."""

    def made(factor: float, net: Any = None) -> DualEncoder:
        def encode(inputs: torch.Tensor) -> torch.Tensor:
            return inputs * factor if net is None else net(inputs * factor)

        return from_functions(encode, encode, similarity="dot")

    inputs = [torch.arange(4.0), torch.ones(4)]
    one = made(2.0)
    one.contributions(inputs, directory=tmp_path)
    assert len(made(2.0).contributions(inputs, directory=tmp_path)) == 2
    with pytest.raises(InvalidArgumentError, match="with encoder"):
        made(3.0).contributions(inputs, directory=tmp_path)
    net = nn.Sequential(nn.Linear(4, 4))
    other = made(2.0, net)
    before = other.fingerprint
    net[0].weight.data += 1
    assert other.fingerprint != before


def test_a_description_does_not_change_with_use(tiny_clip: Path) -> None:
    one, other = load(tiny_clip), load(tiny_clip)
    one.explain(photo(0, 31), "a red circle")
    one.second.tokenizer(["a", "red circle"], padding=True, truncation=True)
    for mine, theirs in ((one.first, other.first), (one.second, other.second)):
        assert mine.describe() == theirs.describe()
    other.second.tokenizer.add_tokens(["blue"])
    assert one.second.describe() != other.second.describe()


# ---- what can't be read ------------------------------------------------------


def test_names_of_any_bytes(clip: DualEncoder, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    photo(0).save(path)
    broken = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    broken.write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of 2"):
        found = clip.contributions([path, broken], directory=tmp_path / "kept")
    every = Contributions.load(tmp_path / "kept")
    assert found.keys == every.keys == [str(path)]
    assert list(found.failed) == list(every.failed) == [str(broken)]
    assert torch.equal(every.of(str(path)).values, found[0].values)


def test_the_run_goes_on_after_whatever_a_reader_raises(
    clip: DualEncoder,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = [SyntaxError("no\nDDS"), RuntimeError(), MemoryError("large"), KeyError(1)]
    kinds = iter(errors)
    prepare = clip.first.prepare

    def reader(raw: Any, baseline: Any = None) -> Any:
        if raw in files:
            return prepare(raw, baseline)
        raise next(kinds)

    monkeypatch.setattr(clip.first, "prepare", reader)
    broken = [tmp_path / f"broken {number}" for number in range(4)]
    for number, path in enumerate(broken):
        path.write_text(str(number))
    with pytest.warns(UserWarning, match="4 of 7"):
        found = clip.contributions([*broken, *files], directory=tmp_path / "kept")
    assert widths(found) == [20, 23, 26]
    assert list(found.failed.values()) == [
        "SyntaxError: no",
        "RuntimeError: no reason given",
        "MemoryError: large",
        "KeyError: 1",
    ]


def test_strange_inputs_are_listed(clip: DualEncoder, tmp_path: Path) -> None:
    closed = photo(3)
    closed.close()
    corpus: list[Any] = [photo(0), None, closed, Image.new("RGB", (0, 0)), {}, tmp_path]
    corpus += [np.zeros((0, 3), np.uint8), "x" * 9999, "a\0b.png", photo(1, 23)]
    with pytest.warns(UserWarning, match="8 of 10"):
        found = clip.contributions(corpus, side="first", directory=tmp_path / "i")
    assert widths(found) == [20, 23] and len(found.failed) == 8
    texts = ["red", "\ud800", "", 3, "red " * 40, "circle"]
    with pytest.warns(UserWarning, match=r"[34] of 6"):
        found = clip.contributions(texts, side="second", directory=tmp_path / "t")
    assert {"red", "circle"} <= set(found.keys)
    assert {"", "3", "red " * 40} <= set(found.failed)


def test_failures_are_remembered_by_content(
    clip: DualEncoder,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files[1].write_text("no image")
    copy = tmp_path / "copy.png"
    copy.write_text("no image")
    missing = tmp_path / "missing.png"
    asked = [files[0], files[1], copy, missing]
    count = Count(monkeypatch, clip.first)
    with pytest.warns(UserWarning, match="3 of 4"):
        found = clip.contributions(asked, directory=tmp_path / "kept")
    assert set(found.failed) == {str(files[1]), str(copy), str(missing)}
    assert len(count.inputs) == 3  # the copy holds what failed already
    with pytest.warns(UserWarning, match="3 of 4"):
        again = clip.contributions(asked, directory=tmp_path / "kept")
    assert set(again.failed) == set(found.failed)
    assert count.inputs[3:] == [missing]
    files[1].write_text("no image either")
    with pytest.warns(UserWarning, match="3 of 4"):
        clip.contributions(asked, directory=tmp_path / "kept")
    assert count.inputs[4:] == [files[1], missing]
    listed = Contributions.load(tmp_path / "kept").failed
    assert {str(files[1]), str(missing)} <= set(listed)


# ---- the directory -----------------------------------------------------------


def test_a_complete_store_is_read_where_nothing_can_be_written(
    clip: DualEncoder,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip.contributions(files[:2], directory=tmp_path / "kept")
    before = sorted(os.listdir(tmp_path / "kept"))
    open_file = os.open

    def read_only(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(30, "Read-only file system")
        return open_file(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", read_only)
    asked = [files[1], files[0], tmp_path / "missing.png"]
    with pytest.warns(UserWarning, match="1 of 3"):
        found = clip.contributions(asked, directory=tmp_path / "kept")
    assert widths(found) == [23, 20] and len(found.failed) == 1
    computed = []
    monkeypatch.setattr(corpus, "stored", lambda *given: computed.append(given))
    for directory in ("kept", "new"):
        with pytest.raises(InvalidArgumentError, match="directory: .*written to.*Read"):
            clip.contributions(files, directory=tmp_path / directory)
    assert computed == [] and sorted(os.listdir(tmp_path / "kept")) == before


def test_a_directory_that_can_be_none(clip: DualEncoder, files: list[Path]) -> None:
    for directory in (files[0], files[0] / "in", "x" * 300, "/proc/kept"):
        with pytest.raises(InvalidArgumentError, match="^directory: "):
            clip.contributions(TEXTS, directory=directory)
        with pytest.raises(InvalidArgumentError, match="^directory: "):
            Contributions.load(directory)


def test_a_disk_that_is_too_small_is_told_at_the_beginning(
    clip: DualEncoder,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(InvalidArgumentError, match="directory: .*GB of space.*0.00 GB"):
        clip.contributions(files, directory=tmp_path / "kept")
    assert len(Contributions.load(tmp_path / "kept")) == 1


def test_an_index_that_was_tampered_with(
    clip: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    clip.contributions(files, directory=tmp_path / "kept")
    index = tmp_path / "kept" / "index.json"
    content = json.loads(index.read_text())
    for change in ({"layer": "another"}, {"model": "0" * 32}, {"tolerance": 0.5}):
        index.write_text(json.dumps({**content, **change}))
        with pytest.raises(InvalidArgumentError, match="directory: .*other settings"):
            Contributions.load(tmp_path / "kept")
    for text in ("", "[]", "{", "\0", '{"format": 2}', '{"format": []}', "[" * 9999):
        index.write_text(text)
        with pytest.raises(InvalidArgumentError, match="^directory"):
            Contributions.load(tmp_path / "kept")
    index.unlink()
    index.symlink_to(files[0])
    with pytest.raises(InvalidArgumentError, match="link"):
        Contributions.load(tmp_path / "kept")


FIRST = Path(__file__).parent / "saved_by_0_1" / "contributions"


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../../etc/passwd"},
        {"file": "/etc/passwd"},
        {"file": "shard-00001.safetensors"},
        {"keys": ["one"]},
        {"keys": 3},
        {},
    ],
    ids=str,
)
def test_shards_of_0_1_that_were_tampered_with(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    shutil.copytree(FIRST, tmp_path / "kept")
    index = tmp_path / "kept" / "index.json"
    content = json.loads(index.read_text())
    (shard,) = content["shards"]
    content["shards"] = [{**shard, **change}] if change else "ab"
    index.write_text(json.dumps(content))
    with pytest.raises(InvalidArgumentError, match="^directory"):
        list(Contributions.load(tmp_path / "kept"))


def test_numbers_of_0_1_that_are_none(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(FIRST, tmp_path / "kept")
    path = tmp_path / "kept" / "shard-00000.safetensors"
    tensors = load_file(path)
    for name, value in [("values", torch.nan), ("scales", torch.inf)]:
        bad = tensors[name].clone()
        bad.view(-1)[5 % bad.numel()] = value
        save_file({**tensors, name: bad}, path)
        with pytest.raises(InvalidArgumentError, match=f"{name} has .*not finite"):
            list(Contributions.load(tmp_path / "kept"))
    save_file({**tensors, "counts": tensors["counts"][:2]}, path)
    with pytest.raises(InvalidArgumentError, match="^directory"):
        list(Contributions.load(tmp_path / "kept"))


def test_contributions_can_be_sent_to_other_processes(
    clip: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    for directory in (None, tmp_path / "kept"):
        found = clip.contributions(files, directory=directory)
        sent = pickle.loads(pickle.dumps(found))
        assert sent.keys == found.keys and torch.equal(sent[2].values, found[2].values)


def test_pairs_of_one_method(clip: DualEncoder, files: list[Path]) -> None:
    images = clip.contributions(files, method="occlusion")
    text = clip.contributions(TEXTS[:1])[0]
    with pytest.raises(InvalidArgumentError, match="method: expected 'occlusion'"):
        images.pair(text)


# ---- several processes, and killed ones --------------------------------------

WRITER = """
import sys, time
import captum_pairs, torch
torch.set_num_threads(1)

def encode(inputs):
    return 3 * inputs.sum(1)

def prepare(inputs):
    print(int(inputs[0, 0]), flush=True)
    time.sleep(float(sys.argv[2]))
    return inputs

folder, first, last = sys.argv[1], *map(int, sys.argv[3:])
model = captum_pairs.from_functions(
    encode, encode, prepare=(prepare, None), similarity="dot", name="writer"
)
numbers = range(first, last)
inputs = [torch.full((2, 3), float(number)) for number in numbers]
found = model.contributions(inputs, side="first", directory=folder, dtype="float32")
assert [round(float(each.values[0, 0]) / 3) for each in found] == list(numbers)
"""


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Any]:
    """Starts processes that keep numbers in one directory, and say which come next."""
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    running = []

    def start(first: int, last: int, pause: float = 0.0) -> subprocess.Popen[str]:
        numbers = [str(tmp_path / "kept"), str(pause), str(first), str(last)]
        command = [sys.executable, str(script), *numbers]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def numbers_in(folder: Path) -> list[int]:
    """The inputs that are kept; what is kept of each is its own."""
    found = []
    for each in Contributions.load(folder):
        number = round(float(each.values[0, 0]) / 3)
        torch.testing.assert_close(each.values, torch.full((2, 3), 3.0 * number))
        torch.testing.assert_close(each.embedding, torch.full((3,), 6.0 * number))
        found.append(number)
    return found


@pytest.mark.slow
def test_two_processes_in_one_directory(write: Any, tmp_path: Path) -> None:
    """Both keep what the other one keeps as well: nothing is lost, or mixed."""
    two = [write(0, 60, 0.01), write(30, 90, 0.01)]
    for process in two:
        process.communicate(timeout=300)
        assert process.returncode == 0
    assert sorted(numbers_in(tmp_path / "kept")) == list(range(90))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_at_any_time(write: Any, tmp_path: Path, how: signal.Signals) -> None:
    """Only the input in hand is lost; the next run computes what is left."""
    rng = np.random.default_rng(int(how))
    kept: set[int] = set()
    for _ in range(2):
        process = write(0, 1000, 0.002)
        first = int(process.stdout.readline())
        assert first == len(kept)
        time.sleep(rng.uniform(0, 1))
        process.send_signal(how)
        begun = [first, *map(int, process.communicate(timeout=300)[0].split())]
        assert process.returncode == -how
        found = set(numbers_in(tmp_path / "kept"))
        assert set(begun[:-1]) | kept <= found <= set(begun) | kept
        kept = found
    process = write(0, len(kept) + 2)
    (last, _) = map(int, process.communicate(timeout=300)[0].split())
    assert process.returncode == 0 and last == len(kept)
    assert numbers_in(tmp_path / "kept") == list(range(len(kept) + 2))
