"""What a person may write: the methods, and the kinds of models, by their names.

Nothing is imported for them, so that the command can refuse a wrong name at once; the
registries (:mod:`captum_pairs.explain.methods`, :mod:`captum_pairs.models.registry`)
are filled from here.
"""

from collections.abc import Collection
from difflib import get_close_matches
from typing import NamedTuple

__all__ = ["did_you_mean", "Kind", "KINDS", "METHODS", "TAKEN_BY"]

# Each method's class in captum_pairs.attr, integrated gradients first.
METHODS = {
    "integrated_gradients": "IntegratedJacobian",
    "expected_gradients": "ExpectedJacobian",
    "jacobian_x_input": "JacobianXInput",
    "occlusion": "EmbeddingOcclusion",
    "banzhaf": "EmbeddingBanzhaf",
    "shapley": "EmbeddingShapley",
    "lime": "EmbeddingLime",
    "token_similarity": "TokenDecomposition",
}

# Options that some methods take and others refuse, and who takes them.
TAKEN_BY = {
    "tolerance": ("integrated_gradients", "expected_gradients"),
    "n_steps": ("integrated_gradients", "expected_gradients"),
    "n_samples": ("banzhaf", "shapley", "lime"),
}


class Kind(NamedTuple):
    """
    A kind of model that can be loaded.

    Args:
        models: which ones these are, in words.
        write: an example of what `load` takes.
        package: that has to be installed for it, as pip knows it.
        module: that it is imported as.
    """

    models: str
    write: str
    package: str = ""
    module: str = ""


# By the prefix that their names begin with.
KINDS = {
    "scenes": Kind("the model that comes with this package", "scenes"),
    "transformers": Kind(
        "CLIP, MetaCLIP 2, SigLIP, SigLIP 2, ALIGN, AltCLIP, Chinese-CLIP, BLIP "
        "(image-text retrieval), VisionTextDualEncoder, CLAP (sound)",
        "openai/clip-vit-base-patch32 (hub id or directory)",
        "transformers",
        "transformers",
    ),
    "open_clip": Kind(
        "open_clip: ViT, ResNet and timm towers, CoCa, custom text towers",
        "open_clip:ViT-B-32/laion2b_s34b_b79k",
        "open_clip_torch",
        "open_clip",
    ),
    "clip": Kind("OpenAI's clip package", "clip:ViT-B/32", "openai-clip", "clip"),
    "sentence-transformers": Kind(
        "sentence-transformers",
        "sentence-transformers/all-MiniLM-L6-v2 (hub id or directory)",
        "sentence-transformers",
        "sentence_transformers",
    ),
    "cross-encoder": Kind(
        "cross-encoders and rerankers of sentence-transformers and transformers "
        "(…ForSequenceClassification of two texts)",
        "cross-encoder/ms-marco-MiniLM-L6-v2 (hub id or directory)",
        "transformers",
        "transformers",
    ),
    "itm": Kind(
        "image-text matching heads: BLIP, BLIP-2, ViLT, BridgeTower",
        "itm:Salesforce/blip-itm-base-coco (hub id or directory)",
        "transformers",
        "transformers",
    ),
    "multi-vector": Kind(
        "late interaction of texts: MultiVectorEncoder of sentence-transformers "
        "(ColBERT, PyLate)",
        "lightonai/GTE-ModernColBERT-v1 (hub id or directory)",
        "sentence-transformers",
        "sentence_transformers",
    ),
    "page-retrieval": Kind(
        "late interaction of page images and texts: ColPali, ColQwen2, ColModernVBert",
        "vidore/colqwen2-v1.0-hf (hub id or directory)",
        "transformers",
        "transformers",
    ),
    "torchvision": Kind(
        "torchvision's classifiers as Siamese image encoders",
        "torchvision:resnet50",
        "torchvision",
        "torchvision",
    ),
}


def did_you_mean(name: str, known: Collection[str]) -> str:
    """What a wrong name may have been meant to be, for the end of a message."""
    folded = {each.casefold(): each for each in known}
    close = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean “{folded[close[0]]}”?" if close else ""
