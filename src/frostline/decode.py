"""Encoded images to 8-bit RGB: the one place that reads image files. Needs Pillow and NumPy only, and is safe in threads."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from frostline.errors import UserError
from frostline.image_bytes import described, scans_of
from frostline.image_bytes import sniff as sniff
from frostline.image_heads import exif_in, exif_of_jpeg, has_a_long_head, orientation_in_xmp, orientation_of, tag_bytes

#: Images with more pixels than this are refused from their header, before anything is decoded (100 megapixels: 300 MB as RGB).
MAX_PIXELS = 100_000_000
#: No longer side: a picture of one row would otherwise take gigabytes to be made small, and a byte of a BMP skips 255 rows.
MAX_SIDE = 65_535
#: Scans times pixels of a JPEG: a scan of 15 bytes takes as long as one of megabytes, so a small file could take hours.
MAX_SCANNED = 20 * MAX_PIXELS
#: Files with more bytes than this are refused unread.
MAX_BYTES = 1 << 30
#: Tags may name so many bytes more than a file has. Honest ones name none twice, but for a few.
MAX_TAGS = 1 << 24
#: Part of every cache key: decoded pixels may differ between Pillow versions and between versions of this module.
DECODER_VERSION = f"pillow-{PIL.__version__}/3"
#: Images with no longer side are always decoded whole: a data set of them becomes arrays (``data.sources``), and files must agree.
SMALL = 64

#: The file name endings of each format that is read.
ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
}
FORMAT_OF_ENDING = {ending: name for name, endings in ENDINGS.items() for ending in endings}
# Endings of images that are not read, whatever their content looks like (camera raws begin like TIFFs and hold a thumbnail).
_UNREAD = "heic heif avif svg jp2 jxl psd raw dng cr2 cr3 nef arw orf rw2 ico tga exr hdr pcx ppm pgm pbm pnm"
UNREAD_ENDINGS = frozenset(f".{name}" for name in _UNREAD.split())


# Opening the plugin itself instead of calling Image.open leaves every other format out by construction, and leaves Pillow's own
# pixel limit (a process-wide setting that warns) to the programs that use it.
_OPEN: dict[str, Callable[[Any], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.jpeg_factory,  # a multi-picture file (MPO) opens as its first picture
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
#: Pixels of deep grey images that are scaled at once.
_AT_ONCE = 2**20
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(Exception):  # noqa: N818 - it names the image, not the program
    """An image that cannot be used; its text is the reason, in a few words."""


def read_file(path: Path) -> bytes:
    """The bytes of a regular file; ``BadImage`` for folders, pipes and devices (which would hang) and for files over 1 GiB."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise BadImage(f"not a regular file ({_kind(found.st_mode)})")
        if found.st_size > MAX_BYTES:
            raise BadImage(f"over-large: {found.st_size:,} bytes, at most {MAX_BYTES:,} are read")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BadImage("a dangling link" if path.is_symlink() else "missing") from error
    except (OSError, ValueError) as error:
        raise BadImage(f"unreadable: {getattr(error, 'strerror', None) or error}") from error


def _kind(mode: int) -> str:
    return {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}.get(stat.S_IFMT(mode), "a device")


def open_image(data: bytes | Path, *, max_pixels: int = MAX_PIXELS) -> ImageFile.ImageFile:
    """Open an image without decoding it.

    Args:
        data: the encoded image, or the path of its file.
        max_pixels: H*W above which the header alone refuses the image.

    Raises:
        BadImage: no bytes, no image, a format that is not read, a broken header, or too many pixels.
    """
    encoded = read_file(data) if isinstance(data, Path) else data
    if not encoded:
        raise BadImage("empty: zero bytes")
    if not (name := sniff(encoded[:16])):
        raise BadImage(described(encoded[:512]))
    _check_head(encoded, name)
    image: ImageFile.ImageFile = _guard(_OPEN[name], io.BytesIO(encoded))
    width, height = image.size
    check_sides(width, height, max_pixels)
    most = MAX_SCANNED // max(width * height, 1)
    if name == "JPEG" and scans_of(encoded, most) > most:
        raise BadImage("over-large: too many scans, each of which passes over all pixels")
    return image


