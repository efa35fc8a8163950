"""Feature-pair attributions of dual encoders: which word matched which region.

>>> import captum_pairs
>>> model = captum_pairs.load("openai/clip-vit-base-patch32")
>>> print(model.explain("dog.jpg", "a brown dog on a sofa").summary())
"""

from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from captum_pairs.explain.baseline_report import baseline_report, BaselineReport
    from captum_pairs.explain.comparison import Comparison
    from captum_pairs.explain.contrast import Contrast
    from captum_pairs.explain.contributions import Contributions
    from captum_pairs.explain.methods import register_method
    from captum_pairs.explain.pair import PairExplanation
    from captum_pairs.explain.references import References
    from captum_pairs.explain.zero_shot import ZeroShot
    from captum_pairs.model import (
        DualEncoder,
        from_functions,
        from_score,
        LateInteraction,
        load,
        PairScorer,
        siamese,
    )
    from captum_pairs.models import register_loader
    from captum_pairs.search.index import Index

__version__ = "0.2.0"

# Where each public name is; imported when it is asked for, so that the command line
# answers at once and captum_pairs.attr needs nothing but torch and captum.
_HOMES = {
    "baseline_report": "captum_pairs.explain.baseline_report",
    "BaselineReport": "captum_pairs.explain.baseline_report",
    "Comparison": "captum_pairs.explain.comparison",
    "Contrast": "captum_pairs.explain.contrast",
    "Contributions": "captum_pairs.explain.contributions",
    "DualEncoder": "captum_pairs.model",
    "from_functions": "captum_pairs.model",
    "from_score": "captum_pairs.model",
    "Index": "captum_pairs.search.index",
    "LateInteraction": "captum_pairs.model",
    "load": "captum_pairs.model",
    "PairExplanation": "captum_pairs.explain.pair",
    "PairScorer": "captum_pairs.model",
    "References": "captum_pairs.explain.references",
    "register_loader": "captum_pairs.models",
    "register_method": "captum_pairs.explain.methods",
    "siamese": "captum_pairs.model",
    "ZeroShot": "captum_pairs.explain.zero_shot",
}

__all__ = [
    "baseline_report",
    "BaselineReport",
    "Comparison",
    "Contrast",
    "Contributions",
    "DualEncoder",
    "from_functions",
    "from_score",
    "Index",
    "LateInteraction",
    "load",
    "PairExplanation",
    "PairScorer",
    "References",
    "register_loader",
    "register_method",
    "siamese",
    "ZeroShot",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
