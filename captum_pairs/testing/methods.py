"""The contract of a method: what its users and Captum's tools rely on."""

import copy
import inspect
import pickle
from collections.abc import Callable, Mapping
from typing import Any, Optional

import torch
from captum.attr import Attribution
from captum_pairs.attr import (
    EmbeddingAttribution,
    InvalidArgumentError,
    pair,
    PairAttribution,
    validation,
)
from captum_pairs.testing.broken import BrokenContractError, refused, require, unchanged
from torch import nn, Tensor

__all__ = ["check_method", "TextLike"]

# A batch, tokens and channels of the inputs; and dimensions of the embedding.
_B, _T, _D, _K = 3, 4, 2, 5


class TextLike(nn.Module):
    """
    A small encoder with a layer of tokens: (b, tokens, 2) to (b, 5), with weights of
    the tokens (b, tokens) as a further argument.
    """

    def __init__(self, seed: int, tokens: int = _T) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.tokens = nn.Linear(_D, 3, bias=False)
            self.nonlinear = nn.ReLU()
            self.head = nn.Linear(3, _K)
            self.shift = nn.Parameter(torch.randn(1, tokens, 1))
        self.double().eval()

    def forward(self, x: Tensor, weights: Optional[Tensor] = None) -> Tensor:
        hidden: Tensor = self.tokens(x * (1 + 0.1 * self.shift))
        if weights is not None:
            hidden = hidden * weights[..., None]
        embedding: Tensor = self.head(self.nonlinear(hidden + 0.5 * hidden**2).mean(1))
        return embedding


