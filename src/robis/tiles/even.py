"""Tiles evenly spread over an image's tokens, of which each belongs to one tile (SuperADD, arXiv 2605.14808)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in tokens of the image.

    Attributes:
        start: its first token.
        first, stop: the tokens of the image that are taken from it, `first` included and `stop` not.
    """

    start: int
    first: int
    stop: int

    @property
    def inside(self) -> slice:
        """The tokens of the tile that are taken."""
        return slice(self.first - self.start, self.stop - self.start)


def even_spans(tokens: int, tile: int, shared: int) -> list[Span]:
    """The tiles of an axis: as few as share at least so many tokens, from border to border.

    Of the tokens that two neighbors share the first one keeps half, rounded up where their number is odd.

    Args:
        tokens: of the axis. An axis shorter than a tile has one tile, which reaches beyond it.
        tile: tokens of a tile.
        shared: tokens that two neighbors share at least, fewer than `tile`.
    """
    beyond = max(0, tokens - tile)
    last = -(-beyond // (tile - shared))
    starts = [number * beyond // max(1, last) for number in range(last + 1)]
    borders = [start + (before + tile - start + 1) // 2 for before, start in pairwise(starts)]
    return [Span(*span) for span in zip(starts, [0, *borders], [*borders, tokens], strict=True)]
