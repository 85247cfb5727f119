"""What `robis export` does: a pack's detector as an ONNX file, which is compared with the library before it is written.

The exporter is torch's own, which traces the function that the library computes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from robis.detectors.jobs import Compute, MapScale
from robis.detectors.scorers import ImageTiles, RawMaps, Scorer, TileFunction, stored
from robis.encoders.weights import first_line
from robis.errors import DataError
from robis.io.atomic import atomic_file
from robis.io.images import read_image
from robis.packs.exported import (
    EXPORTED,
    IGNORED,
    INPUT,
    ExportCheck,
    OnnxScorer,
    content_of,
    describe,
    not_installed,
    onnx_runtime,
    start_session,
)
from robis.packs.format import Manifest
from robis.packs.pack import Pack, load_pack

# Maps that differ more, as a fraction of their maximum, are not those of the detector: rounding is a hundredth of it.
TOLERANCE = 1e-3
# Bytes of a file of protobuf.
LARGEST = 2**31 - 1
# Images that are generated where none are given.
GENERATED = 2


def export_pack(
    folder: Path,
    out: Path | None,
    images: Sequence[Path],
    *,
    threads: int | None = None,
    encoder_weights: Path | None = None,
) -> tuple[Path, ExportCheck]:
    """Write the detector of a pack up to raw tile maps as ONNX.

    The graph takes `tile`, uint8 (1, s, s, 3) RGB, and of a pack that ignores pixels `ignored`, the tile's ignored
    tokens, bool (1, g, g), and gives `map`, float32 (1, m, m), and for detectors that score
    images themselves also `score`, (1,).

    Args:
        folder: of the pack.
        out: the file; None: `pack.onnx` in the folder.
        images: to compare the file with the library on; without any, generated ones are taken.
        threads, encoder_weights: see `load_pack`.

    Returns:
        The file, and how it compares with the library.

    Raises:
        ConfigError: a package is not installed.
        DataError: the detector cannot be exported, or its maps are others in ONNX Runtime.
        WeightsError: see `load_pack`.
    """
    onnx_runtime()
    pack = load_pack(folder, device="cpu", threads=threads, encoder_weights=encoder_weights)
    out = out or folder / EXPORTED
    model = _model(pack, folder)
    session = start_session(content_of(model), "cpu", pack.compute.threads, out)
    other = OnnxScorer(session, pack.scorer.dtype)
    check = compared(pack, other, images)
    if check.map_difference > TOLERANCE:
        raise DataError(
            f"{folder}: maps of ONNX Runtime differ from the library's by {check.map_difference:.1e} of their maximum; "
            f"expected at most {TOLERANCE:.0e}. torch {torch.__version__} does not export {_encoder(pack.manifest)} "
            f"correctly; try another version."
        )
    describe(model, pack.manifest, pack.scorer.dtype, check)
    with atomic_file(out) as partial:
        partial.write_bytes(model.SerializeToString(deterministic=True))
    return out, check


def compared(pack: Pack, other: Scorer, images: Sequence[Path]) -> ExportCheck:
    """Inspect images by the library and by another scorer of the same pack, and compare raw maps and masks."""
    pairs = [_Recorder(pack.scorer), _Recorder(other)]
    packs = [Pack(pack.manifest, scorer, pack.compute, pack.source, ignored=pack.ignored) for scorer in pairs]
    difference = 0.0
    equal = pixels = 0
    inputs: dict[str, np.ndarray | Path] = {str(image): image for image in images} or dict(_generated(pack.manifest))
    for name, image in inputs.items():
        array = image if isinstance(image, np.ndarray) else read_image(image)
        masks = [each.inspect(array, any_size=True, name=name).mask for each in packs]
        differing = int(np.count_nonzero(masks[0] != masks[1]))
        equal, pixels = equal + (not differing), pixels + differing
        expected, maps = (recorder.maps for recorder in pairs)
        difference = max(difference, float(np.abs(maps - expected).max() / max(np.abs(expected).max(), 1e-30)))
    return ExportCheck(
        images=len(inputs),
        generated=not images,
        map_difference=difference,
        equal_masks=equal,
        differing_pixels=pixels,
    )


class _Recorder(Scorer):
    """A scorer whose last maps can be looked at as they were before they were stored, float32."""

    def __init__(self, scorer: Scorer) -> None:
        self.encoder, self.dtype, self.grid = scorer.encoder, scorer.dtype, scorer.grid
        self._scorer: Scorer = replace(cast(Any, scorer), dtype=np.float32)
        self.maps = np.zeros((0, 0, 0), np.float32)

    def raw_maps(self, image: ImageTiles, compute: Compute, size: MapScale) -> RawMaps:
        raw = self._scorer.raw_maps(image, compute, size)
        self.maps = raw.maps
        return replace(raw, maps=stored(raw.maps, range(len(raw.maps)), image.source, self.dtype))

    def tile_function(self, size: MapScale) -> TileFunction:
        return self._scorer.tile_function(size)


class _Graph(nn.Module):
    """A function of a tile and its ignored tokens, if any, as torch's exporter takes it."""

    def __init__(self, function: TileFunction) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.function(*inputs)


