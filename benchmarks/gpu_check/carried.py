"""Wheels that were brought to a machine without a network: those that fit it are unpacked, without pip."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path


def unpack(wheels: Path, target: Path) -> list[str]:
    """Unpack wheels into a folder for the path of modules.

    Left out is what is installed already, which belongs to the machine's other versions.

    Args:
        wheels: folder of wheels, for any versions of Python; it need not exist.
        target: a folder, made if a wheel is unpacked.

    Returns:
        Names of the unpacked wheels.
    """
    unpacked = []
    for wheel in fitting(wheels):
        if not _is_installed(wheel.name.split("-")[0]):
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


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
