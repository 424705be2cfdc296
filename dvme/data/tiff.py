"""TIFF: what Pillow's mode of an image leaves out: byte order, sign, and the end of the scale that is white."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImagePalette
from PIL.TiffImagePlugin import COMPRESSION_INFO, TiffImageFile

from dvme.data.depth import codec_of
from dvme.errors import ImageError

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
SAMPLES, PLANAR, COLOUR_MAP, EXTRA, SAMPLE_FORMAT = 277, 284, 320, 338, 339
WHITE_IS_ZERO, BLACK_IS_ZERO, YCBCR = 0, 1, 6  # of PHOTOMETRIC
UNSIGNED, SIGNED, FLOAT, UNDEFINED = 1, 2, 3, 4  # of SAMPLE_FORMAT
RAW, IN_PLANES = 1, 2  # of COMPRESSION and of PLANAR
ALPHA = frozenset({1, 2})  # of EXTRA
COLOURS = {0: "grey, white at zero", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}
FORMATS = {UNSIGNED: "unsigned", SIGNED: "signed", FLOAT: "floating point"}
BIG_ENDIAN = frozenset({"I;16BS", "I;32BS", "F;32BF"})
"""Raw modes by which Pillow swaps bytes, though libtiff has put them in the machine's order already."""
UNKNOWN_KIND = "unknown pixel mode"
"""Pillow's words for a combination of tags that it has no entry for."""
BIG_ENDIAN_BIGTIFF = b"MM\x00\x2b"
ADVICE = "save it as 8-bit grey or RGB, or as 16-bit grey"


