"""
The studies, by name: one file each.

Which columns each writes: ``STUDIES[name].columns``; tables: its ``tables``.
"""

from collections.abc import Mapping
from typing import Any

from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.studies.failures import Failures
from captum_pairs.grounding.studies.faithfulness import Faithfulness
from captum_pairs.grounding.studies.gaps import Gaps
from captum_pairs.grounding.studies.grounding import Grounding
from captum_pairs.grounding.studies.negatives import Negatives
from captum_pairs.grounding.studies.retrieval import Retrieval
from captum_pairs.grounding.study import Study

__all__ = ["STUDIES", "study_of"]

STUDIES: dict[str, type[Study]] = {
    study.name: study
    for study in (Grounding, Faithfulness, Negatives, Gaps, Failures, Retrieval)
}


def study_of(name: str, parameters: Mapping[str, Any]) -> Study:
    """
    A study with its parameters, as a plan has them.

    Raises:
        InvalidArgumentError: naming ``study``, if there is none of that name, or it has
            no such parameter.
    """
    if name not in STUDIES:
        raise InvalidArgumentError("study", f"one of {', '.join(STUDIES)}", repr(name))
    known = list(STUDIES[name]().parameters())
    for parameter in parameters:
        if parameter not in known:
            expected = f"parameters of {name} ({', '.join(known)})"
            raise InvalidArgumentError("study", expected, repr(parameter))
    return STUDIES[name](**parameters)
