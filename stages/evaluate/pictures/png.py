"""PNG files whose bytes depend on the pixels alone.

Pillow and matplotlib compress through a zlib whose output differs between builds and between processors. Here the
picture is filtered by row differences, runs of equal bytes are shortened, and the fixed Huffman code of RFC 1951 is
used, so there is nothing left to vary.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

LONGEST = 258  # bytes that one back-reference can stand for
# RFC 1951, 3.2.5: the shortest length of each code from 257 on, and the extra bits after it
BASES = np.array(
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258]
)
EXTRA = np.array([0] * 8 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4 + [0])
END = 256


def encode(pixels: NDArray[np.uint8], dots_per_inch: int) -> bytes:
    """Return the PNG file of uint8 [H, W, 3], with a palette: areas and lines keep their colours, shades nearly."""
    palette, places = indexed(pixels)
    per_metre = round(dots_per_inch / 0.0254)
    size = _chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1))
    return _file(places, 3, _chunk(b"PLTE", palette.tobytes()) + size)


def encode_whole(pixels: NDArray[np.uint8]) -> bytes:
    """Return the PNG file of uint8 [H, W] (grey) or [H, W, 3] (colour), with each value as it is."""
    return _file(pixels, 0 if pixels.ndim == 2 else 2, b"")


def _file(pixels: NDArray[np.uint8], kind: int, chunks: bytes) -> bytes:
    """Return a PNG file with a colour type of the standard (11.2.1) and what must stand before the pixels."""
    height, width = pixels.shape[:2]
    above = np.concatenate([np.zeros_like(pixels[:1]), pixels[:-1]])
    rows = (pixels - above).reshape(height, -1)
    filtered = np.hstack([np.full((height, 1), 2, np.uint8), rows])  # filter 2: difference to the row above
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
        + chunks
        + _chunk(b"IDAT", compress(filtered.ravel()))
        + _chunk(b"IEND", b"")
    )


def indexed(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a palette, [at most 256, 3], and each pixel of [H, W, 3] as its nearest colour's place there, [H, W].

    The palette holds the 128 most frequent colours; and of the others, which are shades where letters and lines end,
    the most frequent of each 32 x 32 x 32 block of colours.
    """
    whole = pixels.astype(np.int64) @ np.array([65536, 256, 1])
    values, inverse, n = np.unique(whole, return_inverse=True, return_counts=True)
    order = np.lexsort((values, -n))  # equally frequent ones by value
    colours = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=1)
    _, firsts = np.unique(colours[order[128:]] // 32 @ np.array([64, 8, 1]), return_index=True)
    palette = colours[np.append(order[:128], order[128:][np.sort(firsts)[:128]])]
    nearest = np.array([((palette - colour) ** 2).sum(axis=1).argmin() for colour in colours])
    return palette.astype(np.uint8), nearest[inverse].astype(np.uint8).reshape(whole.shape)


def compress(data: NDArray[np.uint8]) -> bytes:
    """Return `data` (uint8 [N], N > 0) as a zlib stream that any inflater reads."""
    code, bits = _tokens(data)
    body = _packed(np.r_[0b011, code], np.r_[3, bits])  # last block, fixed Huffman code
    return b"\x78\x01" + body + struct.pack(">I", zlib.adler32(data.tobytes()))


def _tokens(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return code words, lowest bit first, and their lengths in bits: a literal for each run, then repeats of it."""
    starts = np.flatnonzero(np.r_[True, data[1:] != data[:-1]])
    rest = np.diff(np.r_[starts, len(data)]) - 1
    full, tail = np.divmod(rest, LONGEST)
    tail_tokens = np.where(tail < 3, tail, 1)  # a back-reference stands for at least 3 bytes
    per_run = 1 + full + tail_tokens
    place = np.arange(per_run.sum()) - np.repeat(np.cumsum(per_run) - per_run, per_run)
    literal = np.repeat(data[starts].astype(np.int64), per_run)
    of_full, of_tail = np.repeat(full, per_run), np.repeat(tail, per_run)
    repeats = np.where(place <= of_full, LONGEST, of_tail)
    is_repeat = (place > 0) & ((place <= of_full) | (of_tail >= 3))
    codes, lengths = _code_table()
    symbol = np.where(is_repeat, LONGEST + repeats, literal)  # 256 end, 261..516 repeats of 3..258
    symbol = np.r_[symbol, END]
    return codes[symbol], lengths[symbol]


def _code_table() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return code words and bits: 0..255 literals, 256 the end, 258 + n a repeat of n bytes from distance 1."""
    codes, lengths = np.zeros(LONGEST * 2 + 1, np.int64), np.zeros(LONGEST * 2 + 1, np.int64)
    for symbol in range(END + 1):
        codes[symbol], lengths[symbol] = _fixed(symbol)
    for repeat in range(3, LONGEST + 1):
        number = int(np.searchsorted(BASES, repeat, side="right")) - 1
        word, bits = _fixed(257 + number)
        word |= (repeat - int(BASES[number])) << bits
        codes[LONGEST + repeat], lengths[LONGEST + repeat] = word, bits + int(EXTRA[number]) + 5  # distance 1 is 00000
    return codes, lengths


def _fixed(symbol: int) -> tuple[int, int]:
    """Return the fixed Huffman code of RFC 1951, 3.2.6, reversed for writing lowest bit first, and its length."""
    if symbol < 144:
        word, bits = 0x30 + symbol, 8
    elif symbol < 256:
        word, bits = 0x190 + symbol - 144, 9
    elif symbol < 280:
        word, bits = symbol - 256, 7
    else:
        word, bits = 0xC0 + symbol - 280, 8
    return int(f"{word:0{bits}b}"[::-1], 2), bits


def _packed(words: NDArray[np.int64], bits: NDArray[np.int64]) -> bytes:
    place = np.arange(bits.sum()) - np.repeat(np.cumsum(bits) - bits, bits)
    return np.packbits((np.repeat(words, bits) >> place & 1).astype(np.uint8), bitorder="little").tobytes()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
