"""Wheels that were brought to a machine without a network: those that fit it are unpacked, without pip."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path


def unpack(wheels: Path, target: Path) -> list[str]:
    """Unpack wheels into a folder for the path of modules, except what is installed in that version or a later one.

    Args:
        wheels: folder of wheels, for any versions of Python; it need not exist.
        target: a folder, made if a wheel is unpacked.

    Returns:
        Names of the unpacked wheels.
    """
    unpacked = []
    for wheel in fitting(wheels):
        if _is_needed(wheel.name):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(target)
            unpacked.append(wheel.name)
    return unpacked


def fitting(wheels: Path) -> Iterator[Path]:
    """The wheels of a folder that this Python on this machine can use."""
    files = sorted(wheels.glob("*.whl"))
    if not files:
        return
    # timm's dependencies bring it.
    from packaging.tags import sys_tags
    from packaging.utils import parse_wheel_filename

    supported = set(sys_tags())
    for file in files:
        if not supported.isdisjoint(parse_wheel_filename(file.name)[3]):
            yield file


def _is_needed(file_name: str) -> bool:
    from packaging.utils import parse_wheel_filename
    from packaging.version import Version

    name, version, *_ = parse_wheel_filename(file_name)
    try:
        return Version(metadata.version(name)) < version
    except metadata.PackageNotFoundError:
        return True
