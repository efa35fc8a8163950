"""Every family of transformers: the parts add up to the model's own similarity."""

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import DualEncoder, load
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models import (
    ModelUnavailableError,
    TextLengthError,
    UnreadableSoundError,
)
from captum_pairs.models.sound import read_sound
from captum_pairs.testing import check_encoder
from PIL import Image
from tiny_hugging_face import build, BUILDERS, SMALL, VISION, word_tokenizer
from transformers import AutoModel, AutoProcessor, BlipForImageTextRetrieval

pytestmark = pytest.mark.filterwarnings(
    # of transformers' own code, with the installed versions of others
    "ignore:.*:DeprecationWarning",
    "ignore:.*:FutureWarning",
)

TEXT = "a red circle on the blue"
FAMILIES = sorted(BUILDERS)
IMAGES = [family for family in FAMILIES if family != "clap"]
PADDED = ("siglip", "siglip2")


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found: dict[str, Path] = {}

    class Built(dict[str, Path]):
        def __missing__(self, family: str) -> Path:
            found[family] = build(family, tmp_path_factory.mktemp(family))
            self[family] = found[family]
            return found[family]

    return Built()


def _photo(width: int = 44, height: int = 31, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def _sound(samples: int = 3000) -> Any:
    return np.sin(np.arange(samples) / 7).astype(np.float32)


def _raw(family: str) -> Any:
    return _sound() if family == "clap" else _photo()


@torch.no_grad()
def _own(family: str, directory: Path, raw: Any, text: str) -> dict[str, float]:
    """The scores of the model's own forward pass, with its own processor's inputs."""
    kind: Any = BlipForImageTextRetrieval if family == "blip-itm" else AutoModel
    model = kind.from_pretrained(directory).eval()
    processor = AutoProcessor.from_pretrained(directory)
    options: dict[str, Any] = {"padding": "max_length"} if family in PADDED else {}
    if family == "siglip2":  # its processor's defaults are those of one checkpoint
        options |= {"max_length": 40, "patch_size": 4, "max_num_patches": 16}
    if family == "clap":
        rate = processor.feature_extractor.sampling_rate
        # through its parts: the processor's own keywords changed between versions
        inputs = dict(
            processor.feature_extractor(raw, sampling_rate=rate, return_tensors="pt")
        )
        inputs |= dict(processor.tokenizer(text, return_tensors="pt"))
    else:
        inputs = dict(processor(images=raw, text=text, return_tensors="pt", **options))
    if family == "blip-itm":
        found = model(**inputs, use_itm_head=False)
        return {"itm_score": found.itm_score.item()}
    found = model(**inputs)
    names = ("logits_per_image", "logits_per_audio", "logits_per_text")
    kept = names[1:] if family == "clap" else names[:1]
    return {name: found[name].item() for name in kept}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_are_the_models_own_similarity(
    directories: dict[str, Path], family: str
) -> None:
    directory = directories[family]
    model = load(directory)
    found = model.explain(_raw(family), TEXT, tolerance=1e-4)
    own = _own(family, directory, _raw(family), TEXT)
    assert found.logits == pytest.approx(own, rel=1e-4, abs=1e-5)
    name, value = next(iter(own.items()))
    head = model.heads[0]
    assert head.name == name
    similarity = (value - head.bias) / head.scale
    assert found.score == pytest.approx(similarity, abs=1e-5)
    assert sum(found.parts().values()) == pytest.approx(similarity, abs=1e-5)
    assert abs(found.convergence_delta) < 1e-3
    # the maps are not empty
    assert found.maps().abs().max() > 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_every_block_and_the_input(directories: dict[str, Path], family: str) -> None:
    model = load(directories[family])
    raw = _raw(family)
    pairs: list[Any] = [(index, 0) for index in range(len(model.first.blocks))]
    pairs += [(-1, index) for index in range(len(model.second.blocks))]
    pairs.append(("input", "input"))
    for layer in pairs:
        found = model.explain(raw, TEXT, layer=layer, tolerance=3e-2)
        assert sum(found.parts().values()) == pytest.approx(found.score, abs=1e-5)
        assert abs(found.convergence_delta) < 0.05
        assert found.first.has_regions
        assert len(found.first.features) == found.interactions.shape[0]
        # the path's ends are those of the pair, whatever the layer
        assert found.second.names[: found.second.count] == tuple(TEXT.split())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_embedded_as_each_alone(
    directories: dict[str, Path], family: str
) -> None:
    model = load(directories[family])
    raws = (_raw(family), _sound(2000) if family == "clap" else _photo(seed=1))
    for encoder, inputs in (
        (model.first, raws),
        (model.second, (TEXT, "the red dog barks on a")),
    ):
        prepared = [encoder.prepare(raw) for raw in inputs]
        if prepared[0].inputs.shape != prepared[1].inputs.shape:
            assert encoder is model.second  # letters are tokens there
            continue
        both = torch.cat([one.inputs for one in prepared])
        arguments = [
            torch.cat(values) for values in zip(*(one.arguments for one in prepared))
        ]
        together = encoder.embed(both, *arguments)
        alone = [encoder.embed(one.inputs, *one.arguments) for one in prepared]
        torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)
    pairs = model.explain(list(raws), TEXT, tolerance=1e-3)
    single = model.explain(raws[1], TEXT, tolerance=1e-3)
    torch.testing.assert_close(pairs[1].interactions, single.interactions)