def check_sides(width: int, height: int, max_pixels: int) -> None:
    """``BadImage`` for an image that has more pixels than these, or a side over ``MAX_SIDE``."""
    if max(width, height) > MAX_SIDE:
        raise BadImage(f"over-large: {width} x {height} pixels, no side over {MAX_SIDE:,} is decoded")
    if width * height > max_pixels:
        raise BadImage(f"over-large: {width} x {height} pixels, at most {max_pixels:,} are decoded")


def _check_head(encoded: bytes, name: str) -> None:
    """Refuse what would take minutes or gigabytes only to open, which Pillow does without a limit."""
    most = len(encoded) + MAX_TAGS
    if name in ("TIFF", "JPEG") and tag_bytes(encoded if name == "TIFF" else exif_of_jpeg(encoded), most) > most:
        raise BadImage(f"over-large: its tags name more than {most:,} bytes")
    if name == "GIF" and has_a_long_head(encoded):
        raise BadImage("over-large: too much stands before its first picture")


def _guard(call: Callable[..., Any], *args: Any) -> Any:
    """Run a Pillow call on untrusted bytes. Its plugins raise whatever a broken file makes them do, so everything is caught."""
    try:
        return call(*args)
    except BadImage:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise BadImage("over-large: does not fit in memory") from error
    except Exception as error:
        text = str(error).replace("\n", " ") or type(error).__name__
        cut_short = isinstance(error, EOFError) or any(word in text.lower() for word in ("truncated", "buffer is not large enough"))
        raise BadImage("truncated" if cut_short else f"corrupt: {text[:120]}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as 8-bit RGB, upright: the one place where that is decided.

    The first frame of an animation; EXIF orientation applied; palettes resolved; transparency laid over white; CMYK as Pillow
    converts it (JPEGs in Adobe's inverted convention); grey repeated. 16-bit grey is scaled by its whole range, 0..65535 to
    0..255. 32-bit integers and floats carry no range of their own: see ``_deep_to_grey``.

    Raises:
        BadImage: truncated or corrupt data.
    """
    _guard(image.load)
    upright: Image.Image = _guard(_upright, _guard(_flatten, image), _orientation(image))
    return upright


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values, clear = np.asarray(image), image.info.get("transparency")
        grey = _deep_to_grey(values)  # a PNG may name one shade that is not there
        return Image.fromarray(np.where(values == clear, np.uint8(255), grey) if isinstance(clear, int) else grey).convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # Pillow would copy it


def _deep_to_grey(values: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W) 16-bit, 32-bit or float values to 8 bits, scaled and rounded, never clipped.

    16-bit values, and integers that all lie in 0..65535, count as 0..65535. Floats within 0..1 count as 0..1, within 0..255 as
    0..255, within 0..65535 as 0..65535. Anything else is stretched from its own least to its own greatest value.
    """
    least, greatest = float(values.min()), float(values.max())
    if not np.isfinite([least, greatest]).all():
        raise BadImage("pixels that are not finite numbers")
    tops = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (65535.0,)
    top = next((top for top in tops if least >= 0 and greatest <= top), None)
    low, span = (0.0, top) if top else (least, greatest - least or 1.0)
    grey = np.empty(values.shape, np.uint8)
    rows = max(1, _AT_ONCE // values.shape[1])  # in strips: an image of 100 megapixels in float64 has 800 MB
    for start in range(0, len(values), rows):
        part = values[start : start + rows].astype(np.float64)
        grey[start : start + rows] = np.rint((part - low) * 255.0 / span)
    return grey


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8, or XMP's. Pillow turns TIFFs itself; EXIF data that cannot be read says nothing, as in every viewer.

    Pillow's own reading of EXIF copies every tag, and tags may all name the same megabyte.
    """
    if image.format == "TIFF":
        return 1
    try:
        found = orientation_of(exif_in(image.info))
        return orientation_in_xmp(image.info) if found is None else found
    except Exception:
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURN[orientation]) if orientation in _TURN else image


def decode_rgb(data: bytes | Path, *, at_least: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A fully decoded, upright RGB image.

    Args:
        data: the encoded image, or the path of its file.
        at_least: (H, W) that the caller will reduce to. JPEGs may then be decoded at 1/2, 1/4 or 1/8 of their size, which is much
            cheaper, so long as both sides stay at least twice that. Others are decoded whole, and so are those up to ``SMALL``.
        max_pixels: see ``open_image``.

    Raises:
        BadImage: with the reason.
    """
    image = open_image(data, max_pixels=max_pixels)
    if at_least is not None and isinstance(image, JpegImagePlugin.JpegImageFile) and max(image.size) > SMALL:
        height, width = at_least if _orientation(image) < 5 else at_least[::-1]
        _guard(image.draft, None, (2 * width, 2 * height))
    return to_rgb(image)


def verify(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Check an encoded image to its last row; returns (H, W), upright.

    Args:
        data: the encoded image.
        name: its file name: an ending that is known must match the content.
        max_pixels: see ``open_image``.

    Raises:
        BadImage: zero bytes, not an image, misnamed, an unsupported format, over-large, truncated or corrupt.
    """
    ending, content = PurePosixPath(name).suffix.lower(), sniff(data[:16])
    if ending in UNREAD_ENDINGS and data:
        raise BadImage(f"unsupported format: {ending}")
    image = open_image(data, max_pixels=max_pixels)
    if FORMAT_OF_ENDING.get(ending, content) != content:
        raise BadImage(f"misnamed: a {content} image named {ending}")
    (width, height), turned = image.size, _orientation(image) >= 5 if content == "JPEG" else False
    if content == "PNG":  # decoding does not look at every checksum
        _guard(_OPEN["PNG"](io.BytesIO(data)).verify)
    if content == "JPEG":
        _guard(image.draft, None, (1, 1))
        _guard(image.load)
        return (width, height) if turned else (height, width)
    upright = to_rgb(image)
    return upright.height, upright.width


def as_array(image: bytes | str | Path | Image.Image | NDArray[Any]) -> NDArray[np.uint8]:
    """Whatever a person hands over as one image, as (H, W, 3) uint8 RGB.

    Raises:
        BadImage: an encoded image that cannot be decoded.
        UserError: an array that is not (H, W, 3) uint8; it says what to do.
    """
    if isinstance(image, np.ndarray):
        return _checked_array(image)
    if isinstance(image, Image.Image):
        return np.array(to_rgb(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return np.array(decode_rgb(bytes(image)))
    if isinstance(image, str | os.PathLike):
        return np.array(decode_rgb(Path(image)))
    raise UserError("This is not an image.", expected=_WANTED, received=type(image).__name__)


_WANTED = "encoded bytes, a path, a Pillow image, or a uint8 array of shape (H, W, 3) in RGB order"


def _checked_array(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
        return image
    hint = "pass the image as it was read, before any resizing or normalising"
    if image.ndim == 4 or (image.ndim == 3 and image.shape[2] not in (1, 3, 4) and image.shape[0] in (1, 3)):
        hint = "a batch is a list of images: list(batch)" if image.ndim == 4 else "put channels last: image.transpose(1, 2, 0)"
    elif image.ndim == 2 or image.shape[-1] == 1:
        hint = "for grey: np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)"
    elif image.ndim == 3 and image.shape[2] == 4:
        hint = "with transparency: pass Image.fromarray(image)"
    elif image.dtype.kind == "f":
        hint = "for values in [0, 1]: (image * 255).round().astype(np.uint8); undo any mean and standard deviation first"
    received = f"{image.dtype} of shape {image.shape}"
    raise UserError("This array is not an image as Frostline takes it.", expected=_WANTED, received=received, hint=hint)
