"""Sounds of every kind that people have: the right samples, or a clear error."""

import struct
import wave
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import load
from captum_pairs.models import UnreadableSoundError
from captum_pairs.models.sound import read_sound
from tiny_hugging_face import build
from transformers import AutoModel, AutoProcessor, ClapConfig, ClapModel

RATE = 4000
LEFT = np.sin(np.arange(50) / 7) / 2
BOTH = np.stack([LEFT, np.cos(np.arange(50) / 3) / 4])


def _wav(values: Any, width: int = 2, rate: int = RATE) -> bytes:
    """Samples (channels, n) as a file of so many bytes a sample."""
    whole = np.round(np.asarray(values).T * (2 ** (8 * width - 1) - 1)).astype(np.int64)
    whole = whole + 128 if width == 1 else whole
    data = b"".join(
        int(v).to_bytes(width, "little", signed=width > 1) for v in whole.flatten()
    )
    held = BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(len(values))
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)
    return held.getvalue()


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_whole_numbers_of_every_width(width: int, tmp_path: Path) -> None:
    data = _wav(BOTH, width)
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    for source in (path, str(path), data, BytesIO(data)):
        found = read_sound(source, RATE)
        assert found.shape == (50,)
        np.testing.assert_allclose(found, BOTH.mean(0), atol=2.0 ** (2 - 8 * width))


def test_channels_first_or_last() -> None:
    for values in (BOTH, BOTH.T, torch.tensor(BOTH), torch.tensor(BOTH.T).float()):
        found = read_sound(values, RATE)
        np.testing.assert_allclose(found, BOTH.mean(0), rtol=1e-6)
    for values in (LEFT, LEFT[None], LEFT[:, None]):
        np.testing.assert_allclose(read_sound(values, RATE), LEFT, rtol=1e-6)
    assert read_sound(np.zeros((1, 1)), RATE).shape == (1,)
    assert read_sound((BOTH.T, RATE), RATE).shape == (50,)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_whole_numbers_in_memory(dtype: str) -> None:
    info = np.iinfo(dtype)
    middle = 128 if dtype == "uint8" else 0
    whole = np.round(LEFT * (info.max - middle) + middle).astype(dtype)
    np.testing.assert_allclose(
        read_sound(whole, RATE), LEFT, atol=2.0 ** (2 - info.bits)
    )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_file_that_was_cut_short(share: float, tmp_path: Path) -> None:
    data = _wav(BOTH)
    with pytest.raises(UnreadableSoundError, match="of the 50 samples.*cut short"):
        read_sound(data[: 44 + int(share * (len(data) - 44))], RATE)


def test_a_stream_whose_length_was_not_known() -> None:
    data = bytearray(_wav(LEFT[None]))
    data[4:8] = data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    np.testing.assert_allclose(read_sound(bytes(data), RATE), LEFT, atol=1e-4)


def _as_kind(kind: int) -> bytes:
    data = bytearray(_wav(LEFT[None], 4))
    data[20:22] = struct.pack("<H", kind)
    return bytes(data)


@pytest.mark.parametrize(
    "wrong, reason",
    [
        (None, "got None"),
        (3, "got 3"),
        ({}, "type dict"),
        ([0.1, 0.2], "a list of 2"),
        ((LEFT, "fast"), "4000 samples a second.*got 'fast'"),
        ((LEFT, None), "got None"),
        ((LEFT, 8000), "got 8000"),
        ("", "no such file"),
        ("x" * 5000, "no such file"),
        (b"no sound", "8 bytes"),
        (_as_kind(3), "whole numbers of 8, 16, 24 or 32 bits.*one of floating numbers"),
        (_as_kind(65534), "one of an extensible header"),
        (np.zeros(0), "of shape"),
        (np.zeros((40, 50)), r"at most 8 channels.*\(40, 50\)"),
        (np.zeros((2, 2)), r"\(2, 2\)"),
        (np.zeros(9, dtype=np.int64), "int64"),
        (np.full(9, np.nan), "finite samples.*NaN"),
        (np.full(9, np.inf), "finite samples.*up to inf"),
        (LEFT * 32768, "-1 ... 1.*values up to 16"),
    ],
)
def test_what_is_no_sound(wrong: Any, reason: str) -> None:
    with pytest.raises(UnreadableSoundError, match=reason):
        read_sound(wrong, RATE)


def test_damaged_files_get_one_kind_of_error() -> None:
    whole = bytearray(_wav(BOTH))
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = whole.copy()
        for at in rng.integers(0, 60, 2):
            data[at] = rng.integers(0, 256)
        try:
            assert np.isfinite(read_sound(bytes(data), RATE)).all()
        except UnreadableSoundError:
            continue


def test_a_fused_models_score_is_its_own(tmp_path: Path) -> None:
    """Of a short sound its processor says that it is longer, since one has to be."""
    build("clap", tmp_path)
    config = ClapConfig.from_pretrained(tmp_path)
    config.audio_config.enable_fusion = True
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fused = ClapModel(config).eval()
        with torch.no_grad():
            for name, value in fused.named_parameters():
                if value.ndim > 1:
                    value.copy_(0.25 * torch.randn_like(value))
    fused.save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    processor.feature_extractor.truncation = "fusion"
    processor.save_pretrained(tmp_path)
    sound, text = np.sin(np.arange(2000) / 7).astype(np.float32), "a dog"
    own = AutoModel.from_pretrained(tmp_path).eval()
    inputs = dict(
        processor.feature_extractor(sound, sampling_rate=RATE, return_tensors="pt")
    )
    inputs |= dict(processor.tokenizer(text, return_tensors="pt"))
    with torch.no_grad():
        wanted = own(**inputs).logits_per_audio.item()
        # as if nothing were longer: another score
        inputs["is_longer"] = torch.zeros(1, 1, dtype=torch.bool)
        assert abs(own(**inputs).logits_per_audio.item() - wanted) > 0.1
    found = load(tmp_path).explain(sound, text, tolerance=1e-3)
    assert found.logit == pytest.approx(wanted, rel=1e-4)
    assert sum(found.parts().values()) == pytest.approx(found.score, abs=1e-5)
    assert abs(found.convergence_delta) < 1e-2
