"""The exported file of a pack: the detector up to raw tile maps, which ONNX Runtime computes.

The file says of which pack it is, and what it was compared with. All other steps stay those of the library.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from robis import __version__
from robis.detectors.jobs import Compute, MapScale
from robis.detectors.scorers import ImageTiles, MapType, RawMaps, Scorer, TileFunction, stored
from robis.encoders.weights import first_line
from robis.errors import ConfigError, DataError
from robis.packs.format import Manifest, Part, check_format, digest_of
from robis.tiles.ignored import cells_of

EXPORTED = "pack.onnx"
FORMAT = 1
# Of the file's metadata; of the graph's inputs.
KEY, INPUT, IGNORED = "robis", "tile", "ignored"
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class ExportCheck(Part):
    """The exported file compared with the library on some images.

    Attributes:
        images: how many; generated: whether they were generated, instead of given.
        map_difference: the largest difference of raw tile maps, as a fraction of the library's largest value.
        equal_masks: of how many images the final masks were equal.
        differing_pixels: mask pixels that differ, in all images.
    """

    images: int
    generated: bool
    map_difference: float
    equal_masks: int
    differing_pixels: int

    def in_words(self) -> str:
        """What was compared and how it came out, in sentences."""
        kind = "generated images" if self.generated else "images"
        differing = f", {self.differing_pixels} pixels differ" if self.differing_pixels else ""
        return (
            f"Tile maps of ONNX Runtime differ from the library's by at most {self.map_difference:.1e} of their "
            f"maximum. Masks of {self.equal_masks} of {self.images} {kind} are equal{differing}."
        )


class Description(Part):
    """What an exported file says of itself.

    Attributes:
        format: version of this description.
        robis: the version of robis that wrote the file.
        dataset, run, category: of the pack; pack: its digest.
        map_type: type that raw maps are stored as.
        check: see `ExportCheck`.
        digest: of all the above and the file without its metadata.
    """

    format: int
    robis: str
    dataset: str
    run: str
    category: str
    pack: str
    map_type: Literal["float16", "float32"]
    check: ExportCheck
    digest: str = ""

    def digest_with(self, content: bytes) -> str:
        """The digest that belongs to a file with this content."""
        said = self.model_dump_json(exclude={"digest"}).encode()
        return hashlib.sha256(hashlib.sha256(content).digest() + said).hexdigest()


@dataclass(frozen=True)
class OnnxScorer(Scorer):
    """A detector that ONNX Runtime computes, tile by tile.

    Attributes:
        session: of ONNX Runtime.
        dtype: see `Scorer`.
        encoder: None; it is part of the session.
    """

    session: Any
    dtype: MapType
    encoder: nn.Module | None = None

    @property
    def grid(self) -> int:  # type: ignore[override]
        """Tokens along one side of a tile; 0 for a graph that takes no ignored ones."""
        return next((entry.shape[-1] for entry in self.session.get_inputs() if entry.name == IGNORED), 0)

    def raw_maps(self, image: ImageTiles, compute: Compute, size: MapScale) -> RawMaps:
        inputs = [{INPUT: tile[None]} for tile in image.pixels]
        if image.ignored and self.grid:
            for values, cells in zip(inputs, cells_of(image.ignored, (self.grid, self.grid)), strict=True):
                values[IGNORED] = cells[None]
        outputs = [self.session.run(None, values) for values in inputs]
        maps, *scores = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
        return RawMaps(stored(maps, range(len(maps)), image.source, self.dtype), scores=scores[0] if scores else None)

    def tile_function(self, size: MapScale) -> TileFunction:
        raise DataError("The detector is exported already; expected a pack.")


def load_exported(path: Path, manifest: Manifest, device: str, threads: int) -> OnnxScorer:
    """Load the exported file of a pack.

    Args:
        path: the file.
        manifest: of the pack.
        device: "auto" and "cuda" compute on a GPU where ONNX Runtime has CUDA; "cpu".
        threads: of a CPU.

    Raises:
        ConfigError: ONNX Runtime is not installed, or has no such device.
        DataError: the file is absent, damaged, changed, of another pack or of a newer format.
    """
    model = _read(path, manifest)
    description = _described(model, path)
    content = content_of(model)
    if description.digest_with(content) != description.digest:
        raise DataError(f"{path}: its content is not what `robis export` wrote (the digest differs). {_again()}")
    if description.pack != digest_of(manifest):
        raise DataError(
            f"{path}: exported from the pack {description.run} of {description.dataset}/{description.category} with "
            f"the digest {description.pack[:12]}; this pack is {manifest.run} of {manifest.dataset}/"
            f"{manifest.category} with the digest {digest_of(manifest)[:12]}. {_again()}"
        )
    dtype = np.float16 if description.map_type == "float16" else np.float32
    return OnnxScorer(start_session(content, device, threads, path), dtype)


def read_description(path: Path, manifest: Manifest) -> Description:
    """What the exported file of a pack says of itself; errors as `load_exported`, without a look at its content."""
    return _described(_read(path, manifest), path)


def describe(model: Any, manifest: Manifest, dtype: MapType, check: ExportCheck) -> None:
    """Write into the metadata of an ONNX model what it is."""
    description = Description(
        format=FORMAT,
        robis=__version__,
        dataset=manifest.dataset,
        run=manifest.run,
        category=manifest.category,
        pack=digest_of(manifest),
        map_type="float16" if dtype == np.float16 else "float32",
        check=check,
    )
    whole = description.model_copy(update={"digest": description.digest_with(content_of(model))})
    model.metadata_props.add(key=KEY, value=whole.model_dump_json())


def content_of(model: Any) -> bytes:
    """An ONNX model without its metadata, which is lost."""
    del model.metadata_props[:]
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def start_session(content: bytes, device: str, threads: int, source: Path) -> Any:
    """Start ONNX Runtime on a model.

    Raises:
        ConfigError: it has no such device.
        DataError: it cannot compute the model.
    """
    runtime = onnx_runtime()
    has_cuda = CUDA in runtime.get_available_providers()
    if device not in ("auto", "cpu") and not (device == "cuda" and has_cuda):
        raise ConfigError(
            f"--device: found {device!r} with --runtime onnx; expected auto, cpu, or cuda where the package "
            f"onnxruntime-gpu is installed instead of onnxruntime."
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Errors and no warnings, which are about the graph's form.
    options.log_severity_level = 3
    # As the library computes: by default CUDA rounds float32 to the ten bits of TF32.
    cuda = [(CUDA, {"use_tf32": "0"})] if has_cuda and device != "cpu" else []
    try:
        session = runtime.InferenceSession(content, options, providers=[*cuda, CPU])
    except Exception as error:  # its exceptions share no base class
        raise DataError(
            f"{source}: ONNX Runtime {runtime.__version__} cannot load it ({first_line(error)}). Install the version "
            f"of constraints.txt."
        ) from error
    if device == "cuda" and CUDA not in session.get_providers():
        raise ConfigError("--device: found cuda, but ONNX Runtime cannot use the GPU here; expected auto or cpu.")
    return session


def onnx_runtime() -> Any:
    """The module `onnxruntime`. Raises ConfigError where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise not_installed(error) from error
    return onnxruntime


def not_installed(error: ImportError) -> ConfigError:
    """What to do where a package of the extra is absent."""
    return ConfigError(
        f"The package {error.name} is not installed, which exported packs need. Install robis with its extra `onnx`, "
        f"or run: pip install onnx onnxruntime onnxscript"
    )


def _read(path: Path, manifest: Manifest) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise not_installed(error) from error
    try:
        return onnx.load_model(path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: does not exist. Export {manifest.run} of {manifest.category} with `robis export PACK`, or give "
            f"the file with --exported."
        ) from None
    except OSError:
        raise
    except Exception as error:  # of protobuf, which robis does not depend on
        raise DataError(f"{path}: not an ONNX file ({first_line(error)}). {_again()}") from error


def _described(model: Any, path: Path) -> Description:
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in texts:
        raise DataError(f"{path}: not written by `robis export`: its metadata has no entry {KEY!r}. {_again()}")
    try:
        values = json.loads(texts[KEY])
        check_format(path, values, FORMAT)
        return Description.model_validate(values)
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path}: its metadata is damaged ({first_line(error)}). {_again()}") from error


def _again() -> str:
    return "Export the pack again with `robis export PACK`."
