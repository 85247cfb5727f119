"""WinCLIP: windows in batches, against one window at a time, and against anomalib where it is installed.

    .venv/bin/python benchmarks/winclip.py [--images 4] [--encoder clip_vitb16plus] [--threads 2]

Weights are random: the arithmetic is the same. Every side has to give the same numbers before it is timed.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.winclip.scores import score, tile_maps
from robis.detectors.winclip.tiles import embed
from robis.detectors.winclip.windows import field_of, window_tokens
from robis.encoders.clip import ClipEncoder, build_clip
from robis.encoders.names import CLIP_ARCHITECTURES

SCALES, TEMPERATURE = [2, 3], 0.07


def one_at_a_time(encoder: ClipEncoder, tiles: Tensor) -> dict[str, Tensor]:
    """Each window of each tile passes through the transformer by itself."""
    found: dict[str, list[Tensor]] = {field_of(scale): [] for scale in SCALES}
    for tile in tiles:
        tokens = encoder.embedded(tile[None])
        for scale in SCALES:
            windows = window_tokens(encoder.grid, scale) + 1
            alone = [encoder.transformed(tokens[:, [0, *window]])[0] for window in windows.tolist()]
            found[field_of(scale)].append(F.normalize(torch.cat(alone), dim=-1))
    return {name: torch.stack(parts) for name, parts in found.items()}


def anomalibs(
    model: Any, name: str, text: dict[str, Tensor], images: Tensor
) -> Callable[[], tuple[Tensor, Tensor]] | None:
    """anomalib's zero-shot model with the same weights; None where it is not installed."""
    try:
        from anomalib.models.image.winclip import torch_model
    except ImportError:
        return None

    class SequenceFirst(torch_model.WinClipModel):
        """anomalib expects the transformer of open_clip < 2.26.1, which takes the sequence first."""

        def _get_window_embeddings(self, feature_map: Tensor, masks: Tensor) -> Tensor:
            transformer = self.clip.visual.transformer
            batch_first = type(transformer).forward
            transformer.forward = lambda x: batch_first(transformer, x.transpose(0, 1)).transpose(0, 1)
            try:
                return super()._get_window_embeddings(feature_map, masks)
            finally:
                del transformer.forward

    torch_model.BACKBONE, torch_model.PRETRAINED = CLIP_ARCHITECTURES[name].open_clip_name, None
    theirs = SequenceFirst()
    theirs.clip.load_state_dict(model.state_dict())
    theirs.eval()._text_embeddings = torch.stack([text["normal"], text["anomalous"]])

    def run() -> tuple[Tensor, Tensor]:
        result = theirs(images)
        return result.pred_score, result.anomaly_map

    return run


def timed(run: Callable[[], Any], repeats: int) -> tuple[Any, tuple[float, float]]:
    """Result, and seconds and CPU seconds of the fastest of some runs."""
    runs = []
    for _ in range(repeats):
        started, cpu = time.perf_counter(), time.process_time()
        result = run()
        runs.append((time.perf_counter() - started, time.process_time() - cpu))
    return result, min(runs)


def agree(what: str, found: Tensor, expected: Tensor) -> None:
    """End the benchmark where two sides do not give the same numbers."""
    worst = (found - expected).abs().max().item()
    print(f"largest difference, {what}: {worst:.1e}")
    if not worst < 1e-4:
        raise SystemExit(f"{what}: the two sides do not agree")


@torch.inference_mode()
def main() -> None:
    """Print one row per way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--encoder", default="clip_vitb16plus", choices=CLIP_ARCHITECTURES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2, help="runs of each, of which the fastest counts")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, open_clip {version('open_clip_torch')}, "
        f"{options.threads} threads, {options.images} images, {options.encoder}\n"
    )
    size = CLIP_ARCHITECTURES[options.encoder].input_size
    model = build_clip(options.encoder, weights="random", input_size=size)
    encoder = ClipEncoder(model.visual, [0])
    tiles = torch.randint(0, 256, (options.images, size, size, 3), dtype=torch.uint8)
    text = {side: torch.randn(encoder.embedding_width) for side in ("normal", "anomalous")}
    settings: dict[str, Any] = {"grid": encoder.grid, "scales": SCALES, "temperature": TEMPERATURE}

    def whole() -> tuple[Tensor, Tensor]:
        scores, maps = score(embed(encoder, tiles, SCALES), text, **settings)
        return scores, tile_maps(maps, input_size=size, size=size)

    features, batched = timed(lambda: embed(encoder, tiles, SCALES), options.repeats)
    alone, single = timed(lambda: one_at_a_time(encoder, tiles), 1)
    for name, values in alone.items():
        agree(f"{name}, one at a time", features[name], values)
    rows = [("one window at a time", single), ("all windows of a scale in batches", batched)]
    mean, std = torch.tensor(open_clip.OPENAI_DATASET_MEAN), torch.tensor(open_clip.OPENAI_DATASET_STD)
    theirs = anomalibs(model, options.encoder, text, ((tiles / 255 - mean) / std).permute(0, 3, 1, 2))
    if theirs is not None:
        (their_scores, their_maps), their_time = timed(theirs, options.repeats)
        (scores, maps), our_time = timed(whole, options.repeats)
        agree("scores, anomalib", scores, their_scores)
        agree("maps, anomalib", maps, their_maps)
        rows += [(f"image to map, anomalib {version('anomalib')}", their_time), ("image to map, robis", our_time)]
    references = {name: values[:4].flatten(0, 1) for name, values in features.items() if name != "image"}
    _, stored = timed(lambda: score(features, text, references, **settings), options.repeats)
    rows.append(("one more run with 4 shots, from stored features", stored))
    print("\n| | seconds per image | CPU seconds per image | times as fast |\n| --- | --- | --- | --- |")
    for what, (seconds, cpu) in rows:
        print(f"| {what} | {seconds / options.images:.2f} | {cpu / options.images:.2f} | {single[0] / seconds:.1f} |")


if __name__ == "__main__":
    main()