@pytest.mark.parametrize("family", IMAGES)
def test_a_region_and_a_phrase(directories: dict[str, Path], family: str) -> None:
    model = load(directories[family])
    # a phrase alone takes other steps than all words, to the tolerance
    found = model.explain(_photo(), TEXT, tolerance=1e-4)
    whole = found.region((0, 0, 44, 31))
    patches = found.interactions[: found.first.count, : found.second.count]
    torch.testing.assert_close(whole, patches.sum(0), atol=1e-5, rtol=1e-4)
    part = model.explain(_photo(), TEXT, phrase="red circle", tolerance=1e-4)
    torch.testing.assert_close(
        part.maps()[0], found.phrase("red circle"), atol=1e-5, rtol=1e-3
    )


def test_feature_maps_of_align_differ_from_block_to_block(
    directories: dict[str, Path],
) -> None:
    model = load(directories["align"])
    grids = [
        model.explain(_photo(), TEXT, layer=index, tolerance=0.1).first.grid
        for index in range(len(model.first.blocks))
    ]
    assert grids[0] == (24, 24) and grids[-1] == (24, 24)
    after = model.explain(_photo(), TEXT, layer=model.first.blocks[-1], tolerance=0.1)
    assert after.first.grid == (12, 12)
    assert after.first.features[13].box == pytest.approx(
        (44 / 12, 31 / 12, 88 / 12, 62 / 12)
    )


@pytest.mark.parametrize("family", PADDED)
def test_padding_is_one_feature(directories: dict[str, Path], family: str) -> None:
    prepared = load(directories[family]).second.prepare("a red")
    shape = (1, prepared.inputs.shape[1], 16)
    layout = prepared.layout(shape, False, False)
    names = [feature.name for feature in layout.features]
    assert names[:2] == ["a", "red"] and names.count("padding") == 1
    assert sorted(names[2:]) == sorted({"padding", *names[2:]})
    padded = layout.mask.flatten() == names.index("padding")
    assert padded.sum() == shape[1] - (3 if family == "siglip" else 5)


def test_padding_that_looks_like_the_end(tmp_path: Path) -> None:
    from transformers import (
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
        SiglipProcessor,
    )

    text = {"vocab_size": 30, "max_position_embeddings": 16, "projection_size": 16}
    small = {key: VISION[key] for key in SMALL}
    config = SiglipConfig(
        text_config={**small, **text, "pad_token_id": 1}, vision_config=VISION
    )
    SiglipModel(config).save_pretrained(tmp_path)
    image = SiglipImageProcessor(size={"height": 20, "width": 20})
    SiglipProcessor(image, word_tokenizer(pad="<eos>")).save_pretrained(tmp_path)
    prepared = load(tmp_path).second.prepare("a red")
    names = [token.name for token in prepared.tokens]  # type: ignore[attr-defined]
    assert names[:3] == ["a", "red", "<eos>"] and set(names[3:]) == {"padding"}


