"""Captioned scenes with known truth, and the embedded model trained on them.

    >>> rng = np.random.default_rng(0)
    >>> scene = sample_scene(rng)
    >>> drawing = render(scene)
    >>> caption = sample_caption(rng, scene)
    >>> model = transformers.AutoModel.from_pretrained(checkpoint_path())

The commands ``python -m captum_pairs.scenes.train`` and
``python -m captum_pairs.scenes.evaluate`` train a checkpoint and measure one.
"""

from captum_pairs.scenes.captions import (
    Caption,
    Description,
    hard_negative,
    HardNegative,
    is_true,
    matching_objects,
    Phrase,
    PhraseSpans,
    sample_caption,
    write,
)
from captum_pairs.scenes.checkpoints import checkpoint_path, CHECKPOINTS
from captum_pairs.scenes.covering import cover
from captum_pairs.scenes.render import render, Rendering, visible_shares
from captum_pairs.scenes.scene import (
    Background,
    sample_scene,
    Scene,
    SceneObject,
    twin,
    WITHHELD,
)

__all__ = [
    "Background",
    "CHECKPOINTS",
    "Caption",
    "Description",
    "HardNegative",
    "Phrase",
    "PhraseSpans",
    "Rendering",
    "Scene",
    "SceneObject",
    "WITHHELD",
    "checkpoint_path",
    "cover",
    "hard_negative",
    "is_true",
    "matching_objects",
    "render",
    "sample_caption",
    "sample_scene",
    "twin",
    "visible_shares",
    "write",
]
