"""Label Studio's brush strokes: RGBA pixels in the run lengths of the thi.ng package rle-pack.

https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack

A stream of bits, the highest of a byte first: 32 bits with the number of values, 5 bits with the bits of a value less
one, four times 4 bits with the bits of a length less one, then blocks. A block has 1 bit (whether one value is
repeated), 2 bits that choose one of the four sizes, a length less one in so many bits, and one value or as many as the
length says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from robis.errors import DataError
from robis.labels.shapes import runs_of

CHANNELS = 4
VALUE_BITS = 8
LENGTH_BITS = (3, 4, 8, 16)
ALPHA = 3


def encoded_brush(mask: np.ndarray) -> list[int]:
    """The bytes of a bool mask (H, W): marked pixels are white and opaque, the others black and transparent."""
    bits = [_bits(mask.size * CHANNELS, 32), _bits(VALUE_BITS - 1, 5), *(_bits(size - 1, 4) for size in LENGTH_BITS)]
    for number, length in enumerate((runs_of(mask.ravel()) * CHANNELS).tolist()):
        value = _bits(255 * (number % 2), VALUE_BITS)
        for part, choice in _parts(length):
            bits += ["1", _bits(choice, 2), _bits(part - 1, LENGTH_BITS[choice]), value]
    stream = np.frombuffer("".join(bits).encode("ascii"), np.uint8) - ord("0")
    return np.packbits(stream).tolist()


def _bits(value: int, count: int) -> str:
    return f"{value:0{count}b}"


def _parts(length: int) -> Iterator[tuple[int, int]]:
    """A run in lengths that the sizes can hold, each with the number of the smallest such size."""
    longest = 2 ** LENGTH_BITS[-1]
    while length:
        part = min(length, longest)
        yield part, next(choice for choice, size in enumerate(LENGTH_BITS) if part <= 2**size)
        length -= part


def decoded_brush(data: Sequence[int], height: int, width: int, where: str) -> np.ndarray:
    """The bool mask (height, width) of such bytes: the pixels that are not transparent.

    Raises DataError where the bytes are damaged or of an image of another size.
    """
    try:
        stream = _Bits(data)
        values = _decoded(stream, height * width * CHANNELS)
    except (IndexError, OverflowError, ValueError) as error:
        raise DataError(
            f"{where}: a brush stroke that cannot be read for {width} x {height} pixels ({error})."
        ) from error
    mask: np.ndarray = values.reshape(height, width, CHANNELS)[..., ALPHA] > 0
    return mask


class _Bits:
    def __init__(self, data: Sequence[int]) -> None:
        self._bits = np.unpackbits(np.asarray(data, np.uint8))
        self._place = 0

    def take(self, count: int, size: int) -> np.ndarray:
        """The next numbers of some bits each."""
        end = self._place + count * size
        if end > len(self._bits):
            raise IndexError("it ends too early")
        bits = self._bits[self._place : end].reshape(count, size)
        self._place = end
        numbers: np.ndarray = bits @ (1 << np.arange(size - 1, -1, -1, dtype=np.int64))
        return numbers

    def number(self, size: int) -> int:
        return int(self.take(1, size)[0])


def _decoded(stream: _Bits, expected: int) -> np.ndarray:
    if (count := stream.number(32)) != expected:
        raise ValueError(f"it has {count} values, expected {expected}")
    value_bits = stream.number(5) + 1
    sizes = [stream.number(4) + 1 for _ in LENGTH_BITS]
    values = np.zeros(count, np.int64)
    place = 0
    while place < count:
        is_repeated = stream.number(1)
        end = min(place + stream.number(sizes[stream.number(2)]) + 1, count)
        values[place:end] = stream.take(1 if is_repeated else end - place, value_bits)
        place = end
    return values
