"""Binary defect masks on high-resolution product images, from normal images alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robis.binarization.maps import binarize
    from robis.binarization.stage import Thresholding
    from robis.encoders.build import build_encoder
    from robis.evaluation.arrays import pixel_metrics
    from robis.io.images import read_image, read_mask
    from robis.io.maps import read_map, write_map, write_mask
    from robis.packs.inspection import Inspection, Region
    from robis.packs.pack import Pack, load_pack
    from robis.refinement.methods import Refining
    from robis.tiles.merge import merge_tiles
    from robis.tiles.store import Cutting

__version__ = "0.1.0"

__all__ = [
    "Cutting",
    "Inspection",
    "Pack",
    "Refining",
    "Region",
    "Thresholding",
    "__version__",
    "binarize",
    "build_encoder",
    "load_pack",
    "merge_tiles",
    "pixel_metrics",
    "read_image",
    "read_map",
    "read_mask",
    "write_map",
    "write_mask",
]


def __getattr__(name: str) -> Any:
    # Late, so that the command line and the plan start without torch.
    match name:
        case "read_image" | "read_mask":
            from robis.io import images

            return getattr(images, name)
        case "read_map" | "write_map" | "write_mask":
            from robis.io import maps

            return getattr(maps, name)
        case "Cutting":
            from robis.tiles.store import Cutting

            return Cutting
        case "merge_tiles":
            from robis.tiles.merge import merge_tiles

            return merge_tiles
        case "build_encoder":
            from robis.encoders.build import build_encoder

            return build_encoder
        case "Thresholding" | "binarize":
            from robis.binarization import maps as binarization

            return getattr(binarization, name)
        case "Refining":
            from robis.refinement.methods import Refining

            return Refining
        case "pixel_metrics":
            from robis.evaluation.arrays import pixel_metrics

            return pixel_metrics
        case "Pack" | "load_pack":
            from robis.packs import pack

            return getattr(pack, name)
        case "Inspection" | "Region":
            from robis.packs import inspection

            return getattr(inspection, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
