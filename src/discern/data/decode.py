"""From an encoded file, of any origin, to an RGB picture: the one decoder, of the data gate and of packing."""

import io
import threading
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MIN_SIDE = 8

_MAGIC = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*")
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# `max_pixels`, checked before anything is decoded, stands in for Pillow's process-wide limit.
Image.MAX_IMAGE_PIXELS = None
# Every thread may hold a picture; of very large ones only a few at a time.
_LARGE_PIXELS = 16_000_000
_large = threading.BoundedSemaphore(4)


class UndecodableError(Exception):
    """The file is no picture that can be used; the message says why, in plain words."""


@dataclass(frozen=True)
class Decoded:
    """A picture as it is meant to be looked at.

    Attributes:
        image: RGB, upright.
        mode: Pillow's name of the pixels as stored, e.g. `CMYK`.
        format: Pillow's name of the file format.
    """

    image: Image.Image
    mode: str
    format: str


def decode(data: bytes, max_pixels: int, draft: int | None = None) -> Decoded:
    """Decode the first frame to RGB: upright by its EXIF orientation, transparency on white, 16 bits scaled.

    Args:
        data: the encoded file.
        max_pixels: larger pictures are refused by their header, before any memory is taken for them.
        draft: when given, a JPEG may come out smaller, by a power of two, with sides of at least `draft`
            pixels; decoding is then several times faster.

    Raises:
        UndecodableError: it is empty, no known format, cut off, broken, too large or smaller than 8 px.
    """
    if not data:
        raise UndecodableError("the file is empty")
    try:
        # Pillow's readers raise almost anything on hostile bytes; whatever it is, the file cannot be used.
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return to_rgb(image, max_pixels, draft)
    except UndecodableError:
        raise
    except UnidentifiedImageError as error:
        if data.startswith(_MAGIC):
            raise UndecodableError("cut off or broken within its header") from error
        raise UndecodableError(f"not a picture in a known format ({', '.join(FORMATS)})") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UndecodableError(f"cannot be decoded: {reason}") from error


def to_rgb(image: Image.Image, max_pixels: int, draft: int | None = None) -> Decoded:
    """An opened picture as `decode` gives it; with `draft`, the picture itself may be loaded smaller.

    Raises:
        UndecodableError: it is too large, smaller than 8 px, or its pixels have no fixed range.
    """
    width, height = image.size
    if width * height > max_pixels:
        raise UndecodableError(f"{width}x{height} px are more than validate.max_pixels ({max_pixels})")
    if min(width, height) < MIN_SIDE:
        raise UndecodableError(f"{width}x{height} px: a side is shorter than {MIN_SIDE} px")
    mode, file_format = image.mode, image.format or ""
    with _large if width * height > _LARGE_PIXELS else nullcontext():
        if draft is not None:
            image.draft("RGB", (draft, draft))
        image.load()
        # Read after loading: some formats keep it behind the pixels, and Pillow turns TIFFs by itself.
        turn = _UPRIGHT.get(_orientation(image))
        rgb = _flatten(image)
        return Decoded(rgb if turn is None else rgb.transpose(turn), mode, file_format)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF in a picture that decodes: taken as upright
        return 1


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # `convert` would clip at 255, which makes almost every such picture white.
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UndecodableError(f"pixels of mode {image.mode} have no fixed range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        alpha = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(alpha, mask=alpha.getchannel("A"))
        return white
    return image.convert("RGB")
