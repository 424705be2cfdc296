"""Small image files of every kind, most of them made by hand, so that their bytes are the same everywhere."""

from __future__ import annotations

import struct
import zlib
from base64 import b85decode
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = np.mgrid[0:48, 0:40]
GREY = ((COLUMNS * 5 + ROWS * 3 + (COLUMNS * ROWS) % 17) % 256).astype(np.uint8)
COLOURS = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)
DEEP = (500 + 55 * COLUMNS + 23 * ROWS + (COLUMNS * ROWS) % 29).astype(np.uint16)  # of 12 bits
JPEG = b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00smF1_cBL1_cHO2L=cV5DE$j2?`Vr4-60&6c`v66c!d59VH(c8zUSR79cDjBPJ&)Dk&KsEif%8FeNA{"
    "DF534LjeZ|2MP!Z6AB6wC>j<TC@3f>C@3f>C@3f>C@3f>C@3f>C@3f>C@3f>C@3f>C@3f>C@3f>C@3f>C@3f>C@BBH01*fP5C9kh0U`hb5di}c"
    "0sq7R7ytkQ0{{R30000000000000060t5yB!~h`>009I70s;d700000000000RjUB5dbj~6CyGOAyNOt02BcM00000000000000000006|HJ?v"
    "5dZ-M0s;d70000000000009631Q7!T6R|O2f&bb73<CiG0ucid06zeXTb?P^(8jpeG;tm=!VsGuRr`%m&idFjh&Oq>pxCwEmgL+se<Fc?Imddt"
    "Jyv;;k`BsJr1GtRO;`kjSY^n^O<j1Cd&2-bb1EZ?FusSw*eL`F6CmT`j`{@MP(6ab|Je"
)
"""The first 24 x 16 pixels of `COLOURS`, in quality 80."""


def png(rows: NDArray[Any], bits: int, colour_type: int, width: int, **chunks: bytes) -> bytes:
    """A PNG of rows of whole bytes, unfiltered."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    beside = b"".join(chunk(kind.encode(), content) for kind, content in chunks.items())
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows), 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + beside + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(rows: NDArray[Any], bits: int, sample_format: int, photometric: int) -> bytes:
    """A little-endian grey TIFF of one strip."""
    pixels = rows.astype(rows.dtype.newbyteorder("<")).tobytes()
    tags = {
        256: 40,
        257: 48,
        258: bits,
        259: 1,
        262: photometric,
        273: 134,
        277: 1,
        278: 48,
        279: len(pixels),
        339: sample_format,
    }
    entries = b"".join(
        struct.pack("<HHII", tag, 4 if tag in {273, 279} else 3, 1, value) for tag, value in tags.items()
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + pixels


def eight_bit_files() -> dict[str, bytes]:
    """Name to file."""
    alpha = GREY[:, ::-1]
    palette = bytes(range(256)) * 3
    return {
        "grey.png": png(GREY, 8, 0, 40),
        "rgb.png": png(COLOURS, 8, 2, 40),
        "palette.png": png(GREY, 8, 3, 40, PLTE=palette, tRNS=bytes([0, 9, 255])),
        "grey-alpha.png": png(np.dstack([GREY, alpha]), 8, 4, 40),
        "rgba.png": png(np.dstack([COLOURS, alpha]), 8, 6, 40),
        "bits.png": png(np.packbits(GREY > 99, axis=1), 1, 0, 40),
        "upside-down.png": png(GREY, 8, 0, 40, eXIf=b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03" + bytes(6)),
        "rgb.jpg": JPEG,
        "grey.pgm": b"P5\n40 48\n255\n" + GREY.tobytes(),
        "grey-200.pgm": b"P5\n40 48\n200\n" + (GREY % 201).tobytes(),
        "rgb.ppm": b"P6\n40 48\n255\n" + COLOURS.tobytes(),
        "grey.tif": tiff(GREY, 8, 1, 1),
        "white-is-zero.tif": tiff(GREY, 8, 1, 0),
        "signed.tif": tiff(GREY.view(np.int8), 8, 2, 1),
    }


def deep_files() -> dict[str, bytes]:
    """Name to file, of grey of more than 8 bits."""
    return {
        "deep.png": png(DEEP.astype(">u2"), 16, 0, 40),
        "deep.pgm": b"P5\n40 48\n65535\n" + DEEP.astype(">u2").tobytes(),
        "twelve.pgm": b"P5\n40 48\n4095\n" + DEEP.astype(">u2").tobytes(),
        "plain.pgm": b"P2\n40 48\n4095\n" + b" ".join(b"%d" % value for value in DEEP.ravel()),
        "deep.tif": tiff(DEEP, 16, 1, 1),
        "deep-white-is-zero.tif": tiff(DEEP, 16, 1, 0),
        "deep-signed.tif": tiff(DEEP.astype(np.int16) - 2000, 16, 2, 1),
        "whole.tif": tiff(DEEP.astype(np.uint32) * 99_999, 32, 1, 1),
        "whole-signed.tif": tiff(DEEP.astype(np.int32) * 99_999 - 2_000_000, 32, 2, 1),
        "float.tif": tiff((DEEP / 7).astype(np.float32), 32, 3, 1),
        "float.pfm": b"Pf\n40 48\n-1.0\n" + (DEEP / 7).astype("<f4").tobytes(),
    }