def test_a_tokenizer_that_does_not_tell_offsets(tmp_path: Path) -> None:
    """SigLIP's own: sentencepiece, lower case, without punctuation."""
    trainer = pytest.importorskip("sentencepiece", reason="SigLIP's tokenizer")
    from transformers import (
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
        SiglipProcessor,
        SiglipTokenizer,
    )

    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a red circle on the blue square\nthe dog barks\n" * 20)
    trainer.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=25,
        unk_id=2,
        bos_id=-1,
        eos_id=1,
        pad_id=0,
        minloglevel=2,
    )
    tokenizer = SiglipTokenizer(str(tmp_path / "spiece.model"), model_max_length=32)
    assert not tokenizer.is_fast
    small = {key: VISION[key] for key in SMALL}
    text = {"vocab_size": 25, "max_position_embeddings": 32, "projection_size": 16}
    config = SiglipConfig(
        text_config={**small, **text, "pad_token_id": 1}, vision_config=VISION
    )
    directory = tmp_path / "model"
    SiglipModel(config).save_pretrained(directory)
    image = SiglipImageProcessor(size={"height": 20, "width": 20})
    SiglipProcessor(image, tokenizer).save_pretrained(directory)
    model = load(directory)
    found = model.explain(_photo(), "A Red circle, 犬 the dog!")
    words = ("A", "Red", "circle", ", 犬", "the", "dog")  # one unknown token
    assert found.second.names[:6] == words
    assert found.second.names[-2:] == ("</s>", "padding")
    own = _own("siglip", directory, _photo(), "A Red circle, 犬 the dog!")
    assert found.logits == pytest.approx(own, rel=1e-4, abs=1e-5)


def test_bytes_and_unknown_words_of_siglip2(directories: dict[str, Path]) -> None:
    model = load(directories["siglip2"])
    found = model.explain(_photo(), "A RED dog, 犬!")
    assert found.second.names[:5] == ("A", "RED", "dog", ",", "犬")


def test_naflex_keeps_the_shape_of_an_image(directories: dict[str, Path]) -> None:
    model = load(directories["siglip2"])
    for size, grid in (((80, 20), (2, 8)), ((20, 80), (8, 2)), ((30, 30), (4, 4))):
        prepared = model.first.prepare(_photo(*size))
        assert prepared.grid == grid  # type: ignore[attr-defined]
        assert prepared.inputs.shape[1] == grid[0] * grid[1]
        boxes = [
            feature.box
            for feature in prepared.layout(prepared.inputs.shape, True, False).features
        ]
        assert boxes[0] == pytest.approx((0, 0, size[0] / grid[1], size[1] / grid[0]))
        assert boxes[-1] is not None
        assert boxes[-1][2:] == pytest.approx(size)
    for name in ("black", "blur", "mean color"):
        found = model.explain(_photo(), TEXT, baseline=name)
        assert sum(found.parts().values()) == pytest.approx(found.score, abs=1e-5)


# ---- sound ---------------------------------------------------------------------------


