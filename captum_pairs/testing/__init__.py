"""Contracts that a new adapter or method passes: call them in your own tests.

>>> from captum_pairs.testing import check_encoder, check_method
>>> check_encoder(captum_pairs.load("mine:small"))
>>> check_method(FeaturePairMine)
"""

from captum_pairs.testing.broken import BrokenContractError
from captum_pairs.testing.encoders import check_encoder
from captum_pairs.testing.methods import check_method

__all__ = ["BrokenContractError", "check_encoder", "check_method"]