class _Failing(nn.Module):
    """An encoder that works a few times, and then does not."""

    def __init__(self, inner: nn.Module, times: int) -> None:
        super().__init__()
        self.inner, self.left = inner, times

    def forward(self, *inputs: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise _ToldToFailError
        found: Tensor = self.inner(*inputs)
        return found


class _ToldToFailError(Exception):
    """What a failing encoder raises."""


def check_method(
    method: type[Attribution],
    make: Optional[Callable[..., Any]] = None,
    *,
    settings: Optional[Mapping[str, Any]] = None,
    pickles: bool = True,
    tolerance: float = 1e-8,
) -> None:
    """
    Check what every method promises.

    It has Captum's interface and says truly what it has of it; its results are of the
    shapes that masks and layers ask for, in the inputs' precision; a batch gives what
    each of its examples gives alone, in any order, with its own further arguments; a
    decomposition adds up; a copy gives the same; nothing of a model, its inputs or the
    random numbers of the process is left changed, after a result and after an
    exception; bad input gets an error that names the argument.

    Args:
        method: a subclass of :class:`captum_pairs.attr.EmbeddingAttribution` or of
            :class:`captum_pairs.attr.PairAttribution`.
        make: makes one of an encoder (or a pair of encoders, :class:`TextLike`) and
            keywords; default: the class itself.
        settings: a call's, such as a number of samples; a ``torch.Generator`` is made
            anew for each call.
        pickles: whether it can be copied; what is made of a library's rules may not.
        tolerance: how far results may be apart that should be the same.

    Raises:
        BrokenContractError: an ``AssertionError`` that names what does not hold.
        InvalidArgumentError: naming another argument of this function.
    """
    is_pair = isinstance(method, type) and issubclass(method, PairAttribution)
    if not is_pair and not (
        isinstance(method, type) and issubclass(method, EmbeddingAttribution)
    ):
        raise BrokenContractError("a method is an EmbeddingAttribution or its pair")
    maker = method if make is None else make
    if not callable(maker):
        raise InvalidArgumentError("make", "a function", validation.describe(make))
    own: object = {} if settings is None else settings
    if not isinstance(own, Mapping) or not all(isinstance(name, str) for name in own):
        raise InvalidArgumentError(
            "settings", "names and values", validation.describe(settings)
        )
    known = inspect.signature(method.attribute).parameters
    for name in own:
        if name not in known and "kwargs" not in known:
            raise InvalidArgumentError(
                "settings", f"names of {', '.join(known)}", f"{name!r}"
            )
    validation.flag("pickles", pickles)
    validation.positive_float("tolerance", tolerance)
    contract = _Contract(method, maker, is_pair, dict(own), tolerance)
    contract.check_interface()
    contract.check_shapes()
    contract.check_batch()
    contract.check_decomposition()
    contract.check_what_is_left()
    contract.check_refusals()
    contract.check_layer()
    if pickles:
        contract.check_copies()
    if is_pair:
        contract.check_product()


class _Contract:
    def __init__(
        self,
        method: type[Attribution],
        make: Callable[..., Any],
        is_pair: bool,
        settings: dict[str, Any],
        tolerance: float,
    ) -> None:
        self.method, self._make, self.is_pair = method, make, is_pair
        self._settings, self._tolerance = settings, tolerance
        generator = torch.Generator().manual_seed(0)
        self.x, self.y = (
            torch.randn(_B, _T, _D, generator=generator, dtype=torch.float64)
            for _ in range(2)
        )
        self.weights = torch.rand(_B, _T, generator=generator, dtype=torch.float64) + 1
        self.encoders = TextLike(1), TextLike(2)

    # ---- calls -------------------------------------------------------------

    def made(self, encoders: Any = None, **options: Any) -> Any:
        encoders = self.encoders if encoders is None else encoders
        return self._make(encoders if self.is_pair else encoders[0], **options)

    def both(self, first: Any, second: Any = None) -> Any:
        """An argument as the method takes it."""
        return (first, first if second is None else second) if self.is_pair else first

    def settings(self) -> dict[str, Any]:
        return {
            name: (
                torch.Generator().manual_seed(0)
                if isinstance(value, torch.Generator)
                else value
            )
            for name, value in self._settings.items()
        }

    def attribute(self, made: Any = None, rows: Any = slice(None), **more: Any) -> Any:
        made = self.made() if made is None else made
        inputs = self.both(self.x[rows], self.y[rows])
        return made.attribute(inputs, **{**self.settings(), **self.by_position, **more})

    @property
    def by_position(self) -> dict[str, Any]:
        """One feature for each position of the inputs."""
        return {"feature_mask": self.both(torch.arange(_T).reshape(1, _T, 1))}

    def close(self, found: Tensor, wanted: Tensor, promise: str) -> None:
        require(found.shape == wanted.shape, promise, f"shape {tuple(found.shape)}")
        scale = max(1.0, float(wanted.abs().max()))
        error = float((found - wanted).abs().max())
        require(error <= self._tolerance * scale, promise, f"a difference of {error}")

    # ---- Captum's interface ------------------------------------------------

    def check_interface(self) -> None:
        made, method = self.made(), self.method
        require(isinstance(made, Attribution), "it is a captum.attr.Attribution")
        names = list(inspect.signature(method.attribute).parameters)
        require(names[:2] == ["self", "inputs"], "attribute takes inputs first", names)
        require(bool(method.get_name()), "it has a name")
        require(bool(inspect.getdoc(method)), "its class is documented")
        for name in ("attribute", "compute_convergence_delta"):
            function = getattr(method, name)
            require(
                hasattr(function, "__wrapped__"),
                f"{name} is logged as Captum's methods are (captum.log.log_usage)",
            )
        for name in ("multiplies_by_inputs", "has_convergence_delta"):
            value = getattr(made, name)
            value = value() if name[:3] == "has" else value
            require(isinstance(value, bool), f"{name} is True or False", value)
        try:
            made.attribute_future()
        except NotImplementedError:
            pass
        else:
            raise BrokenContractError(
                "attribute_future is not implemented, and says so"
            )
        self._check_delta(made)

    def _check_delta(self, made: Any) -> None:
        """has_convergence_delta is true to what compute_convergence_delta does."""
        found, inputs = self.attribute(made), self.both(self.x, self.y)
        start = self.both(0) if self._has_baseline else None
        if not made.has_convergence_delta():
            try:
                made.compute_convergence_delta(found, start, inputs)
            except NotImplementedError:
                return
            raise BrokenContractError(
                "has_convergence_delta is True if there is one, or "
                "compute_convergence_delta raises NotImplementedError"
            )
        delta = made.compute_convergence_delta(found, start, inputs)
        total = found.flatten(1).sum(1) if self.is_pair else found.flatten(1, -2).sum(1)
        with torch.no_grad():
            self.close(
                delta,
                total - self._target(made),
                "compute_convergence_delta is the sum minus what it should be",
            )

    def _target(self, made: Any) -> Tensor:
        """What attributions sum to if they are complete, by the encoders alone."""
        x, y = self.x, self.y
        nothing = torch.zeros_like(x)
        f: Callable[..., Tensor] = made.forward_func
        if self.is_pair:
            if not self._has_baseline:
                return f(x, y)
            return f(x, y) - f(nothing, y) - f(x, nothing) + f(nothing, nothing)
        return f(x) - f(nothing) if self._has_baseline else f(x)

    @property
    def _has_baseline(self) -> bool:
        found: Any = self.method
        if self.is_pair:
            found = found.embedding_attribution
        return bool(found.has_baseline)

    # ---- results -----------------------------------------------------------

    def check_shapes(self) -> None:
        tail = () if self.is_pair else (_K,)
        found = self.attribute()
        one = found.shape[1:]
        features = one if self.is_pair else one[:-1]
        require(
            found.shape[0] == _B and found.dtype == torch.float64,
            "a result has the inputs' batch and precision",
            f"{tuple(found.shape)} of {found.dtype}",
        )
        require(found.is_contiguous(), "a result is contiguous")
        require(bool(torch.isfinite(found).all()), "a result is finite")
        require(not found.requires_grad, "a result has no graph")
        require(bool(found.any()), "a result is not zero everywhere", tuple(features))
        mask = torch.tensor([0, 1, 1, 2]).reshape(1, _T, 1)
        masked = self.attribute(feature_mask=self.both(mask))
        axes = (3, 3) if self.is_pair else (3,)
        require(
            tuple(masked.shape) == (_B, *axes, *tail),
            "with a feature mask there is an axis of the mask's features",
            tuple(masked.shape),
        )
        single = self.x.float(), self.y.float()
        encoders = tuple(copy.deepcopy(each).float() for each in self.encoders)
        made = self.made(encoders)
        half = made.attribute(self.both(*single), **self.settings(), **self.by_position)
        require(half.dtype == torch.float32, "float32 stays float32", half.dtype)

    def check_batch(self) -> None:
        mask = self.both(torch.tensor([0, 1, 1, 2]).reshape(1, _T, 1))
        args = self.both(self.weights)
        options = {"feature_mask": mask, "additional_forward_args": args}
        whole = self.attribute(**options)
        require(
            not torch.allclose(whole, self.attribute(feature_mask=mask)),
            "further arguments of the encoder reach it",
        )
        for row in range(_B):
            rows = slice(row, row + 1)
            options["additional_forward_args"] = self.both(self.weights[rows])
            alone = self.attribute(rows=rows, **options)
            if not self._is_random:
                self.close(whole[rows], alone, "a batch is what its examples are alone")
        order = torch.tensor([2, 0, 1])
        options["additional_forward_args"] = self.both(self.weights[order])
        if not self._is_random:
            self.close(
                self.attribute(rows=order, **options),
                whole[order],
                "another order of the examples is another order of the results",
            )

    @property
    def _is_random(self) -> bool:
        """Whether subsets are drawn, so that an example's depend on those before."""
        return any(isinstance(v, torch.Generator) for v in self._settings.values())

    def check_decomposition(self) -> None:
        made, inputs = self.made(), self.both(self.x, self.y)
        given = {**self.settings(), **self.by_position}
        found = made.decompose(inputs, **given)
        promise = "a decomposition adds up, its delta included"
        if self.is_pair:
            parts = found.first, found.second, found.interactions
            total = found.constant + sum(part.flatten(1).sum(1) for part in parts)
            self.close(total - found.convergence_delta, found.score, promise)
            with torch.no_grad():
                score = made.forward_func(self.x, self.y)
            self.close(found.score, score, "its score is the similarity")
            return
        total = found.contributions.flatten(1, -2).sum(1) + found.baseline_embedding
        self.close(total - found.convergence_delta, found.embedding, promise)
        directions = torch.eye(_K, dtype=torch.float64)[:2]
        read = made.read(inputs, directions, **{**self.settings(), **self.by_position})
        self.close(
            read.attributions,
            self.attribute(made) @ directions.T,
            "readings are the contributions along directions",
        )

    def check_product(self) -> None:
        """The pair method is the product of both sides' vectors."""
        made: Any = self.made(similarity="dot")
        if self._is_random:
            return
        (mask, _), given = self.by_position["feature_mask"], self._side_settings()
        first = made.first.decompose(self.x, feature_mask=mask, **given)
        second = made.second.decompose(self.y, feature_mask=mask, **given)
        product = pair(first.contributions, second.contributions)
        given = {**self.settings(), **self.by_position}
        found = made.decompose((self.x, self.y), **given).interactions
        self.close(found, product, "pairs are inner products of both sides' vectors")

    def _side_settings(self) -> dict[str, Any]:
        known: Any = self.method
        per_side = getattr(known.embedding_attribution.settings_type, "per_side", ())
        return {n: v for n, v in self.settings().items() if n not in per_side}

    def check_layer(self) -> None:
        layers = self.both(self.encoders[0].nonlinear, self.encoders[1].nonlinear)
        made = self.made(layer=layers)
        for inner in (False, True):
            names = inspect.signature(self.method.attribute).parameters
            if inner and "attribute_to_layer_input" not in names:
                continue
            more = {"attribute_to_layer_input": True} if inner else {}
            found = self.attribute(made, **{"feature_mask": None, **more})
            wanted = (_B, _T, _T) if self.is_pair else (_B, _T, _K)
            require(
                tuple(found.shape) == wanted,
                "at a layer there is a feature for each position",
                tuple(found.shape),
            )

    # ---- copies, and what is left ------------------------------------------

    def check_copies(self) -> None:
        made, whole = self.made(), self.attribute()
        copies = {
            "pickled": pickle.loads(pickle.dumps(made)),
            "copied": copy.deepcopy(made),
        }
        for name, copied in copies.items():
            self.close(self.attribute(copied), whole, f"what was {name} gives the same")

    def check_what_is_left(self) -> None:
        kept = self.x.clone(), self.y.clone()
        self.x.requires_grad_()
        state = torch.random.get_rng_state()
        with unchanged(self.encoders[0]), unchanged(self.encoders[1]):
            self.attribute()
        require(
            "generator" in self._names
            or bool((state == torch.random.get_rng_state()).all()),
            "the process's random numbers are as they were",
        )
        require(self.x.requires_grad, "requires_grad of an input is as it was")
        self.x.requires_grad_(False)
        require(
            all(map(torch.equal, kept, (self.x, self.y))), "inputs are as they were"
        )
        for times in range(4):
            failing = tuple(_Failing(each, times) for each in self.encoders)
            with unchanged(failing[0]), unchanged(failing[1]):
                try:
                    self.attribute(self.made(failing))
                except _ToldToFailError:
                    pass

    @property
    def _names(self) -> list[str]:
        return list(inspect.signature(self.method.attribute).parameters)

    def check_refusals(self) -> None:
        ids = torch.ones(_B, _T, _D, dtype=torch.int64)

        def with_nan(x: Tensor, *args: Any) -> Tensor:
            found: Tensor = self.encoders[0](x, *args)
            return found * float("nan")

        def calls(**more: Any) -> Callable[[], None]:
            return lambda: [self.attribute(**more)].clear()

        mask = torch.zeros(1, _T, 1)
        name = "[0]" if self.is_pair else ""
        refused(
            calls(feature_mask=self.both(mask)),
            "a mask of floats",
            f"feature_mask{name}",
        )
        wrong = torch.zeros(1, _T + 1, 1, dtype=torch.int64)
        refused(
            calls(feature_mask=self.both(wrong)),
            "another shape's mask",
            f"feature_mask{name}",
        )
        if self._has_baseline:
            start = self.both(torch.zeros(1, _T + 1, _D))
            refused(
                calls(baselines=start), "another shape's baseline", f"baselines{name}"
            )
        made = self.made()
        refused(
            lambda: [made.attribute(self.both(ids), **self.settings())].clear(),
            "token ids without a layer",
            f"inputs{name}",
        )
        refused(
            lambda: [made.attribute(self.both(self.x[:0]), **self.settings())].clear(),
            "an empty batch",
            f"inputs{name}",
        )
        if self.is_pair:
            refused(
                lambda: [made.attribute(self.x, **self.settings())].clear(),
                "one input instead of a pair",
                "inputs",
            )
        if isinstance(self._make, type):
            refused(
                lambda: [
                    self.attribute(self.made((with_nan, self.encoders[1])))
                ].clear(),
                "an encoder that gives NaN",
                "forward_func",
            )
