"""The images of a data set that a label file may name, and what is wrong with the names and sizes in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from robis.errors import DataError, first_few
from robis.io.names import composed
from robis.labels.model import LabeledImage

# Label Studio puts eight digits before the names of uploaded files.
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")


class KnownImages:
    """Finds images by the names that label files give them.

    Attributes:
        problems: what is wrong with the images that were asked for, one sentence each.
    """

    def __init__(self, files: Iterable[str], size: Callable[[str], tuple[int, int]]) -> None:
        """Take the images of a data set.

        Args:
            files: posix paths relative to the data set's root.
            size: gives (height, width) of one of them, as it is shown.
        """
        self.problems: list[str] = []
        self._size = size
        self._named: set[str] = set()
        self._by_name: dict[str, list[str]] = {}
        for file in files:
            for name in (PurePosixPath(composed(file)).name, PurePosixPath(composed(file)).stem):
                self._by_name.setdefault(name, []).append(file)

    def find(self, *names: str, size: tuple[int, int] | None = None) -> LabeledImage | None:
        """The image with the first of the names that is known; None after a problem was noted.

        A name fits if it is the end of an image's path, or the path the end of it. It may lack the suffix.

        Args:
            names: as the label file gives them: paths, addresses, with either slash.
            size: (height, width) that the label file gives; None where the format has none.
        """
        fitting: list[str] = []
        for name in names:
            fitting = self._fitting(_parts(name))
            if fitting:
                break
        if len(fitting) != 1:
            what = f"fits {', '.join(fitting[:3])}; give more of its path" if fitting else "is no image of the data set"
            self.problems.append(f"{names[0]} {what}")
            return None
        height, width = self._size(fitting[0])
        if size not in (None, (height, width)):
            turned = " (turned: the tool ignored the EXIF rotation)" if size == (width, height) else ""
            given = f"{size[1]} x {size[0]}" if size else ""
            self.problems.append(f"{fitting[0]} is {width} x {height} pixels; the labels are for {given}{turned}")
            return None
        if fitting[0] in self._named:
            self.problems.append(f"{fitting[0]} has labels twice; keep one of them")
            return None
        self._named.add(fitting[0])
        return LabeledImage(fitting[0], height, width)

    def _fitting(self, parts: tuple[str, ...]) -> list[str]:
        fitting = []
        for file in self._by_name.get(parts[-1], ()) if parts else ():
            path = PurePosixPath(composed(file))
            known = path.parts if path.name == parts[-1] else path.with_suffix("").parts
            shared = min(len(known), len(parts))
            if known[-shared:] == parts[-shared:]:
                fitting.append(file)
        # The whole path counts more than the end of another one.
        exact = [file for file in fitting if PurePosixPath(composed(file)).parts == parts]
        return exact or fitting

    def check(self, path: object) -> None:
        """Raise DataError that lists all problems with the images of a label file."""
        if self.problems:
            count = len(self.problems)
            raise DataError(
                f"{path}: {count} {'image does' if count == 1 else 'images do'} not fit the data set. Expected images "
                f"of the config's data set, each once, with their sizes.\n{first_few(self.problems)}"
            )


def image_name(address: str) -> str:
    """The path in an address of Label Studio: of a local or an uploaded file, or of a file in a bucket."""
    try:
        split = urlsplit(address)
    except ValueError:
        return address
    local = parse_qs(split.query).get("d")
    path = local[0] if local else unquote(split.path)
    folder, _, name = path.rpartition("/")
    # The folder of an upload says nothing of the image.
    return _UPLOADED.sub("", name) if "/upload/" in f"{folder}/" else path


def _parts(name: str) -> tuple[str, ...]:
    parts = PurePosixPath(composed(name).replace("\\", "/")).parts
    return tuple(part for part in parts if part not in ("/", "..", "."))
