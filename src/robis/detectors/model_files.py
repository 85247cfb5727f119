"""Model files of detectors: tensors with the name of the encoder that they were made with, and training histories."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from robis.errors import WeightsError
from robis.io.atomic import atomic_file
from robis.io.tables import make_table, write_table

if TYPE_CHECKING:
    import pandas as pd

HISTORY_COLUMNS = {
    "step": "int64",
    "epoch": "int64",
    "loss": "float64",
    "coherence": "float64",
    "lr": "float64",
    "images_per_second": "float64",
}


def write_history(path: Path, rows: pd.DataFrame | None = None) -> None:
    """Write the table of training steps; None: without a row, for detectors that take no steps."""
    write_table(path, make_table([], tuple(HISTORY_COLUMNS)).astype(HISTORY_COLUMNS) if rows is None else rows)


def write_model(path: Path, tensors: Mapping[str, Tensor], detector: str, **about: Any) -> None:
    """Write tensors as safetensors with one metadata entry: the detector's name and `about` as JSON.

    One entry only: safetensors writes several in random order, and the same tensors give the same bytes.
    """
    contiguous = {name: values.cpu().contiguous() for name, values in tensors.items()}
    with atomic_file(path) as partial:
        partial.write_bytes(save(contiguous, metadata={detector: json.dumps(about)}))


@dataclass
class ModelFile:
    """An open model file: `about` is what `write_model` was told, `names` are those of its tensors."""

    path: Path
    stage: str
    about: dict[str, Any]
    stream: Any = field(repr=False)

    @property
    def names(self) -> list[str]:
        """Names of the tensors, sorted."""
        return sorted(self.stream.keys())

    def tensor(self, name: str, shape: tuple[int | None, ...], device: torch.device) -> Tensor:
        """A tensor on a device. None in `shape` stands for any size.

        Raises WeightsError when the file lacks it or it has another shape.
        """
        if name not in self.names:
            raise WeightsError(
                f"{self.path}: has no {name!r}, only {', '.join(self.names)}. It was made with other settings: delete "
                f"it, and `{self.stage}` runs again."
            )
        stored_shape = tuple(self.stream.get_slice(name).get_shape())
        if len(stored_shape) != len(shape) or any(
            side not in (None, size) for side, size in zip(shape, stored_shape, strict=True)
        ):
            expected = ", ".join("any" if side is None else str(side) for side in shape)
            raise WeightsError(
                f"{self.path}: {name!r} is {stored_shape}; expected ({expected}). Made for another encoder: delete it, "
                f"and `{self.stage}` runs again."
            )
        tensor: Tensor = self.stream.get_tensor(name)
        return tensor.to(device)


@contextmanager
def open_model(path: Path, detector: str, *, encoder: str | None = None, stage: str = "train") -> Iterator[ModelFile]:
    """Open a file of `write_model` without reading its tensors.

    Args:
        path: the file.
        detector: the name that it was written with.
        encoder: name of the encoder that it must have been made with; None: any.
        stage: the stage that writes it, for messages.

    Raises:
        WeightsError: no such file, a damaged one, or one of another detector or encoder.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: does not exist. The stage `{stage}` writes it.")
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            about = (stream.metadata() or {}).get(detector)
            if about is None:
                raise WeightsError(f"{path}: not a file of {detector}. Delete it, and `{stage}` runs again.")
            model = ModelFile(path, stage, json.loads(about), stream)
            made_for = model.about.get("encoder", "an unnamed encoder")
            if encoder is not None and made_for != encoder:
                raise WeightsError(
                    f"{path}: made for {made_for}; expected {encoder}. Delete it, and `{stage}` runs again."
                )
            yield model
    except (OSError, SafetensorError, ValueError) as error:
        raise WeightsError(
            f"{path}: cannot be read as a file of {detector} ({error}). Delete it, and `{stage}` runs again."
        ) from error


def model_encoder(path: Path, detector: str) -> str | None:
    """Name of the encoder that a model file was made with; None for files of others."""
    if path.suffix != ".safetensors":
        return None
    with safe_open(path, framework="pt") as stream:
        about = (stream.metadata() or {}).get(detector)
    return json.loads(about).get("encoder") if about else None
