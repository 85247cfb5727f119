"""The blocks of a transformer whose tokens SuperADD compares."""

from __future__ import annotations

from robis.encoders.names import quarter_blocks


def superadd_blocks(depth: int) -> tuple[int, ...]:
    """SuperADD's: 3, 5, 8, 10 of 12, else the last of each quarter, which is what it takes of 24 and 32."""
    return (3, 5, 8, 10) if depth == 12 else quarter_blocks(depth)