def _model(pack: Pack, folder: Path) -> Any:
    """The ONNX model of a pack."""
    settings = pack.manifest.settings
    try:
        function = pack.scorer.tile_function(settings.scorer.size)
    except DataError as error:
        raise DataError(f"{folder}: {pack.manifest.run} cannot be exported. {error}") from error
    # Without a size images stay as they are, which the detector has refused by now.
    side = cast(int, settings.crop.size)
    inputs = {INPUT: torch.zeros((1, side, side, 3), dtype=torch.uint8)}
    if pack.ignored and (grid := pack.scorer.grid):
        inputs[IGNORED] = torch.zeros((1, grid, grid), dtype=torch.bool)
    with torch.no_grad():
        # What is computed once and kept, such as the matrix of a filter, must not be made while tracing.
        outputs = function(*inputs.values())
        model = _traced(function, inputs, ["map", "score"][: len(outputs)], pack.manifest, folder)
    _strip(model.graph)
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > LARGEST:
        raise DataError(
            f"{folder}: {_encoder(pack.manifest)} and the model are larger than 2 GB, the limit of an ONNX file. Use a "
            f"smaller encoder, or inspect with the library."
        )
    return model


def _traced(
    function: TileFunction, inputs: Mapping[str, Tensor], outputs: list[str], manifest: Manifest, folder: Path
) -> Any:
    try:
        with _quiet():
            program = torch.onnx.export(
                _Graph(function),
                tuple(inputs.values()),
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=list(inputs),
                output_names=outputs,
            )
            return cast(Any, program).model_proto
    except ImportError as error:
        raise not_installed(error) from error
    except Exception as error:  # the exporter's errors share no base class
        raise DataError(
            f"{folder}: torch {torch.__version__} with onnxscript {version('onnxscript')} cannot export "
            f"{_encoder(manifest)} ({first_line(error)}). Inspect with the library, or try the versions of "
            f"constraints.txt."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep remarks about the form of the graph off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _strip(graph: Any) -> None:
    """Remove what the exporter notes of the code that it traced: paths of this machine among it."""
    del graph.metadata_props[:], graph.value_info[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _strip(inner)


def _generated(manifest: Manifest) -> Mapping[str, np.ndarray]:
    """Images of smooth noise, of the largest size that the pack was made with."""
    rng = np.random.default_rng(0)
    height, width = manifest.sides.height[1], manifest.sides.width[1]
    coarse = rng.integers(0, 256, (GENERATED, 8, 8, 3), dtype=np.uint8)
    resized = (cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in coarse)
    return {f"generated image {number}": image for number, image in enumerate(resized, start=1)}


def _encoder(manifest: Manifest) -> str:
    return f"{manifest.detector} with {manifest.settings.scorer.encoder.get('name', 'no encoder')}"
