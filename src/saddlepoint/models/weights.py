"""Weights from a local file, read without executing code, and fitted key by key."""

import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saddlepoint.errors import WeightsError
from saddlepoint.models.pickles import first_code

_NESTS = (
    *("state_dict", "model_state_dict", "state_dict_ema", "model_ema", "ema_state_dict", "ema"),
    *("model", "net", "network", "weights"),
)
_MEND = "pass weights of the same architecture and number of classes"
_EXPECTED = "expected safetensors, or a state dict written by torch.save(model.state_dict(), FILE)"


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict in a file of safetensors or of `torch.save`, unwrapped from common nests.

    The format is told by the content, not by the file's name. Pickles are read with `weights_only=True`: one that would
    need to run code is refused.

    Raises:
        WeightsError: there is no such file, it is none of these formats, or it would have to execute code.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"cannot read weights {str(path)!r}: there is no such file; {_EXPECTED}")
    try:
        content = _safetensors(path) if _is_safetensors(path) else _pickled(path)
    except WeightsError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise WeightsError(f"cannot read weights {str(path)!r} ({reason}); {_EXPECTED}") from None
    return _state(content, path)


def fit(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load every tensor of a state dict into a module, strictly; a foreign prefix such as "module." is dropped.

    Raises:
        WeightsError: naming the first key that is missing, unexpected or of another shape.
    """
    own = module.state_dict()
    state = _unprefixed(state, own)
    # Modules read the versions of their layers from here; a file without them is taken to be of today.
    if not hasattr(state, "_metadata"):
        state = OrderedDict(state)
        setattr(state, "_metadata", getattr(own, "_metadata", {}))  # noqa: B010 - no declared attribute
    try:
        mismatch = module.load_state_dict(state, strict=False)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"the weights of {source} do not fit: {_first_finding(error)}; {_MEND}") from None
    for kind, keys in (("missing", mismatch.missing_keys), ("unexpected", mismatch.unexpected_keys)):
        if keys:
            raise WeightsError(
                f"the weights of {source} do not fit: {keys[0]} is {kind}; {_MEND}; the file's first key is "
                f"{next(iter(state))!r}"
            )


def _is_safetensors(path: Path) -> bool:
    """Return whether the file begins as safetensors do: the header's length in 8 bytes, then JSON."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def _safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors.torch import load_file

    return load_file(path)


def _pickled(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        code = _code(path, error)
        if code is None:
            raise
        raise WeightsError(
            f"refused weights {str(path)!r}: reading them would execute code ({code}); expected tensors alone: save "
            "them with torch.save(model.state_dict(), FILE) or as safetensors"
        ) from None


def _code(path: Path, error: Exception) -> str | None:
    """Return the code for which torch refuses a file; None if it is merely damaged."""
    if "TorchScript" in str(error):
        return "a TorchScript program"
    named = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
    if named is not None or not isinstance(error, pickle.UnpicklingError):
        return named and named[1]
    return first_code(path)


def _state(content: object, path: Path) -> dict[str, Tensor]:
    while isinstance(content, dict) and content:
        odd = next((key for key, value in content.items() if not _is_entry(key, value)), None)
        if odd is None:
            return content
        nest = next((nest for nest in _NESTS if isinstance(content.get(nest), dict)), None)
        if nest is None:
            raise WeightsError(f"weights {str(path)!r} hold no tensor under {odd!r}; {_EXPECTED}")
        content = content[nest]
    held = "nothing" if isinstance(content, dict) else f"a {type(content).__name__}"
    raise WeightsError(f"weights {str(path)!r} hold {held}; {_EXPECTED}")


def _is_entry(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)


def _unprefixed(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state without what stands before all of its keys, or before a set of them that has all of the own."""
    first = next(iter(own), None)
    if first is None or first in state:
        return state
    for key in state:
        prefix = key.removesuffix(first)
        if key.endswith(f".{first}") and (all(key.startswith(prefix) for key in state) or _has(state, prefix, own)):
            return {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
    return state


def _has(state: Mapping[str, Tensor], prefix: str, own: Mapping[str, Tensor]) -> bool:
    return all(f"{prefix}{key}" in state for key in own)


def _first_finding(error: Exception) -> str:
    text = str(error)
    shapes = re.search(r"size mismatch for (\S+): .*?torch\.Size\(\[(.*?)\]\).*?torch\.Size\(\[(.*?)\]\)", text)
    if shapes:
        return f"{shapes[1]} has shape ({shapes[2]}), expected ({shapes[3]})"
    return " ".join(text.split())[:160]
