"""An explanation as a picture: the inputs, the parts of the score, what matched what.

Orange speaks for the match and purple against it. The drawing is done by
:mod:`captum_pairs.attr.visualization`; here is decided what is shown where.
"""

from captum_pairs.show.pictures.comparison import draw_comparison
from captum_pairs.show.pictures.contrast import draw_contrast
from captum_pairs.show.pictures.lines import draw_pairs
from captum_pairs.show.pictures.maps import Scales
from captum_pairs.show.pictures.pair import draw, save_picture
from captum_pairs.show.pictures.search import draw_hits, draw_paraphrases
from captum_pairs.show.pictures.tokens import draw_token_map
from captum_pairs.show.pictures.zero_shot import draw_zero_shot

__all__ = [
    "draw",
    "draw_comparison",
    "draw_contrast",
    "draw_hits",
    "draw_pairs",
    "draw_paraphrases",
    "draw_token_map",
    "draw_zero_shot",
    "save_picture",
    "Scales",
]
