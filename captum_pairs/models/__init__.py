"""Encoders: what turns a photo or a sentence into inputs, features and an embedding.

>>> model = load("openai/clip-vit-base-patch32")
>>> photo, caption = model.image.prepare("dog.jpg"), model.text.prepare("a dog")
>>> model.image.embed(photo.inputs)  # (1, 512)
"""

from captum_pairs.models.clip import ClipImageEncoder, ClipTextEncoder
from captum_pairs.models.encoder import (
    DualEncoder,
    Encoder,
    Feature,
    Prepared,
    PreparedImage,
    PreparedText,
)
from captum_pairs.models.errors import (
    ModelUnavailableError,
    TextLengthError,
    UnreadableImageError,
)
from captum_pairs.models.loading import load
from captum_pairs.models.photo import read_image
from captum_pairs.models.view import Box, View

__all__ = [
    "Box",
    "ClipImageEncoder",
    "ClipTextEncoder",
    "DualEncoder",
    "Encoder",
    "Feature",
    "ModelUnavailableError",
    "Prepared",
    "PreparedImage",
    "PreparedText",
    "TextLengthError",
    "UnreadableImageError",
    "View",
    "load",
    "read_image",
]
