"""Reading weight files: state dicts of tensors, nothing unpickled, and what else a file turns out to be."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from robis.errors import WeightsError
from robis.io.copies import copy_of
from robis.io.names import expanded
from robis.io.weights import check_file, other_kind
from robis.io.weights import sha256 as digest_of

# Under these keys training code keeps a model's state dict; the first that the file has is taken.
_WRAPPERS = ("state_dict", "model", "teacher")
_PREFIXES = ("module.", "backbone.")
_TENSORS_ONLY = "Expected a .safetensors file, or a torch file of parameter names and tensors alone."


def first_line(error: Exception) -> str:
    """What an error says, short enough for a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def read_state(
    path: Path, *, sha256: str | None, key: str, sha256_key: str | None = None, advice: str = ""
) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors or torch file; nothing is unpickled but tensors.

    The content decides which of both it is, not the suffix. A state dict under "state_dict", "model" or "teacher" is
    taken from there, and the prefixes "module." and "backbone." are dropped.

    Args:
        path: the file.
        sha256: digest that it must have; None does not check.
        key: the config key that names the file, for messages.
        sha256_key: the config key that gives the digest, for messages.
        advice: what messages end with, such as where the right file is published.

    Raises:
        WeightsError: no such file, another digest, or not a state dict.
    """
    check_file(path, key, advice)
    path = expanded(path)
    _check_digest(path, sha256, f"{key}: {path}", sha256_key or f"{key.rpartition('.')[0]}.sha256", advice)
    content = _load(copy_of(path), f"{key}: {path}", advice)
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{key}: {path} holds {_contents(content)}. {advice or _TENSORS_ONLY}")
    return _without_prefixes(content, f"{key}: {path}")


def read_metadata(path: Path) -> dict[str, str]:
    """What a .safetensors file says of itself; nothing for other files."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(copy_of(path), framework="pt") as stream:
        return dict(stream.metadata() or {})


def _check_digest(path: Path, expected: str | None, source: str, key: str, advice: str) -> None:
    if expected is not None and (digest := digest_of(path)) != expected.lower():
        raise WeightsError(
            f"{source} has sha256 {digest}; expected {expected.lower()}. "
            f"Fetch the file again{', or correct ' + key if key else ''}. {advice}".rstrip()
        )


def _load(path: Path, source: str, advice: str) -> Any:
    try:
        if _is_safetensors(path):
            return load_file(path)
        with path.open("rb") as stream:  # of a path torch looks at the suffix
            return torch.load(stream, "cpu", weights_only=True)
    except Exception as error:  # safetensors, zip and unpickling errors share no base class
        # Not what torch says: it advises to unpickle, which would run whatever code the file holds.
        raise WeightsError(
            f"{source} is not a readable weights file: {_what_is(path, error)}. {advice}".rstrip()
        ) from None


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as .safetensors do: the length of a JSON text, then that text."""
    with path.open("rb") as stream:
        head = stream.read(9)
    length = int.from_bytes(head[:8], "little")
    return head[8:] == b"{" and length <= path.stat().st_size - 8


def _what_is(path: Path, error: Exception) -> str:
    """What a file that cannot be read as weights seems to be, and what to do, as the end of a sentence."""
    if kind := other_kind(path):
        return f"it is {kind}"
    if zipfile.is_zipfile(path):
        return _archive(path, error)
    with path.open("rb") as stream:
        if stream.read(1) == b"\x80":
            return _pickle(error)
    return f"it is damaged, incomplete or of another kind ({path.stat().st_size} bytes). Download the file again"


def _archive(path: Path, error: Exception) -> str:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        return "it is a TorchScript archive; it holds code, which is not run. Take the model's state dict instead"
    if any(name.endswith("data.pkl") for name in names):
        return _pickle(error)
    return "it is a zip archive, but no torch file. Unpack it first"


def _pickle(error: Exception) -> str:
    match = re.search(r"GLOBAL ([\w.]+)", str(error))
    kind = f" ({match[1]})" if match else ""
    return (
        f"it is a pickle of more than tensors{kind}, or damaged. Reading it could run code, so robis does not. "
        "Get the weights as .safetensors, or as a state dict of tensors alone"
    )


def _contents(content: object) -> str:
    """What a file holds in place of a state dict."""
    if not isinstance(content, Mapping):
        return f"an object of type {type(content).__name__}, no state dict"
    if not content:
        return "an empty state dict"
    odd = next(key for key, value in content.items() if not isinstance(value, Tensor))
    return f"{odd!r} of type {type(content[odd]).__name__}, no state dict"


def _without_prefixes(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        short = name
        for prefix in _PREFIXES:
            short = short.removeprefix(prefix)
        if short in renamed:
            raise WeightsError(f"{source} holds {short!r} twice, with and without a prefix ({name!r}). Keep one.")
        renamed[short] = value
    return renamed
