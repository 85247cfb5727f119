"""Importing timm, open_clip and segment-anything without PyTorch's compiler."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_NAMES = ("torch._dynamo", "torch._dynamo.utils")


@contextmanager
def compiler_left_out() -> Iterator[None]:
    """Import packages that need torchvision or timm in this context: their import takes half the time.

    torchvision and timm import the compiler (`torch._dynamo`, with SymPy and Inductor) for one function each, which
    robis never calls. A module with these two functions takes its place here. `torch.compile` and optimizers load
    the compiler itself when they are first used.
    """
    placed = _NAMES[0] not in sys.modules
    if placed:
        sys.modules.update({name: _CompilerWhileImporting(name) for name in _NAMES})
    try:
        yield
    finally:
        if placed:
            _remove()


class _CompilerWhileImporting(ModuleType):
    """The two functions that torchvision and timm import, and the compiler itself for whatever else is imported."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    @staticmethod
    def disable(function: Callable[..., Any], *_args: object, **_options: object) -> Callable[..., Any]:
        """Return the function as it is. timm excludes two of its NaFlex models' from compiling; robis builds none."""
        return function

    @staticmethod
    def is_compile_supported(device: str) -> bool:
        """Answer as the compiler does. torchvision's `roi_align` calls it."""
        from torch._dynamo.utils import is_compile_supported

        return is_compile_supported(device)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _remove()
        from torch._dynamo import utils

        return getattr(utils if self.__name__ == _NAMES[1] else sys.modules[_NAMES[0]], name)


def _remove() -> None:
    for name in _NAMES:
        if isinstance(sys.modules.get(name), _CompilerWhileImporting):
            del sys.modules[name]
