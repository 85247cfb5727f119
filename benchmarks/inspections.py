"""Inspection of images by a pack in a process of its own. Imports nothing large, so that the first image has it all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robis.packs.exported import OnnxScorer
    from robis.packs.pack import Pack

LIBRARY, ONNX, OPENVINO, ANOMALIB = "library", "ONNX Runtime", "OpenVINO", "anomalib"


def inspections(folder: str, images: str, runtime: str, count: int, threads: int) -> Callable[[], dict[str, float]]:
    """What loads a pack and inspects: seconds to the first result ("first"), of the fastest of the others ("next"), and
    CPU seconds of one of the others ("cpu"), which other work on the machine changes less; and the first "score".

    Args:
        folder: of the pack, with its exported file.
        images: a folder.
        runtime: LIBRARY, ONNX or OPENVINO; ANOMALIB: anomalib's inferencer, whose model lies in the pack's folder.
        count: of images after the first one.
        threads: of a CPU.
    """
    files = sorted(Path(images).iterdir())
    chosen = [files[number % len(files)] for number in range(count + 1)]
    return partial(_inspect, Path(folder), chosen, runtime, threads)


def _inspect(folder: Path, files: list[Path], runtime: str, threads: int) -> dict[str, float]:
    started = time.perf_counter()
    inspect = _inspector(folder, runtime, threads)
    score = inspect(files[0])
    ends, used = [time.perf_counter()], time.process_time()
    for file in files[1:]:
        inspect(file)
        ends.append(time.perf_counter())
    cpu = (time.process_time() - used) / (len(files) - 1)
    fastest = min(end - before for before, end in pairwise(ends))
    return {"first": ends[0] - started, "next": fastest, "cpu": cpu, "score": score}


def _inspector(folder: Path, runtime: str, threads: int) -> Callable[[Path], float]:
    """From an image file to its score."""
    if runtime == ANOMALIB:
        from benchmarks.plain.patchcore import anomalib_inferencer

        return anomalib_inferencer(folder / ANOMALIB, threads)
    pack = _load(folder, runtime, threads)
    return lambda image: pack.inspect(image).score


def _load(folder: Path, runtime: str, threads: int) -> Pack:
    from robis.packs.pack import Pack, load_pack

    name = "torch" if runtime == LIBRARY else "onnx"
    pack = load_pack(folder, device="cpu", threads=threads, runtime=name)
    if runtime == OPENVINO:
        scorer = _open_vino(folder / "pack.onnx", threads, pack)
        return Pack(pack.manifest, scorer, pack.compute, folder, ignored=pack.ignored)
    return pack


def _open_vino(file: Path, threads: int, pack: Pack) -> OnnxScorer:
    """The exported file in OpenVINO, in the place of ONNX Runtime's session."""
    import openvino

    from robis.packs.exported import OnnxScorer

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(file), "CPU", settings)

    class Session:
        def run(self, names: None, feed: Mapping[str, Any]) -> list[Any]:
            return [values.copy() for values in compiled(dict(feed)).values()]

    return OnnxScorer(Session(), pack.scorer.dtype)
