"""The process in which codecs written in C++ decode frames: what brings it down leaves the one that asked alone.

It is run as a script, without dvme. For each frame it reads a line of JSON and the frame's bytes from its standard
input, and writes a line of JSON and the pixels to its standard output, until the input ends.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from typing import Any, BinaryIO


def main() -> None:
    """Answer until nobody asks any more."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "wb")
    with tempfile.TemporaryFile() as said:  # codecs tell of damage there only
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        while line := sys.stdin.buffer.readline():
            _answer(json.loads(line), said, answers)


def _answer(asked: dict[str, Any], said: BinaryIO, answers: BinaryIO) -> None:
    frame = sys.stdin.buffer.read(asked["n_bytes"])
    said.seek(0)
    said.truncate()
    answer: dict[str, Any] = {"n_bytes": 0}
    pixels = b""
    try:
        array, found = _decoded(frame, asked)
        pixels = array.tobytes()
        answer |= {"n_bytes": len(pixels), "dtype": array.dtype.str, "shape": array.shape}
        answer["photometric"] = str(found["photometric_interpretation"])
    except Exception as error:  # noqa: BLE001 - whatever it is, the one who asked has to know
        answer["error"] = f"{error}" or type(error).__name__
    said.seek(0)
    answer["said"] = said.read(10_000).decode("utf-8", "replace")
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.write(pixels)
    answers.flush()


def _decoded(frame: bytes, asked: dict[str, Any]) -> Any:
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder

    decoder = get_decoder(asked["transfer_syntax"])
    return decoder.as_array(encapsulate([frame]), index=0, decoding_plugin=asked["plugin"], **asked["options"])


if __name__ == "__main__":
    main()
