"""Encoders: what turns a photo or a sentence into inputs, features and an embedding.

>>> model = load("openai/clip-vit-base-patch32")
>>> photo, caption = model.first.prepare("dog.jpg"), model.second.prepare("a dog")
>>> model.first.embed(photo.inputs, *photo.arguments)  # (1, 512)
"""

from captum_pairs.models.encoder import (
    Encoder,
    Feature,
    Layer,
    Layout,
    Prepared,
    Source,
)
from captum_pairs.models.encoder_pair import EncoderPair, Head
from captum_pairs.models.errors import (
    ModelUnavailableError,
    TextLengthError,
    UnreadableImageError,
    UnreadableSoundError,
)
from captum_pairs.models.functions import from_functions, from_score
from captum_pairs.models.images import ImageEncoder, PreparedImage
from captum_pairs.models.late_interaction import (
    LateInteractionPair,
    OutputTokens,
    TokenEncoder,
)
from captum_pairs.models.loading import load
from captum_pairs.models.photo import read_image
from captum_pairs.models.registry import register_loader, Support, SUPPORTED
from captum_pairs.models.siamese import siamese
from captum_pairs.models.texts import PreparedText, TextEncoder
from captum_pairs.models.view import Box, View

__all__ = [
    "Box",
    "Encoder",
    "EncoderPair",
    "Feature",
    "from_functions",
    "from_score",
    "Head",
    "ImageEncoder",
    "LateInteractionPair",
    "Layer",
    "Layout",
    "load",
    "ModelUnavailableError",
    "OutputTokens",
    "Prepared",
    "PreparedImage",
    "PreparedText",
    "read_image",
    "register_loader",
    "siamese",
    "Source",
    "Support",
    "SUPPORTED",
    "TextEncoder",
    "TextLengthError",
    "TokenEncoder",
    "UnreadableImageError",
    "UnreadableSoundError",
    "View",
]