def test_where_a_piece_of_sound_goes(directories: dict[str, Path]) -> None:
    """What is changed in a stretch of time and some mel bands changes the patches
    (of the convolution, before any attention) that say so, and no others."""
    model = load(directories["clap"])
    prepared = model.first.prepare(_sound(4000))
    clap: Any = model.first.module
    embed = clap.audio_model.audio_encoder.patch_embed
    layout = prepared.layout((1, 64, 8), False, False)
    assert layout.grid == (4, 16)
    frames = prepared.inputs.shape[2]
    for band, start in ((1, 3), (9, 17), (14, 35)):
        changed = prepared.inputs.clone()
        changed[:, :, start, band] += 50.0
        found = []
        for inputs in (prepared.inputs, changed):
            caught: list[torch.Tensor] = []
            handle = embed.register_forward_hook(
                lambda module, args, output, into=caught: into.append(output)
            )
            with torch.no_grad():
                model.first.embed(inputs, *prepared.arguments)
            handle.remove()
            found.append(caught[0])
        moved = (found[0] - found[1]).abs().sum((0, 2))
        strongest = layout.features[int(layout.mask.flatten()[moved.argmax()])]
        assert strongest.box is not None
        left, low, right, high = strongest.box
        second = (start + 0.5) / frames
        # the spectrogram is stretched to the square: half a patch either way
        margin = (right - left) / 2
        assert left - margin <= second <= right + margin
        assert low <= band < high


def test_sounds_are_repeated_and_long_ones_refused(
    directories: dict[str, Path],
) -> None:
    model = load(directories["clap"])
    assert model.first.prepare(_sound(1000)).source.size == (1.0, 16.0)
    with pytest.raises(UnreadableSoundError, match="at most 1 seconds, got 1.25"):
        model.first.prepare(_sound(5000))


