"""What a pack is on disk: a folder of safetensors files and `pack.json`, which says all the rest.

The format has a version. Later versions of robis read older ones; an older robis refuses a newer one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import save_file

from robis import __version__
from robis.binarization.stage import Calibration, Thresholding
from robis.detectors.jobs import Compute, MapScale
from robis.encoders.weights import read_state
from robis.errors import DataError, first_few
from robis.evaluation.agreement import Check
from robis.io.atomic import atomic_file
from robis.io.weights import sha256
from robis.refinement.methods import Refining
from robis.scoring.limits import Limit
from robis.tiles.merge import Scaling
from robis.tiles.store import Cutting

MANIFEST = "pack.json"
IGNORE = "ignore.png"
FORMAT = 1


class Part(BaseModel):
    """A part of a written description: nothing is missing in it, and nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ScorerSettings(Part):
    """What `Detector.scorer` takes besides files.

    Attributes:
        encoder: arguments of the encoder.
        options: the detector's own options.
        batch_size, precision: see `Compute`.
        size: of raw maps.
    """

    encoder: dict[str, Any]
    options: dict[str, Any]
    batch_size: int = Compute.batch_size
    precision: str = Compute.precision
    size: MapScale


class MergeSettings(Part):
    """See `merge_split`."""

    scale: float
    blend: str


class PackSettings(Part):
    """The settings of the run that matter when an image is inspected.

    Attributes:
        top_fraction: see `robis.scoring.image_scores.Scoring`.
        empties_masks: whether images that are judged normal get an empty mask.
    """

    crop: Cutting
    scorer: ScorerSettings
    merge: MergeSettings
    binarize: Thresholding
    refine: Refining
    top_fraction: float | str
    empties_masks: bool


class PackedFile(Part):
    """A file of the pack and the digest of its content."""

    file: str
    sha256: str


class Sides(Part):
    """The smallest and the largest height and width, in pixels, of the images that the pack was made with."""

    height: tuple[int, int]
    width: tuple[int, int]


class Manifest(Part):
    """The content of `pack.json`.

    Attributes:
        format: version of the format.
        robis: the version of robis that wrote the pack.
        dataset, run, category: what the model was made for; detector: the method.
        split: the split whose settings, limit, metrics and masks the pack has.
        encoder_digest: of the encoder's weights, see `encoder_digest`; None for a detector without an encoder.
        settings: see `PackSettings`.
        scaling: what becomes 0..255 in maps.
        calibration: what thresholds are taken from.
        limit: the score above which an image is judged anomalous; None where there is none.
        sides: see `Sides`.
        inputs: the detector's files by name, such as "model".
        ignore: the mask of ignored pixels (`dataset.ignore`), a PNG; None where nothing is ignored.
        metrics: of the split, in 0..1; None without ground truth.
        check: see `Check`; None until it is done.
        libraries: versions of the libraries that computed the run.
    """

    format: int
    robis: str
    dataset: str
    run: str
    category: str
    detector: str
    split: str
    encoder_digest: str | None
    settings: PackSettings
    scaling: Scaling
    calibration: Calibration
    limit: Limit | None
    sides: Sides
    inputs: dict[str, PackedFile]
    metrics: dict[str, float | None] | None
    check: Check | None
    libraries: dict[str, str]
    ignore: PackedFile | None = None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `pack.json` with a digest of its content."""
    values = manifest.model_dump(mode="json")
    text = json.dumps({**values, "digest": _digest(values)}, indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_file(folder / MANIFEST) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read `pack.json`, and compare all digests of the pack.

    Raises:
        DataError: no pack, a newer format, a missing or unknown key, or a file of another content.
    """
    path = folder / MANIFEST
    values = _read_json(path)
    check_format(path, values, FORMAT)
    digest = values.pop("digest", None)
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, problem['loc']))}: {_problem(problem)}" for problem in error.errors()]
        raise DataError(
            f"{path}: expected the keys that robis {__version__} writes. Make the pack again with `snakemake packs`.\n"
            f"{first_few(lines)}"
        ) from error
    if digest != _digest(values):
        raise _changed(path)
    for packed in (*manifest.inputs.values(), *([manifest.ignore] if manifest.ignore else [])):
        file = folder / packed.file
        if not file.is_file():
            raise DataError(f"{file}: does not exist, though {path} names it. Copy the whole folder of the pack again.")
        if sha256(file) != packed.sha256:
            raise _changed(file)
    return manifest


def pack_file(source: Path, folder: Path, name: str) -> PackedFile:
    """Put one of the detector's files into a pack, as NAME.safetensors: linked or copied, other formats rewritten.

    Raises WeightsError for a file of another format that holds more than tensors.
    """
    target = folder / f"{name}.safetensors"
    if source.suffix != ".safetensors":
        state = read_state(source, sha256=None, key=name)
        save_file({key: value.clone().contiguous() for key, value in state.items()}, target)
    else:
        try:
            os.link(source, target)
        # Another disk, or a file system without links.
        except OSError:
            shutil.copyfile(source, target)
    return PackedFile(file=target.name, sha256=sha256(target))


def pack_ignored(ignored: bytes | None, folder: Path) -> PackedFile | None:
    """Put a mask of ignored pixels, a PNG, into a pack as ignore.png; None where there is none."""
    if ignored is None:
        return None
    target = folder / IGNORE
    target.write_bytes(ignored)
    return PackedFile(file=target.name, sha256=sha256(target))


def read_ignored(manifest: Manifest, folder: Path) -> bytes | None:
    """The mask of ignored pixels of a pack; None where nothing is ignored."""
    return (folder / manifest.ignore.file).read_bytes() if manifest.ignore else None


def digest_of(manifest: Manifest) -> str:
    """Digest of a whole pack: of all that its manifest says, which has the digests of the other files."""
    return _digest(manifest.model_dump(mode="json"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path}: does not exist. Expected the folder of a pack, results/NAME/DETECTOR/packs/CATEGORY, which "
            f"`snakemake packs` writes."
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}). Copy the folder of the pack again.") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: not the description of a pack. Copy the folder of the pack again.")
    return values


def check_format(path: Path, values: Mapping[str, Any], latest: int) -> None:
    """Raise DataError where the values of a file have no version of their format, or a newer one than `latest`."""
    version = values.get("format")
    if not isinstance(version, int) or isinstance(version, bool):
        raise DataError(f"{path}: format: found {version!r}; expected the version of the format, at most {latest}.")
    if version > latest:
        raise DataError(
            f"{path}: format {version} was written by robis {values.get('robis', 'of a later version')}; this robis "
            f"{__version__} reads formats up to {latest}. Install the version that wrote it, or make it again."
        )


def _problem(problem: Mapping[str, Any]) -> str:
    words = {"missing": "the key is missing", "extra_forbidden": "the key is unknown"}
    return words.get(str(problem["type"])) or f"{problem['msg']}, found {problem['input']!r}"


def _changed(path: Path) -> DataError:
    return DataError(
        f"{path}: its content is not what the pack was written with (the digest differs). Copy the folder of the pack "
        f"again, or make it again with `snakemake packs`."
    )


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
