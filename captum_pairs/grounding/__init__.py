"""What does a model know? Studies over data sets.

>>> from captum_pairs import grounding
>>> grounding.run("grounding", data="scenes:500", model="scenes", out="results")
>>> results = grounding.load("results")
>>> results.tables()["figures"], results.to_frame()
"""

from captum_pairs.grounding.comparing import compare, curve
from captum_pairs.grounding.data import open_data, Row
from captum_pairs.grounding.during_training import DuringTraining
from captum_pairs.grounding.results import load, Results
from captum_pairs.grounding.running import run
from captum_pairs.grounding.studies import STUDIES, study_of
from captum_pairs.grounding.study import Study
from captum_pairs.grounding.training import class_counts

__all__ = [
    "class_counts",
    "compare",
    "curve",
    "DuringTraining",
    "load",
    "open_data",
    "Results",
    "Row",
    "run",
    "STUDIES",
    "Study",
    "study_of",
]
