"""CLAP's sounds: spectrograms cut into patches of time and mel bands."""

import math
import os
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, ClassVar, Optional, Union

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.models.encoder import (
    AUDIO,
    Encoder,
    Feature,
    Layout,
    Prepared,
    Source,
)
from captum_pairs.models.errors import UnreadableSoundError
from captum_pairs.models.paths import file
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["ClapAudioEncoder", "read_sound"]

_SILENCE, _MEAN = "silence", "mean"
_IN_WORDS = {_SILENCE: "silence", _MEAN: "the spectrogram's mean"}
# Mel bands and frames of a feature where the spectrogram itself is attributed to.
_CELL_BANDS, _CELL_FRAMES = 8, 32

# A file, its bytes, samples at the model's rate, or samples and their rate.
SoundLike = Union[
    str,
    "os.PathLike[str]",
    bytes,
    BinaryIO,
    NDArray[Any],
    Tensor,
    tuple[Any, int],
]
# Whole numbers, and the size of the largest one.
_FULL_SCALE = {"uint8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}
_MOST_CHANNELS = 8
# Floating samples go a little beyond 1 where a sound was resampled.
_LOUDEST = 2.0
# What a program writes as the size of a stream whose end it does not know.
_ENDLESS = 0xFFFFFF00
_KINDS = {"3": "floating numbers", "65534": "an extensible header"}


def read_sound(source: SoundLike, rate: int) -> NDArray[np.float32]:
    """
    A sound's samples, (n,), in -1 ... 1.

    Args:
        source: a WAV file (its path, its bytes or itself, opened in binary mode) of 8,
            16, 24 or 32 bits; samples (n,), (channels, n) or (n, channels) at `rate`,
            with at most 8 channels, floating or of uint8, int16 or int32 as such files
            have them; or such samples and their rate. Channels are averaged.
        rate: samples a second that are needed.

    Raises:
        UnreadableSoundError: if it is missing, no WAV file, cut short, empty, not
            finite, not in -1 ... 1, or of another rate.
    """
    own: Any = rate
    if isinstance(source, tuple) and len(source) == 2:
        source, own = source
    if isinstance(source, (str, os.PathLike)):
        samples, own = _read_wav(_found(os.fspath(source)), str(source))
    elif isinstance(source, (bytes, bytearray)):
        samples, own = _read_wav(BytesIO(source), f"{len(source)} bytes")
    elif callable(getattr(source, "read", None)):
        samples, own = _read_wav(source, "the open file")
    elif isinstance(source, (Tensor, np.ndarray)):
        samples = _one_channel(source)
    else:
        raise UnreadableSoundError(
            "audio",
            "a sound: a WAV file's path, or floating samples (n,)",
            validation.describe(source),
        )
    if isinstance(own, bool) or own != rate:
        raise UnreadableSoundError(
            "audio",
            f"{rate} samples a second (torchaudio.functional.resample makes them)",
            f"{own}" if isinstance(own, (int, float)) else validation.describe(own),
        )
    return samples.astype(np.float32)


def _one_channel(given: Union[Tensor, NDArray[Any]]) -> NDArray[Any]:
    """Samples (n,) of an array or tensor."""
    shape, kind = tuple(given.shape), str(given.dtype).removeprefix("torch.")
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        given = given.double() if given.is_floating_point() else given
    values = np.asarray(given)
    if values.ndim == 2:
        # the channels are fewer than the samples
        channels = int(np.argmin(values.shape))
        few = values.shape[channels] <= _MOST_CHANNELS
        if few and values.shape[0] != values.shape[1]:
            values = values if channels == 0 else values.T
        elif values.shape[0] != 1:
            values = values[None]  # of a shape that is no sound's
    if (
        values.ndim not in (1, 2)
        or 0 in values.shape
        or not (values.dtype.kind == "f" or kind in _FULL_SCALE)
    ):
        raise UnreadableSoundError(
            "audio",
            f"floating samples (n,), (channels, n) or (n, channels) with at most "
            f"{_MOST_CHANNELS} channels",
            f"{kind} of shape {shape}",
        )
    if values.dtype.kind != "f":
        values = _in_full_scale(values)
    loudest = float(np.abs(values).max())
    if not loudest <= _LOUDEST:
        raise UnreadableSoundError(
            "audio",
            "finite samples in -1 ... 1",
            (
                f"values up to {loudest:g}"
                if loudest == loudest
                else "values that are NaN"
            ),
        )
    return values.mean(axis=0) if values.ndim == 2 else values


def _in_full_scale(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as WAV files have them, in -1 ... 1."""
    middle = 128.0 if values.dtype == np.uint8 else 0.0
    return (values.astype(np.float64) - middle) / _FULL_SCALE[values.dtype.name]


def _found(name: object) -> str:
    path = file(name) if isinstance(name, str) else None
    if path is None:
        raise UnreadableSoundError(
            "audio", "a WAV file", f"{name!r:.200}: no such file"
        )
    return str(path)


def _read_wav(source: Any, name: str) -> tuple[NDArray[Any], int]:
    """Samples (n,) and their rate."""
    try:
        with wave.open(source) as opened:
            width, channels = opened.getsampwidth(), opened.getnchannels()
            rate, count = opened.getframerate(), opened.getnframes()
            data = opened.readframes(count)
    except wave.Error as error:
        kind = str(error).removeprefix("unknown format: ")
        reason = f"one of {_KINDS[kind]}" if kind in _KINDS else str(error)
        raise _no_wav(f"{name}: {reason}") from error
    # the header of no WAV file, or of a damaged one, says anything
    except Exception as error:
        raise _no_wav(f"{name}: {str(error) or 'it ends too soon'}") from error
    if not 1 <= width <= 4:
        raise _no_wav(f"{name}: samples of {8 * width} bits")
    frame = width * channels
    whole = count * frame
    if not data or len(data) < whole < _ENDLESS:
        raise _no_wav(
            f"{name}: {len(data) // frame} of the {count} samples that its header "
            "announces (it was cut short)"
        )
    data = data[: len(data) // frame * frame]
    values = _whole_numbers(data, width).reshape(-1, channels)
    return values.mean(axis=1), rate


def _whole_numbers(data: bytes, width: int) -> NDArray[Any]:
    """Little-endian samples of so many bytes, in -1 ... 1."""
    if width == 3:  # the upper three of four bytes
        parts = np.frombuffer(data, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(parts), 4), np.uint8)
        wide[:, 1:] = parts
        return _in_full_scale(wide.view("<i4")[:, 0].astype(np.int32))
    kind = {1: "u1", 2: "<i2", 4: "<i4"}[width]
    values = np.frombuffer(data, kind)
    return _in_full_scale(values.astype(values.dtype.newbyteorder("=")))


def _no_wav(reason: str) -> UnreadableSoundError:
    return UnreadableSoundError(
        "audio", "a WAV file of whole numbers of 8, 16, 24 or 32 bits", reason
    )


@dataclass(frozen=True)
class PreparedSound(Prepared):
    """
    A sound as its encoder takes it: a spectrogram (1, channels, frames, mel bands).

    Args:
        seconds: that the frames span.
        folds: into how many pieces of time the encoder cuts the spectrogram to put
            them below each other.
    """

    seconds: float = 1.0
    folds: int = 1

    def layout(self, shape: Sequence[int], at_input: bool, tokens: bool) -> Layout:
        """Patches of time and mel bands, the lowest bands first, row by row."""
        frames, bands = self.inputs.shape[-2:]
        if at_input:
            rows, columns = -(-bands // _CELL_BANDS), -(-frames // _CELL_FRAMES)
            band = torch.arange(bands) // _CELL_BANDS
            frame = torch.arange(frames) // _CELL_FRAMES
            mask = (band * columns + frame[:, None])[None, None]
            grid = rows, columns
            steps = float(_CELL_BANDS), self.seconds * _CELL_FRAMES / frames
            return Layout(self._features(grid, steps), mask, grid)
        if len(shape) != 3:
            raise InvalidArgumentError(
                "layer", "a layer whose value has patches", f"shape {tuple(shape)}"
            )
        return self._folded(int(shape[1]), int(bands))

    def _folded(self, count: int, bands: int) -> Layout:
        """
        (1, tokens, d): a square of patches, in which pieces of time stand one below
        the other, each with all of its bands.
        """
        side = math.isqrt(count)
        if side * side != count or side % self.folds:
            raise InvalidArgumentError(
                "layer", "a value with a square of patches", f"{count} tokens"
            )
        rows, columns = side // self.folds, side * self.folds
        place = torch.arange(side)
        # (folds, rows, side): piece of time, band, time within the piece
        fold, row = place // rows, place % rows
        column = fold[:, None] * side + place
        mask = (row[:, None] * columns + column).reshape(1, count, 1)
        steps = bands / rows, self.seconds / columns
        grid = rows, columns
        return Layout(self._features(grid, steps), mask, grid)

    def _features(
        self, grid: tuple[int, int], steps: tuple[float, float]
    ) -> tuple[Feature, ...]:
        bands = float(self.inputs.shape[-1])
        features = []
        for row in range(grid[0]):
            for column in range(grid[1]):
                box = (
                    column * steps[1],
                    row * steps[0],
                    min((column + 1) * steps[1], self.seconds),
                    min((row + 1) * steps[0], bands),
                )
                features.append(Feature(f"patch ({row}, {column})", box=box))
        return tuple(features)


class ClapAudioEncoder(Encoder):
    """
    The audio side of a ``ClapModel``: a Swin transformer over a spectrogram.

    A sound that is shorter than the model's window is repeated to fill it, as its
    feature extractor does; a longer one is refused, since the extractor would take
    pieces by chance.
    """

    kind = AUDIO
    baselines: ClassVar[tuple[str, ...]] = (_SILENCE, _MEAN)

    def __init__(self, model: Any, extractor: Any) -> None:
        """
        Args:
            model: a ``ClapModel``.
            extractor: its feature extractor.
        """
        self.module = model
        self.extractor = extractor
        encoder: Any = model.audio_model.audio_encoder
        self.blocks = [block for stage in encoder.layers for block in stage.blocks]
        self.folds = int(encoder.freq_ratio)
        # patches of the first stages are many and small: the first block of the third
        depths = encoder.depths
        self.default_block = sum(depths[: min(2, len(depths) - 1)])

    def prepare(self, raw: SoundLike, baseline: Optional[str] = None) -> PreparedSound:
        """
        A sound as the model takes it.

        Raises:
            UnreadableSoundError: for what is not a sound, or is too long.
        """
        name = self.check_baseline(baseline)
        rate = int(self.extractor.sampling_rate)
        samples = read_sound(raw, rate)
        longest = int(self.extractor.nb_max_samples)
        if len(samples) > longest:
            raise UnreadableSoundError(
                "audio",
                f"at most {longest / rate:g} seconds",
                f"{len(samples) / rate:.2f}",
            )
        spectrogram, is_longer = self._spectrogram(samples)
        if name == _SILENCE:
            start = self._spectrogram(np.zeros_like(samples))[0]
        else:
            start = spectrogram.mean().expand_as(spectrogram).clone()
        seconds = longest / rate
        bands = spectrogram.shape[-1]
        return PreparedSound(
            spectrogram,
            start,
            Source(
                AUDIO,
                size=(seconds, float(bands)),
                visible=(0.0, 0.0, seconds, float(bands)),
                picture=spectrogram[0, 0].T.float().numpy().copy(),
            ),
            _IN_WORDS[name],
            (is_longer,),
            seconds=seconds,
            folds=self.folds,
        )

    def _spectrogram(self, samples: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        rate = int(self.extractor.sampling_rate)
        found = self.extractor(samples, sampling_rate=rate, return_tensors="pt")
        # none is longer, but a fused model is told so of one at least
        is_longer = torch.as_tensor(found.get("is_longer", [[False]])).reshape(1, 1)
        return found["input_features"].to(self.dtype), is_longer

    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        model: Any = self.module
        (is_longer,) = arguments
        is_longer = is_longer.expand(len(inputs), 1)
        found = model.get_audio_features(input_features=inputs, is_longer=is_longer)
        embeddings: Tensor = getattr(found, "pooler_output", found)
        return embeddings
