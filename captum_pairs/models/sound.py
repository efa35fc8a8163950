"""CLAP's sounds: spectrograms cut into patches of time and mel bands."""

import math
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Optional, Union

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models.encoder import (
    AUDIO,
    Encoder,
    Feature,
    Layout,
    Prepared,
    Source,
)
from captum_pairs.models.errors import UnreadableSoundError
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["ClapAudioEncoder", "read_sound"]

_SILENCE, _MEAN = "silence", "mean"
_IN_WORDS = {_SILENCE: "silence", _MEAN: "the spectrogram's mean"}
# Mel bands and frames of a feature where the spectrogram itself is attributed to.
_CELL_BANDS, _CELL_FRAMES = 8, 32

# A file, samples at the model's rate, or samples and their rate.
SoundLike = Union[str, Path, NDArray[Any], Tensor, tuple[Any, int]]


def read_sound(source: SoundLike, rate: int) -> NDArray[np.float32]:
    """
    A sound's samples, (n,), in -1 ... 1.

    Args:
        source: a WAV file of 8, 16 or 32 bits, whose channels are averaged; samples
            (n,) or (channels, n) at `rate`; or samples and their rate.
        rate: samples a second that are needed.

    Raises:
        UnreadableSoundError: if it is missing, no WAV file, empty, or of another rate.
    """
    own = rate
    if isinstance(source, tuple):
        source, own = source
    if isinstance(source, (str, Path)):
        samples, own = _read_wav(Path(source))
    else:
        values = source.detach().cpu() if isinstance(source, Tensor) else source
        samples = np.asarray(values)
    if samples.ndim == 2:
        samples = samples.mean(axis=0)
    if samples.ndim != 1 or not len(samples) or samples.dtype.kind != "f":
        raise UnreadableSoundError(
            "audio",
            "floating samples (n,) or (channels, n)",
            f"{samples.dtype} of shape {samples.shape}",
        )
    if own != rate:
        raise UnreadableSoundError(
            "audio",
            f"{rate} samples a second (torchaudio.functional.resample makes them)",
            f"{own}",
        )
    return samples.astype(np.float32)


def _read_wav(path: Path) -> tuple[NDArray[Any], int]:
    """Samples (channels, n) and their rate."""
    if not path.is_file():
        raise UnreadableSoundError("audio", "a WAV file", f"{path}: no such file")
    try:
        with wave.open(str(path)) as file:
            width, channels = file.getsampwidth(), file.getnchannels()
            rate, data = file.getframerate(), file.readframes(file.getnframes())
        kind = {1: np.uint8, 2: np.int16, 4: np.int32}[width]
    except (wave.Error, EOFError, KeyError) as error:
        reason = f"{path}: {error or 'not a WAV file of 8, 16 or 32 bits'}"
        raise UnreadableSoundError("audio", "a WAV file", reason) from error
    values = np.frombuffer(data, dtype=kind).astype(np.float64)
    if width == 1:
        values -= 128.0
    values /= 2.0 ** (8 * width - 1)
    return values.reshape(-1, channels).T, rate


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
                picture=spectrogram[0, 0].T.numpy().copy(),
            ),
            _IN_WORDS[name],
            (is_longer,),
            seconds=seconds,
            folds=self.folds,
        )

    def _spectrogram(self, samples: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        rate = int(self.extractor.sampling_rate)
        found = self.extractor(samples, sampling_rate=rate, return_tensors="pt")
        is_longer = torch.zeros(1, 1, dtype=torch.bool)  # longer ones are refused
        return found["input_features"].float(), is_longer

    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        model: Any = self.module
        (is_longer,) = arguments
        found = model.get_audio_features(input_features=inputs, is_longer=is_longer)
        embeddings: Tensor = getattr(found, "pooler_output", found)
        return embeddings
