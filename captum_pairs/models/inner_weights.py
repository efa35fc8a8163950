"""What transformers found of a model's weights, where another library has it load them
and hands on the model alone."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from captum_pairs.models.hugging_face import check_missing, check_weights
from transformers import PreTrainedModel

__all__ = ["check_found", "Found", "weights_found"]

# Models that were loaded, and what was found of their weights.
Found = list[tuple[PreTrainedModel, dict[str, Any]]]

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def weights_found() -> Iterator[Found]:
    """Inside, what this thread loads by transformers is listed; weights of other sizes
    are for :func:`check_found` to refuse."""
    found: Found = []
    thread = threading.get_ident()
    with _ONE_AT_A_TIME:
        own = PreTrainedModel.__dict__["from_pretrained"]

        def telling(cls: type[PreTrainedModel], *args: Any, **kwargs: Any) -> Any:
            load = own.__get__(None, cls)
            if threading.get_ident() != thread or kwargs.get("output_loading_info"):
                return load(*args, **kwargs)
            told = {"output_loading_info": True, "ignore_mismatched_sizes": True}
            loaded = load(*args, **{**kwargs, **told})
            found.append(loaded)
            return loaded[0]

        # no method is assigned to otherwise, hence the ignored errors
        replaced: Any = classmethod(telling)
        PreTrainedModel.from_pretrained = replaced  # type: ignore[method-assign]
        try:
            yield found
        finally:
            PreTrainedModel.from_pretrained = own  # type: ignore[method-assign]


def check_found(name: str, found: Found, run: Callable[[], Any]) -> None:
    """
    Refuse weights of other sizes, those of layers that the configuration does not have,
    and missing ones. A pooling layer that nothing reads is often missing, and may be.

    Args:
        run: the model's numbers for an input, the same each time.

    Raises:
        ModelUnavailableError: with what is wrong.
    """
    for model, told in found:
        check_weights(name, {**told, "missing_keys": ()})
        missing = sorted(told["missing_keys"])
        if missing and _is_read(model, missing, run):
            read = [key for key in missing if _is_read(model, [key], run)]
            check_missing(name, {"missing_keys": read})


def _is_read(model: PreTrainedModel, keys: list[str], run: Callable[[], Any]) -> bool:
    """Whether a model's numbers change with any of some weights. NaN in their place
    would not do: attention kernels give zeros for it."""
    noise = torch.Generator().manual_seed(0)
    weights = [model.get_parameter_or_buffer(key) for key in keys]
    weights = [each for each in weights if each.is_floating_point()]
    kept = [each.detach().clone() for each in weights]
    before = torch.as_tensor(run())
    with torch.no_grad():
        try:
            for each in weights:
                each.add_(torch.randn(each.shape, generator=noise))
            return not torch.equal(before, torch.as_tensor(run()))
        finally:
            for each, value in zip(weights, kept):
                each.copy_(value)
