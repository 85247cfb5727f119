"""The maxima of a product's rows and columns without the product: a Triton kernel, imported where there is a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@dataclass(frozen=True)
class Launch:
    """Sizes of one program of the kernel: its piece of the product, its step along the channels, warps and stages."""

    rows: int
    cols: int
    channels: int
    warps: int
    stages: int

    def shared_bytes(self, itemsize: int) -> int:
        """Shared memory of the pieces of x and y on their way."""
        return self.stages * (self.rows + self.cols) * self.channels * itemsize


# The first that fits a GPU's shared memory is taken. Of 1,369 tokens, pieces of 128 columns waste 3 %, of 256 12 %.
LAUNCHES = (Launch(128, 128, 64, 4, 3), Launch(128, 128, 32, 4, 3), Launch(64, 64, 32, 4, 2))


@triton.jit
def _pair_maxima(  # type: ignore[no-untyped-def]
    x,
    y,
    pairs,
    rows,
    cols,
    tokens,
    width,
    rows_tile,
    rows_image,
    cols_tile,
    cols_image,
    ROWS: tl.constexpr,  # noqa: N803
    COLS: tl.constexpr,  # noqa: N803
    CHANNELS: tl.constexpr,  # noqa: N803
    EVEN: tl.constexpr,  # noqa: N803
):
    pieces = tl.cdiv(tokens, ROWS) * tl.cdiv(tokens, COLS)
    # Programs of one pair run side by side, so that both tiles stay in the L2 cache.
    pair = tl.program_id(0) // pieces
    piece = tl.program_id(0) % pieces
    a = tl.load(pairs + 4 * pair).to(tl.int64)
    b = tl.load(pairs + 4 * pair + 1).to(tl.int64)
    image_a = tl.load(pairs + 4 * pair + 2).to(tl.int64)
    image_b = tl.load(pairs + 4 * pair + 3).to(tl.int64)
    row = piece // tl.cdiv(tokens, COLS) * ROWS + tl.arange(0, ROWS)
    col = piece % tl.cdiv(tokens, COLS) * COLS + tl.arange(0, COLS)
    channel = tl.arange(0, CHANNELS)

    # What lies beyond the last token repeats it: that changes no maximum and needs no mask.
    left = x + a * tokens * width + tl.minimum(row, tokens - 1)[:, None] * width + channel[None, :]
    right = y + b * tokens * width + tl.minimum(col, tokens - 1)[None, :] * width + channel[:, None]
    product = tl.zeros((ROWS, COLS), dtype=tl.float32)
    for start in range(0, width, CHANNELS):
        if EVEN:
            p = tl.load(left)
            q = tl.load(right)
        else:
            p = tl.load(left, mask=channel[None, :] < width - start, other=0.0)
            q = tl.load(right, mask=channel[:, None] < width - start, other=0.0)
        product = tl.dot(p, q, product)
        left += CHANNELS
        right += CHANNELS

    row_best = tl.max(product, axis=1)
    col_best = tl.max(product, axis=0)
    # A maximum of floats is one of integers by sign; -0 would go the wrong way in older versions of Triton.
    row_best = tl.where(row_best == 0.0, 0.0, row_best)
    col_best = tl.where(col_best == 0.0, 0.0, col_best)
    tl.atomic_max(rows + a * rows_tile + image_b * rows_image + row, row_best, mask=row < tokens, sem="relaxed")
    tl.atomic_max(cols + b * cols_tile + image_a * cols_image + col, col_best, mask=col < tokens, sem="relaxed")


def pair_maxima(x: Tensor, y: Tensor, pairs: Tensor, rows: Tensor, cols: Tensor, launch: Launch | None = None) -> None:
    """As `robis.detectors.musc.nearest.pair_maxima`, but the product never leaves the registers.

    All pairs go into one launch. Sums are float32; the maxima of pieces meet in atomic operations, whose order
    does not change a maximum.

    Args:
        x, y, pairs, rows, cols: as there, with features in float16 or bfloat16. Those that are not contiguous, and such
            pairs, are copied. The last dimension of `rows` and `cols` has stride 1.
        launch: sizes of a program; None takes the largest that the GPU holds.
    """
    if rows.stride(2) != 1 or cols.stride(2) != 1:
        raise ValueError(f"strides of the tokens of rows and cols: {rows.stride(2)}, {cols.stride(2)}; expected 1.")
    # The kernel computes addresses from the shape.
    x, y, pairs = x.contiguous(), y.contiguous(), pairs.contiguous()
    tokens, width = x.shape[1:]
    if launch is None:
        launch = _launch_for(x)
    pieces = triton.cdiv(tokens, launch.rows) * triton.cdiv(tokens, launch.cols)
    with torch.cuda.device_of(x):
        _pair_maxima[(len(pairs) * pieces,)](
            x,
            y,
            pairs,
            rows,
            cols,
            tokens,
            width,
            rows.stride(0),
            rows.stride(1),
            cols.stride(0),
            cols.stride(1),
            ROWS=launch.rows,
            COLS=launch.cols,
            CHANNELS=launch.channels,
            EVEN=width % launch.channels == 0,
            num_warps=launch.warps,
            num_stages=launch.stages,
        )


def _launch_for(x: Tensor) -> Launch:
    driver: Any = triton.runtime.driver.active
    shared = driver.utils.get_device_properties(x.device.index)["max_shared_mem"]
    fitting = [launch for launch in LAUNCHES if launch.shared_bytes(x.element_size()) <= shared]
    return (fitting or LAUNCHES[-1:])[0]