class Tiff(TiffImageFile):
    """A TIFF as Pillow reads it, with what it does not look at.

    The limit on pixels and the orientation are the caller's, so that no tag beside the pixels can cost them.

    Source: TIFF 6.0, PhotometricInterpretation (p. 37) and section 19, SampleFormat.
    """

    is_inverted = False
    """Whether the largest of the values that `grey` gives is black."""
    n_bits = 1
    """Of a sample, as the file has it."""

    def _open(self) -> None:
        """Name the one byte order that Pillow does not know of BigTIFF, where it would find no size."""
        file: Any = self.fp
        if file.read(len(BIG_ENDIAN_BIGTIFF)) == BIG_ENDIAN_BIGTIFF:
            raise ImageError(f"is a big-endian BigTIFF, which Pillow cannot read; {ADVICE}")
        file.seek(0)
        super()._open()

    def _setup(self) -> None:
        """Let Pillow read the kinds of grey that it has no entry for as their neighbours, and refuse what it cannot."""
        tags: Any = self.tag_v2
        self.n_bits = max(_several(tags.get(BITS, 1)))
        formats = set(_several(tags.get(SAMPLE_FORMAT, UNSIGNED)))
        self._format = formats.pop() if len(formats) == 1 else None
        self._kind = self._described()
        if PHOTOMETRIC not in tags:  # readers differ in what they make of that
            raise ImageError(f"is a TIFF that does not say what its values mean ({self._kind}); {ADVICE}")
        if tags[PHOTOMETRIC] in {WHITE_IS_ZERO, BLACK_IS_ZERO}:
            self._pose_as_neighbour()
        try:
            super()._setup()
        except (SyntaxError, LookupError) as error:
            is_kind = str(error) == UNKNOWN_KIND or tags.get(COMPRESSION, RAW) not in COMPRESSION_INFO
            if not is_kind and not isinstance(error, IndexError):  # one of the planes has no raw mode
                raise  # such as a directory that is torn
            raise ImageError(f"is a TIFF that Pillow cannot read ({self._kind}); {ADVICE}") from error
        self._refuse_other_colours()
        if self.mode in {"P", "PA"} and max(self.tag_v2[COLOUR_MAP]) < 256:
            # Colours are of 16 bits, but some writers fill in 8, for which libtiff's own tools look out as well.
            self.palette = ImagePalette.raw("RGB;L", bytes(self.tag_v2[COLOUR_MAP]))

    def _pose_as_neighbour(self) -> None:
        tags: Any = self.tag_v2
        n_alpha = len(ALPHA.intersection(_several(tags.get(EXTRA, ()))))
        if tags.get(SAMPLES, 1) > 1 + n_alpha:
            raise ImageError(f"is a TIFF whose channels have no colours ({self._kind}); {ADVICE}")
        if self.n_bits > 8 or self._format == SIGNED:
            self.is_inverted = tags[PHOTOMETRIC] == WHITE_IS_ZERO
            tags[PHOTOMETRIC] = BLACK_IS_ZERO
        if self._format == UNDEFINED:
            self._format = UNSIGNED
            tags[SAMPLE_FORMAT] = (UNSIGNED,)
        if self.n_bits == 32 and self._format == UNSIGNED:
            tags[SAMPLE_FORMAT] = (SIGNED,)

    def _refuse_other_colours(self) -> None:
        """Refuse what Pillow would read as other colours without a word."""
        if self.mode in {"1", "L"} or self.mode[0] in "IF":
            return
        tags: Any = self.tag_v2
        if self.n_bits > 8:
            raise ImageError(f"has {self.n_bits} bits per colour channel ({self._kind}); {ADVICE}")
        is_grey_in_planes = self.mode == "La" and tags.get(PLANAR, 1) == IN_PLANES
        # Without compression it depends on the version of Pillow whether subsampling, tiles and planes are looked at.
        is_raw_ycbcr = tags.get(PHOTOMETRIC) == YCBCR and tags.get(COMPRESSION, RAW) == RAW
        if is_grey_in_planes or is_raw_ycbcr or self.mode == "LAB" or self._format in {SIGNED, FLOAT}:
            raise ImageError(f"is a TIFF that Pillow does not read right ({self._kind}); {ADVICE}")

    def load(self) -> Any:
        """Read the pixels; what Pillow cannot unpack is the kind of the file's, and not its harm."""
        try:
            return super().load()
        except OSError as error:
            raise OSError(f"{error} (a TIFF of {self._kind})") from error
        except ValueError as error:
            raise ImageError(f"is a TIFF that Pillow cannot read ({self._kind}: {error}); {ADVICE}") from error

    def load_prepare(self) -> None:
        """Make room for the pixels; Pillow's own judges their number once more, by a setting of its process."""
        self.im = Image.new(self.mode, (self.tag_v2[WIDTH], self.tag_v2[HEIGHT]), None).im
        ImageFile.ImageFile.load_prepare(self)

    def load_end(self) -> None:
        """Leave the image as it is stored; Pillow's own turns it, for which it reads every other tag."""
        self._size = self.im.size

    def grey(self) -> NDArray[Any]:
        """(H, W) values of grey as the file has them, in the least type of 16 or 32 bits that holds them.

        Signed ones of 8 bits come as unsigned ones in the same order.
        """
        codec, arguments = codec_of(self)
        is_swapped = sys.byteorder == "little" and codec == "libtiff" and arguments[0] in BIG_ENDIAN
        self.load()
        pixels = np.asarray(self)
        if self.mode == "L":
            return pixels ^ 0x80 if self._format == SIGNED else pixels
        if self._format == FLOAT:
            return pixels.byteswap() if is_swapped else pixels
        sign = "i" if self._format == SIGNED else "u"
        if self.n_bits == 32:
            return (pixels.byteswap() if is_swapped else pixels).view(f"{sign}4")
        pixels = pixels.astype(f"{sign}2", copy=False)
        return pixels.byteswap() if is_swapped else pixels

    def _described(self) -> str:
        """Such as `32-bit floating point RGB, 3 channels, zstd`."""
        tags: Any = self.tag_v2
        photometric, n_samples = tags.get(PHOTOMETRIC, WHITE_IS_ZERO), tags.get(SAMPLES, 1)
        numbers = "mixed" if self._format is None else FORMATS.get(self._format, "undefined")
        code = tags.get(COMPRESSION, RAW)
        return ", ".join(
            [f"{self.n_bits}-bit {numbers} {COLOURS.get(photometric, f'photometric {photometric}')}"]
            + [f"{n_samples} channels"] * (n_samples != 1)
            + ["planes"] * (tags.get(PLANAR, 1) == IN_PLANES)
            + [f"compression {COMPRESSION_INFO.get(code, code)}"] * (code != RAW)
        )


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
