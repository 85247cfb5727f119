"""Where the map and the mask of an inspected image go."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from robis.io.atomic import atomic_file
from robis.io.maps import write_map, write_mask
from robis.packs.inspection import Inspection


class Outputs:
    """A folder of maps and masks: `maps/NAME.tiff` and `masks/NAME.png`.

    An image's NAME is its path without the suffix. Another image of the same name gets part of its digest in addition.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._owners: dict[str, tuple[str, str]] = {}

    def claim(self, name: str, file: str, digest: str) -> None:
        """Keep a name for an image that has its outputs already."""
        self._owners[name] = (file, digest)

    def name_of(self, file: str, digest: str) -> str:
        """The name of an image.

        Args:
            file: its path, with slashes.
            digest: of its content.
        """
        plain = str(PurePosixPath(file).with_suffix(""))
        for name in (plain, f"{plain}-{digest[:16]}"):
            if self._owners.setdefault(name, (file, digest)) == (file, digest):
                return name
        return f"{plain}-{digest}"

    def write(self, name: str, result: Inspection) -> dict[str, str]:
        """Write both files, each whole or not at all; return their paths below the folder."""
        places = {"map": f"maps/{name}.tiff", "mask": f"masks/{name}.png"}
        with atomic_file(self.folder / places["map"]) as partial:
            write_map(partial, result.map)
        with atomic_file(self.folder / places["mask"]) as partial:
            write_mask(partial, result.mask)
        return places
