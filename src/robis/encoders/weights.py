"""Reading and checking files of weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from robis.errors import WeightsError
from robis.io.weights import check_file
from robis.io.weights import sha256 as digest_of


def first_line(error: Exception) -> str:
    """What an error says, short enough for a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def read_state(path: Path, *, sha256: str | None, key: str) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors or torch file; nothing is unpickled but tensors.

    Args:
        path: the file.
        sha256: digest that it must have; None does not check.
        key: the config key that names the file, for messages.

    Raises:
        WeightsError: no such file, another digest, or not a state dict.
    """
    check_file(path, key)
    if sha256 is not None and (found := digest_of(path)) != sha256:
        raise WeightsError(f"{key}: {path} has sha256 {found}; expected {sha256}. Fetch the file again.")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # safetensors, zip and unpickling errors share no base class
        raise WeightsError(f"{key}: {path} is not a readable weights file ({first_line(error)}).") from error
    for wrapper in ("state_dict", "model", "teacher"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{key}: {path} holds no state dict; expected parameter names and tensors.")
    return {name.removeprefix("module.").removeprefix("backbone."): value for name, value in state.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """What a .safetensors file says of itself; nothing for other files."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as stream:
        return dict(stream.metadata() or {})


def check_state(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, source: str, made_for: str) -> None:
    """Compare keys and shapes. Raises WeightsError at the first difference, with both shapes."""
    for key, value in expected.items():
        if key not in found:
            raise WeightsError(f"{source}: has no {key!r}; expected {tuple(value.shape)} for {made_for}.")
        if found[key].shape != value.shape:
            raise WeightsError(
                f"{source}: {key!r} is {tuple(found[key].shape)}; expected {tuple(value.shape)} for {made_for}. "
                f"The file was made for another model."
            )
    superfluous = [key for key in found if key not in expected]
    if superfluous:
        raise WeightsError(f"{source}: has {superfluous[0]!r}, which {made_for} does not. Made for another model.")
