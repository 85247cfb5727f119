"""Whether weights fit a model exactly: nothing missing, nothing left over, no value rounded, none dropped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from robis.errors import WeightsError

_WIDENED = (torch.float16, torch.bfloat16, torch.float64)


def check_state(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, source: str, made_for: str, advice: str = ""
) -> None:
    """Compare a file's weights with those of a model, in the model's order.

    float16 and bfloat16 become float32, which changes no value. float64 may only hold values that float32 holds, too.

    Args:
        state: the file's.
        expected: the model's own.
        source: the config key and the file, for messages.
        made_for: the model, for messages.
        advice: what messages end with.

    Raises:
        WeightsError: naming the first key that is missing, superfluous, of another shape, or of a type whose values
            the model cannot hold.
    """
    end = f" {advice}" if advice else ""
    for key, value in expected.items():
        if key not in state:
            raise WeightsError(f"{source}: has no {key!r}; expected {tuple(value.shape)} for {made_for}.{end}")
        if state[key].shape != value.shape:
            raise WeightsError(
                f"{source}: {key!r} is {tuple(state[key].shape)}; expected {tuple(value.shape)} for {made_for}. "
                f"The file was made for another model.{end}"
            )
        if not _fits(state[key], value.dtype):
            raise WeightsError(
                f"{source}: {key!r} is {_plain(state[key].dtype)}; {made_for} needs {_plain(value.dtype)}, which "
                f"does not hold all of its values exactly. Save the weights as {_plain(value.dtype)}.{end}"
            )
    for key, value in state.items():
        if key not in expected:
            raise WeightsError(
                f"{source}: has {key!r}, {tuple(value.shape)}, which {made_for} does not. Made for another model.{end}"
            )


def check_nothing_dropped(
    state: Mapping[str, Tensor], converted: Iterable[Tensor], *, ignored: Iterable[str], source: str, made_for: str
) -> None:
    """Make sure that what became of a file's weights under other names is all of them, zeros excepted.

    Renaming and cutting keep the memory that tensors lie in, and so tell what was used of each.

    Args:
        state: the file's weights, contiguous.
        converted: contiguous tensors: those that were renamed, or parts of them.
        ignored: keys that need not be used, since they are no weights of this model, or were computed with.
        source, made_for: for messages.

    Raises:
        WeightsError: naming the first weight that differs from zero and would not be used.
    """
    used = sorted((part.data_ptr(), part.data_ptr() + part.nbytes) for part in converted if part.numel())
    skipped = set(ignored)
    for key, value in state.items():
        if key in skipped or not value.numel() or not _unused(value, used).any():
            continue
        raise WeightsError(f"{source}: {key!r} differs from zero, but {made_for} has no place for it.")


def _unused(value: Tensor, used: list[tuple[int, int]]) -> Tensor:
    """The values of a contiguous tensor that lie in none of some ranges of memory."""
    flat = value.flatten()
    rest = torch.ones(flat.shape, dtype=torch.bool)
    first = value.data_ptr()
    for begin, end in used:
        if begin < first + value.nbytes and end > first:
            rest[max(0, begin - first) // value.itemsize : (end - first) // value.itemsize] = False
    return flat[rest]


def _fits(value: Tensor, kind: torch.dtype) -> bool:
    if value.dtype == kind:
        return True
    if kind.is_floating_point:
        if value.dtype not in _WIDENED:
            return False
        return value.dtype != torch.float64 or torch.equal(value.to(kind).to(value.dtype), value)
    both_integers = not (value.is_floating_point() or value.is_complex() or torch.bool in (value.dtype, kind))
    return both_integers and torch.equal(value.to(kind).to(value.dtype), value)


def _plain(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")
