"""How results are written to files, and read back."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Optional

from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import Feature, Source
from torch import Tensor

__all__ = ["input_from_json", "input_to_json"]


def input_to_json(side: ExplainedInput) -> dict[str, Any]:
    """An input without its picture, as JSON takes it."""
    source = replace(side.source, picture=None)
    content = asdict(replace(side, source=source))
    del content["source"]["picture"]
    content["features"] = [
        {
            key: value
            for key, value in asdict(feature).items()
            if value not in (None, False)
        }
        for feature in side.features
    ]
    return content


def input_from_json(
    content: Mapping[str, Any], picture: Optional[Tensor] = None
) -> ExplainedInput:
    """An input from what JSON made of it."""
    values = dict(content)
    source = {key: _tuple(value) for key, value in content["source"].items()}
    shown = None if picture is None else picture.numpy()
    values["source"] = Source(**source, picture=shown)
    values["features"] = tuple(
        Feature(**{key: _tuple(value) for key, value in row.items()})
        for row in content["features"]
    )
    values["grid"] = _tuple(content["grid"])
    return ExplainedInput(**values)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
