"""What `robis inspect` does: images, folders or a watched folder through a pack, with a line for each."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robis.errors import DataError
from robis.io.atomic import atomic_file
from robis.io.images import is_image
from robis.io.weights import sha256
from robis.packs.format import Manifest
from robis.packs.outputs import Outputs
from robis.packs.pack import Pack
from robis.packs.watch import Watcher

logger = logging.getLogger(__name__)

# Exit status: all images are normal, some are anomalous, some could not be inspected.
NORMAL, ANOMALOUS, FAILED = 0, 10, 1
RESULTS = "results.jsonl"


@dataclass(frozen=True)
class InspectOptions:
    """How images are inspected and shown.

    Attributes:
        out: folder of maps, masks and results; None: nothing is written.
        as_json: print JSON lines instead of sentences.
        any_size: see `Pack.inspect`.
    """

    out: Path | None
    as_json: bool
    any_size: bool


def inspect_images(pack: Pack, images: Sequence[Path], options: InspectOptions) -> int:
    """Inspect files, and all images in folders; print a line for each. Returns the exit status.

    An image that cannot be inspected gets a line that says why, and the others follow.

    Raises:
        DataError: a path does not exist, or a folder has no image.
    """
    files = [item for image in images for item in listed(image)]
    outputs = Outputs(options.out) if options.out else None
    lines = []
    for path, name in files:
        entry: dict[str, Any] = {"image": str(path)}
        try:
            result = pack.inspect(path, any_size=options.any_size)
            entry |= result.as_json()
            if outputs:
                entry |= outputs.write(outputs.name_of(name, sha256(path)), result)
        except DataError as error:
            entry |= {"error": str(error)}
        lines.append(entry)
        print(json.dumps(entry) if options.as_json else in_words(entry["image"], entry), flush=True)
    if options.out:
        with atomic_file(options.out / RESULTS) as partial:
            partial.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    if any("error" in line for line in lines):
        return FAILED
    return ANOMALOUS if any(line["is_anomalous"] for line in lines) else NORMAL


def watch_folder(pack: Pack, folder: Path, options: InspectOptions) -> int:
    """Inspect what comes into a folder until SIGINT or SIGTERM. Returns the exit status of what it reported."""
    if options.out is None:
        raise DataError("--watch: needs --out, the folder of maps, masks and the journal.")

    def show(entry: dict[str, Any]) -> None:
        print(json.dumps(entry) if options.as_json else in_words(entry["file"], entry), flush=True)

    watcher = Watcher(pack, folder, options.out, any_size=options.any_size, report=show)
    logger.info("Watching %s. Results: %s. Ctrl-C ends it.", folder, options.out)
    with _until_signal() as stop:
        watcher.run(stop)
    if watcher.failed:
        return FAILED
    return ANOMALOUS if watcher.anomalous else NORMAL


def in_words(image: str, entry: dict[str, Any]) -> str:
    """One result as a sentence."""
    if "error" in entry:
        return f"{image}: not inspected: {entry['error']}"
    verdict = "anomalous" if entry["is_anomalous"] else "normal"
    limit = "" if entry["limit"] is None else f" (limit {entry['limit']:.4g})"
    regions = len(entry["regions"])
    same = f", same content as {entry['same_as']}" if "same_as" in entry else ""
    time = sum(entry["milliseconds"].values())
    return (
        f"{image}: {verdict}, score {entry['score']:.4g}{limit}, {regions} region{'' if regions == 1 else 's'}, "
        f"{time:.0f} ms{same}"
    )


def about(manifest: Manifest) -> str:
    """What a pack is, in a few lines."""
    encoder = manifest.settings.scorer.encoder.get("name", "none")
    limit = f"{manifest.limit.value:.4g}" if manifest.limit else "none; anomalous is what has a pixel in its mask"
    lines = [
        f"{manifest.run} of {manifest.dataset}/{manifest.category}, packed by robis {manifest.robis}",
        f"encoder: {encoder}",
        f"limit of the score: {limit}",
    ]
    if manifest.calibration.promise:
        lines.append(f"promise: {manifest.calibration.promise.in_words()}")
    if manifest.metrics:
        values = (f"{name} {100 * value:.1f} %" for name, value in manifest.metrics.items() if value is not None)
        lines.append(f"metrics of {manifest.split}: {', '.join(values)}")
    if manifest.check:
        lines.append(manifest.check.in_words(manifest.split))
    return "\n".join(lines)


def listed(path: Path) -> list[tuple[Path, str]]:
    """The images that a path stands for, with the names that their outputs are made of.

    Raises DataError where there is none.
    """
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"{path}: no such file or folder. Give images, or folders of images.")
        return [(path, path.name)]
    files = sorted(file for file in path.rglob("*") if is_image(file.name) and file.is_file())
    if not files:
        raise DataError(f"{path}: holds no image. Give images, or folders of images.")
    return [(file, file.relative_to(path).as_posix()) for file in files]


@contextmanager
def _until_signal() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGINT or SIGTERM has come, which then end nothing by themselves."""
    signaled = threading.Event()
    before = {number: signal.signal(number, lambda *_: signaled.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signaled.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
