"""What an encoder is beside its weights: settings of processors, structure, functions.

Two encoders of the same weights and the same description give the same numbers.
"""

import hashlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from types import CodeType, FunctionType, MethodType
from typing import Any, Optional

import numpy as np
import torch
from torch import nn, Tensor

__all__ = ["dense_parts", "described", "modules_of", "tensor_bytes", "tensors_of"]

# Of a configuration: where it came from, and not what it is.
_ORIGIN = re.compile(
    r"_?name_or_path|transformers_version|_commit_hash|(torch_)?dtype|architectures"
    r"|processor_class|_attn_implementation.*|_experts_implementation.*"
)
# Functions of these are told by their names; of anybody else's the code counts.
_KNOWN = "captum_pairs torch torchvision transformers open_clip clip timm numpy PIL"
_KNOWN_PACKAGES = frozenset([*_KNOWN.split(), "sentence_transformers", "functools"])
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# Objects in objects: a transform in a list in a transform.
_DEEPEST = 8


def described(encoder: object) -> str:
    """
    A digest of all that an encoder holds besides weights, the same in every process.

    What changes while it is used (caches, a tokenizer's current padding) is no part of
    it.
    """
    digest = hashlib.blake2b(digest_size=16)
    seen: set[int] = set()
    digest.update(_name(type(encoder)).encode())
    for name, value in sorted(_attributes(encoder)):
        for part in _parts(value, seen, _DEEPEST):
            digest.update(f"{name}: {part}\n".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def modules_of(encoder: object) -> list[nn.Module]:
    """The networks that an encoder holds, or whose functions speak of; none twice, and
    none that is part of another one."""
    own = getattr(encoder, "module", None)
    found = [] if own is None else [own]
    for _, value in sorted(_attributes(encoder)):
        if inspect.isroutine(value) or isinstance(value, partial):
            found += _spoken_of(value)
    whole: list[nn.Module] = []
    for module in found:
        inside = {id(part) for each in whole for part in each.modules()}
        if id(module) not in inside:
            whole.append(module)
    return whole


def _spoken_of(function: Any) -> Iterator[nn.Module]:
    """Networks in a function's closure, among its globals, or bound to it."""
    if isinstance(function, partial):
        for value in (function.func, *function.args, *function.keywords.values()):
            yield from _spoken_of(value)
    elif isinstance(function, nn.Module):
        yield function
    elif isinstance(function, MethodType):
        yield from _spoken_of(function.__self__)
        yield from _spoken_of(function.__func__)
    elif isinstance(function, FunctionType):
        variables = _variables(function)
        yield from (v for v in variables.values() if isinstance(v, nn.Module))


def _variables(function: FunctionType) -> dict[str, Any]:
    """What a function closes over, and globals that it names, but for modules."""
    found = dict(
        sorted(
            (name, cell.cell_contents)
            for name, cell in zip(
                function.__code__.co_freevars, function.__closure__ or ()
            )
            if _is_filled(cell)
        )
    )
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if value is not None and not inspect.ismodule(value):
            found[name] = value
    return found


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents
    except ValueError:
        return False
    return True


def _attributes(thing: object) -> Iterator[tuple[str, Any]]:
    """What was set, and not what was kept of an earlier question."""
    kind = type(thing)
    for name, value in vars(thing).items():
        if not isinstance(getattr(kind, name, None), cached_property):
            yield name, value


# ---- values ------------------------------------------------------------------


def _parts(value: Any, seen: set[int], depth: int) -> Iterator[str]:
    """A value in words that are the same in every process."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        yield repr(value)
        return
    if isinstance(value, (Tensor, np.ndarray)):
        tensor = value if isinstance(value, Tensor) else _as_tensor(value)
        yield f"{tuple(value.shape)} {value.dtype} {_short(tensor)}"
        return
    if id(value) in seen or depth == 0:
        yield _name(type(value))
        return
    seen.add(id(value))
    if isinstance(value, nn.Module):
        yield from _network(value)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            for part in _parts(value[key], seen, depth - 1):
                yield f"{key}={part}"
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _parts(each, seen, depth - 1)
    elif isinstance(value, (set, frozenset)):
        yield repr(sorted(map(repr, value)))
    elif isinstance(value, type):
        yield _name(value)
    elif isinstance(value, (partial, MethodType, FunctionType)):
        yield from _function(value, seen, depth)
    elif hasattr(value, "get_vocab"):
        yield _vocabulary(value)
    else:
        yield from _thing(value, seen, depth)


def _thing(value: Any, seen: set[int], depth: int) -> Iterator[str]:
    """Anything else: its own dictionary of settings, its attributes, or its words."""
    yield _name(type(value))
    if type(value).__module__.split(".")[0] == "captum_pairs":
        return  # what they are made from is among the encoder's own
    if callable(getattr(value, "to_dict", None)):
        yield json.dumps(_without_origin(value.to_dict()), sort_keys=True, default=str)
    elif hasattr(value, "__dict__"):
        for name, inner in sorted(_attributes(value)):
            for part in _parts(inner, seen, depth - 1):
                yield f"{name}={part}"
    else:
        yield _ADDRESS.sub("", repr(value))


def _function(value: Any, seen: set[int], depth: int) -> Iterator[str]:
    """Where it stands; of anybody's own its code; what it closes over."""
    if isinstance(value, partial):
        for each in (value.func, value.args, value.keywords):
            yield from _parts(each, seen, depth - 1)
        return
    if isinstance(value, MethodType):
        yield from _parts(value.__self__, seen, depth - 1)
        value = value.__func__
    if not isinstance(value, FunctionType):
        yield _ADDRESS.sub("", repr(value))
        return
    yield f"{value.__module__}.{value.__qualname__}"
    for default in (value.__defaults__, value.__kwdefaults__):
        yield from _parts(default, seen, depth - 1)
    is_own = (value.__module__ or "").split(".")[0] not in _KNOWN_PACKAGES
    if is_own:
        yield "".join(_code(value.__code__))
    variables = _variables(value)
    names = variables if is_own else value.__code__.co_freevars
    for name in names:
        if name in variables:
            for part in _parts(variables[name], seen, depth - 1):
                yield f"{name}={part}"


def _code(code: CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        elif isinstance(constant, frozenset):
            yield repr(sorted(map(repr, constant)))
        else:
            yield repr(constant)


def _network(module: nn.Module) -> Iterator[str]:
    """Its structure, its configuration, and buffers that no state_dict has."""
    yield _ADDRESS.sub("", repr(module))
    config: Any = getattr(module, "config", None)
    if callable(getattr(config, "to_dict", None)):
        content = _without_origin(config.to_dict())
        yield json.dumps(content, sort_keys=True, default=str)
    kept = {name for name, _ in tensors_of(module)}
    for name, buffer in module.named_buffers():
        if name not in kept:
            yield f"{name} {tuple(buffer.shape)} {_short(buffer)}"


def _without_origin(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {
            str(key): _without_origin(value)
            for key, value in content.items()
            if not _ORIGIN.fullmatch(str(key))
        }
    if isinstance(content, (list, tuple)):
        return [_without_origin(each) for each in content]
    return content


def _vocabulary(tokenizer: Any) -> str:
    """A tokenizer's class, and a digest of all that it makes of a text."""
    digest = hashlib.blake2b(digest_size=16)
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if callable(getattr(backend, "to_str", None)):
        content = json.loads(backend.to_str())
        for name in ("truncation", "padding"):  # of the latest call
            content.pop(name, None)
    else:
        content = [tokenizer.get_vocab(), getattr(tokenizer, "special_tokens_map", {})]
    digest.update(json.dumps(content, sort_keys=True, default=str).encode())
    for name in ("model_max_length", "padding_side", "do_lower_case"):
        digest.update(f"{name}={getattr(tokenizer, name, None)!r}".encode())
    return f"{_name(type(tokenizer))} {digest.hexdigest()}"


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _short(tensor: Optional[Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in [] if tensor is None else tensor_bytes(tensor):
        digest.update(part)
    return digest.hexdigest()


def _as_tensor(array: "np.ndarray[Any, Any]") -> Optional[Tensor]:
    if array.dtype.hasobject or not array.size:
        return None
    return torch.frombuffer(bytearray(array.tobytes()), dtype=torch.uint8)


# ---- weights -----------------------------------------------------------------


def tensors_of(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """A network's weights by name, as its state_dict has them; of quantised ones also
    what is no tensor."""
    yield from sorted(module.state_dict().items())


def tensor_bytes(value: Any) -> Iterator[Any]:
    """What a weight holds, as bytes or arrays of them, whatever it is stored as."""
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key).encode("utf-8", "surrogatepass")
            yield from tensor_bytes(value[key])
        return
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from tensor_bytes(part)
        return
    if not isinstance(value, Tensor):
        opened = _opened(value)
        if opened is not value:
            yield from tensor_bytes(opened)
        else:
            yield _ADDRESS.sub("", repr(value)).encode("utf-8", "backslashreplace")
        return
    for tensor in dense_parts(value):
        if isinstance(tensor, str):
            yield tensor.encode()
            continue
        flat = tensor.detach().cpu().contiguous().flatten()
        if flat.numel():
            yield flat.view(torch.uint8).numpy()


def dense_parts(value: Tensor) -> Iterator[Any]:
    """Plain tensors, and words, that a weight is made of."""
    value = value.detach()
    if value.device.type == "meta":
        yield "meta"
    elif value.is_quantized:
        yield value.int_repr()
        if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            yield repr((value.q_scale(), value.q_zero_point()))
        else:
            yield value.q_per_channel_scales()
            yield value.q_per_channel_zero_points()
    elif value.layout != torch.strided:
        dense = value.to_dense()
        yield dense
    elif hasattr(value, "__tensor_flatten__"):
        names, rest = value.__tensor_flatten__()
        yield _ADDRESS.sub("", repr(rest))
        for name in names:
            yield from dense_parts(getattr(value, name))
    else:
        yield value


def _opened(value: Any) -> Any:
    """What is packed for a kernel, as its parts."""
    # that of object, which a dict has too, tells of attributes alone
    if getattr(type(value), "__getstate__", None) is not object.__getstate__:
        try:
            return value.__getstate__()
        except (AttributeError, RuntimeError, TypeError):
            return value
    return value