def test_files_and_rates(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for width, kind in ((1, np.uint8), (2, np.int16), (4, np.int32)):
        values = np.array([[0.5, -0.5], [0.25, 0.0]])  # two frames of two channels
        scaled = values * 2.0 ** (8 * width - 1) + (128 if width == 1 else 0)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(width)
            file.setframerate(4000)
            file.writeframes(scaled.astype(kind).tobytes())
        assert read_sound(path, 4000).tolist() == pytest.approx([0.0, 0.125])
    with pytest.raises(UnreadableSoundError, match="8000 samples a second.*got 4000"):
        read_sound(path, 8000)
    assert len(read_sound((_sound(10), 4000), 4000)) == 10
    assert len(read_sound(torch.zeros(2, 10), 4000)) == 10
    path.write_text("no sound")
    for wrong in (path, tmp_path / "no.wav", np.zeros(0), np.zeros(3, dtype=int)):
        with pytest.raises(UnreadableSoundError, match="audio"):
            read_sound(wrong, 4000)


# ---- what is refused -----------------------------------------------------------------


@pytest.mark.parametrize(
    "config, reason",
    [
        ('{"model_type": "xclip"}', "depends on the video"),
        ('{"model_type": "bert"}', "from_functions.*'bert'"),
        (
            '{"model_type": "blip", '
            '"architectures": ["BlipForConditionalGeneration"]}',
            "generates text",
        ),
    ],
)
def test_models_that_are_no_dual_encoders(
    tmp_path: Path, config: str, reason: str
) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelUnavailableError, match=reason):
        load(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_that_are_too_long(directories: dict[str, Path], family: str) -> None:
    texts = load(directories[family]).second
    with pytest.raises(TextLengthError, match="it would not be read"):
        texts.prepare("red circle " * 70)
    with pytest.raises(TextLengthError, match="empty"):
        texts.prepare(" ")


def test_a_layer_of_the_other_side(directories: dict[str, Path]) -> None:
    model: DualEncoder = load(directories["vision-text"])
    with pytest.raises(InvalidArgumentError, match="layer"):
        model.explain(_photo(), TEXT, layer=model.second.blocks[0])


def test_clips_end_token_stays_in_the_baseline(tiny_clip: Path) -> None:
    # its unknown token has the same name, and padding may have another one
    encoder = load(tiny_clip).second
    encoder.tokenizer.pad_token = "a</w>"
    prepared = encoder.prepare("a red circle")
    ids = encoder.tokenizer.convert_tokens_to_ids(["a</w>"]) * 3
    middle = prepared.baseline[0, 1:-1]
    assert middle.tolist() == ids
    assert prepared.baseline[0, -1] == encoder.tokenizer.eos_token_id


# ---- the contract --------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_contract(directories: dict[str, Path], family: str) -> None:
    directory = directories[family]
    raws = [_sound(2000), _sound(4000)] if family == "clap" else None
    texts = (TEXT, "The  dog, a RED circle!")

    def own(raw: Any, text: str) -> float:
        return next(iter(_own(family, directory, raw, text).values()))

    check_encoder(load(directory), (raws, texts), score=own)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_in_memory(directories: dict[str, Path], family: str) -> None:
    kind: Any = BlipForImageTextRetrieval if family == "blip-itm" else AutoModel
    own = kind.from_pretrained(directories[family])
    own.train()
    next(own.parameters()).requires_grad_(False)
    modes = [part.training for part in own.modules()]
    flags = [parameter.requires_grad for parameter in own.parameters()]
    processor = AutoProcessor.from_pretrained(directories[family])
    model = load(own, processor)
    assert model.first.module is own and model.second.module is own
    assert [part.training for part in own.modules()] == modes
    assert [parameter.requires_grad for parameter in own.parameters()] == flags
    named = load(directories[family])
    own.eval()
    raw = _raw(family)
    for encoder, other, each in (
        (model.first, named.first, raw),
        (model.second, named.second, TEXT),
    ):
        prepared = encoder.prepare(each)
        torch.testing.assert_close(
            encoder.embed(prepared.inputs, *prepared.arguments),
            other.embed(prepared.inputs, *prepared.arguments),
        )
    # the parts of a processor do as well
    name = "feature_extractor" if family == "clap" else "image_processor"
    both = processor.tokenizer, getattr(processor, name)
    assert load(own, both).heads == model.heads == named.heads
    for wrong in (None, processor.tokenizer, both[:1], "a name", own):
        with pytest.raises(InvalidArgumentError, match="processor: expected the model"):
            load(own, wrong)


def test_parts_of_models_in_memory(tiny_clip: Path) -> None:
    from transformers import CLIPForImageClassification

    clip = AutoModel.from_pretrained(tiny_clip)
    processor = AutoProcessor.from_pretrained(tiny_clip)
    for wrong, reason in (
        (clip.vision_model, "model_type 'clip_vision_model'"),
        (CLIPForImageClassification(clip.config), "one with another head"),
        (torch.nn.Linear(2, 2), "that no adapter knows"),
    ):
        with pytest.raises(ModelUnavailableError, match=f"from_functions.*{reason}"):
            load(wrong, processor)
    with pytest.raises(InvalidArgumentError, match="device: expected None for a model"):
        load(clip, processor, device="cpu")
    compiled = torch.compile(clip, backend="eager")
    for wrapped in (compiled, torch.nn.DataParallel(clip)):
        assert load(wrapped, processor).first.module is clip


def test_precisions_of_a_model_in_memory(tiny_clip: Path) -> None:
    processor = AutoProcessor.from_pretrained(tiny_clip)
    wanted = load(tiny_clip).explain(_photo(), TEXT).score
    for dtype, error in ((torch.float64, 1e-6), (torch.bfloat16, 3e-2)):
        model = load(
            AutoModel.from_pretrained(tiny_clip, dtype=dtype).eval(), processor
        )
        assert model.first.prepare(_photo()).inputs.dtype == dtype
        assert model.explain(_photo(), TEXT).score == pytest.approx(wanted, abs=error)


def test_a_model_with_adapters_of_peft(tiny_clip: Path) -> None:
    peft = pytest.importorskip("peft", reason="it puts adapters into models")
    own = AutoModel.from_pretrained(tiny_clip).eval()
    config = peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        adapted = peft.get_peft_model(own, config).eval()
    processor = AutoProcessor.from_pretrained(tiny_clip)
    inputs = processor(images=_photo(), text=TEXT, return_tensors="pt")
    with torch.no_grad():
        wanted = adapted(**inputs).logits_per_image.item()
    plain = load(tiny_clip).explain(_photo(), TEXT)
    found = load(adapted, processor).explain(_photo(), TEXT)
    assert found.logit == pytest.approx(wanted, abs=1e-4)
    assert abs(found.logit - plain.logit) > 1e-3
