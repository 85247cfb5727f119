"""Binary defect masks on high-resolution product images, from normal images alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robis.packs.pack import load_pack

__version__ = "0.1.0"
__all__ = ["__version__", "load_pack"]


def __getattr__(name: str) -> Any:
    # Late: the command line and the plan start without torch.
    if name == "load_pack":
        from robis.packs.pack import load_pack

        return load_pack
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
