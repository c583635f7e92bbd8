"""Little drawings to try the page with, made by our own code when the page is built: nobody's photographs, nothing to download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

#: Pixels a side of a finished drawing, and how many times finer it is drawn before it is reduced, so that edges are smooth.
SIDE, FINER = 256, 3
_Point = tuple[float, float]


class _Canvas:
    """A square of one unit a side: the origin is its upper left corner."""

    def __init__(self, top: str, bottom: str) -> None:
        self._n = SIDE * FINER
        shades = Image.linear_gradient("L").resize((self._n, self._n))
        self.image = Image.composite(Image.new("RGB", shades.size, bottom), Image.new("RGB", shades.size, top), shades)
        self._draw = ImageDraw.Draw(self.image)

    def area(self, points: Sequence[_Point], colour: str) -> None:
        self._draw.polygon([(x * self._n, y * self._n) for x, y in points], fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: str, round_by: float = 0.0) -> None:
        corners = (left * self._n, top * self._n, right * self._n, bottom * self._n)
        self._draw.rounded_rectangle(corners, round_by * self._n, fill=colour)

    def oval(self, x: float, y: float, across: float, down: float, colour: str) -> None:
        n = self._n
        self._draw.ellipse(((x - across) * n, (y - down) * n, (x + across) * n, (y + down) * n), fill=colour)

    def line(self, points: Sequence[_Point], width: float, colour: str) -> None:
        self._draw.line([(x * self._n, y * self._n) for x, y in points], fill=colour, width=round(width * self._n), joint="curve")

    def finished(self) -> Image.Image:
        """Reduced to ``SIDE``, a little soft, as a lens is."""
        return self.image.resize((SIDE, SIDE), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(0.6))


def _ship() -> Image.Image:
    c = _Canvas("#a9c9de", "#dfe9ec")
    c.box(0, 0.66, 1, 1, "#2f6484")
    for y, colour in ((0.7, "#3b7596"), (0.8, "#28587a"), (0.9, "#336c8d")):
        c.line([(0, y), (0.3, y + 0.015), (0.6, y - 0.01), (1, y + 0.01)], 0.012, colour)
    c.area([(0.08, 0.54), (0.95, 0.54), (0.85, 0.71), (0.16, 0.71)], "#8e2f2b")
    c.area([(0.08, 0.54), (0.95, 0.54), (0.925, 0.6), (0.105, 0.6)], "#26303c")
    c.box(0.5, 0.38, 0.84, 0.54, "#f2f2ee")
    c.box(0.56, 0.3, 0.8, 0.39, "#e4e5e2")
    c.box(0.63, 0.17, 0.71, 0.3, "#d8702c")
    c.box(0.63, 0.17, 0.71, 0.2, "#26303c")
    for x in (0.54, 0.62, 0.7, 0.78):
        c.box(x, 0.43, x + 0.035, 0.465, "#3f5a70")
    for x, colour in ((0.17, "#b5543c"), (0.27, "#3f7a61"), (0.37, "#c09a3e")):
        c.box(x, 0.44, x + 0.09, 0.54, colour)
    c.line([(0.14, 0.54), (0.14, 0.32)], 0.012, "#3a3f46")
    return c.finished()


def _airplane() -> Image.Image:
    c = _Canvas("#5f9fd3", "#b9d9ee")
    for x, y, s in ((0.2, 0.82, 0.12), (0.33, 0.85, 0.14), (0.8, 0.2, 0.08), (0.88, 0.22, 0.07)):
        c.oval(x, y, s, s * 0.42, "#e6f0f6")
    c.area([(0.44, 0.47), (0.62, 0.45), (0.36, 0.2), (0.28, 0.21)], "#aeb9c2")
    c.area([(0.08, 0.28), (0.16, 0.27), (0.27, 0.47), (0.14, 0.5)], "#c23b32")
    c.area([(0.08, 0.52), (0.2, 0.46), (0.78, 0.42), (0.92, 0.5), (0.8, 0.575), (0.22, 0.58)], "#f4f6f7")
    c.area([(0.11, 0.545), (0.22, 0.58), (0.8, 0.575), (0.9, 0.52)], "#cdd5da")
    c.area([(0.42, 0.53), (0.6, 0.52), (0.34, 0.82), (0.24, 0.82)], "#8f9ca6")
    c.area([(0.1, 0.51), (0.2, 0.5), (0.1, 0.63), (0.04, 0.63)], "#9da9b2")
    c.oval(0.42, 0.66, 0.065, 0.032, "#59656f")
    c.area([(0.82, 0.45), (0.87, 0.465), (0.86, 0.485), (0.8, 0.485)], "#34495a")
    for x in range(9):
        c.oval(0.32 + 0.05 * x, 0.497, 0.011, 0.013, "#46607a")
    return c.finished()


def _truck() -> Image.Image:
    c = _Canvas("#b8cddb", "#e6e3d8")
    c.box(0, 0.7, 1, 1, "#6d6f72")
    c.box(0, 0.68, 1, 0.72, "#8f9a72")
    c.box(0.05, 0.22, 0.66, 0.7, "#e9e7e0", 0.01)
    c.box(0.05, 0.56, 0.66, 0.62, "#b83a2e")
    c.area([(0.69, 0.34), (0.84, 0.34), (0.93, 0.52), (0.95, 0.72), (0.69, 0.72)], "#b83a2e")
    c.area([(0.75, 0.38), (0.83, 0.38), (0.89, 0.52), (0.75, 0.52)], "#bcd6e4")
    c.box(0.05, 0.7, 0.95, 0.76, "#2e3236")
    c.box(0.92, 0.6, 0.955, 0.65, "#f4e6a4")
    for x in (0.18, 0.33, 0.8):
        c.oval(x, 0.77, 0.082, 0.082, "#1d1f22")
        c.oval(x, 0.77, 0.038, 0.038, "#b4b8bb")
    return c.finished()


def _car() -> Image.Image:
    c = _Canvas("#cfdbe2", "#e9e7df")
    c.box(0, 0.68, 1, 1, "#77787a")
    c.area([(0.22, 0.52), (0.33, 0.33), (0.63, 0.33), (0.78, 0.52)], "#9d1f22")
    c.area([(0.29, 0.51), (0.37, 0.375), (0.48, 0.375), (0.48, 0.51)], "#b9d0dc")
    c.area([(0.51, 0.51), (0.51, 0.375), (0.61, 0.375), (0.71, 0.51)], "#b9d0dc")
    c.box(0.05, 0.5, 0.95, 0.72, "#b9262a", 0.06)
    c.box(0.05, 0.65, 0.95, 0.72, "#84181b", 0.03)
    c.box(0.9, 0.54, 0.95, 0.59, "#f5ecb5", 0.01)
    c.box(0.05, 0.54, 0.08, 0.6, "#f07f5a", 0.01)
    for x in (0.25, 0.75):
        c.oval(x, 0.72, 0.1, 0.1, "#1b1c1f")
        c.oval(x, 0.72, 0.052, 0.052, "#c3c7ca")
    return c.finished()


def _bird() -> Image.Image:
    c = _Canvas("#9fc2a0", "#cfdcb0")
    c.line([(0, 0.86), (0.4, 0.82), (1, 0.9)], 0.045, "#6a4d34")
    c.area([(0.1, 0.74), (0.02, 0.82), (0.1, 0.85), (0.36, 0.66)], "#5a4330")
    c.oval(0.46, 0.57, 0.25, 0.2, "#8a6747")
    c.oval(0.53, 0.63, 0.17, 0.14, "#e2d2b4")
    c.oval(0.68, 0.36, 0.135, 0.125, "#8a6747")
    c.area([(0.56, 0.44), (0.78, 0.44), (0.68, 0.62), (0.5, 0.6)], "#c4674a")
    c.area([(0.79, 0.34), (0.93, 0.38), (0.79, 0.42)], "#d9a03a")
    c.oval(0.72, 0.335, 0.024, 0.024, "#17130f")
    c.oval(0.728, 0.327, 0.008, 0.008, "#ffffff")
    c.area([(0.2, 0.66), (0.3, 0.47), (0.5, 0.52), (0.42, 0.68)], "#4f3926")
    for x in (0.46, 0.54):
        c.line([(x, 0.74), (x - 0.01, 0.85)], 0.014, "#b8802f")
    return c.finished()


def _cup() -> Image.Image:
    c = _Canvas("#e8ded2", "#cdb59a")
    c.box(0, 0.72, 1, 1, "#94704f")
    c.oval(0.46, 0.84, 0.34, 0.06, "#7d5d40")
    c.oval(0.74, 0.56, 0.13, 0.13, "#3f6f86")
    c.oval(0.74, 0.56, 0.075, 0.075, "#d8c5ad")
    c.area([(0.2, 0.36), (0.72, 0.36), (0.66, 0.84), (0.26, 0.84)], "#3f6f86")
    c.oval(0.46, 0.36, 0.26, 0.065, "#5b8ca3")
    c.oval(0.46, 0.365, 0.22, 0.048, "#4a2c1b")
    return c.finished()


#: Name → drawing. The last is none of the ten classes of the model in the package: it shows what "not sure" is for.
DRAWINGS: dict[str, Callable[[], Image.Image]] = {
    "Ship": _ship,
    "Airplane": _airplane,
    "Truck": _truck,
    "Car": _car,
    "Bird": _bird,
    "Cup": _cup,
}


def write_drawings(folder: Path) -> dict[str, Path]:
    """Draw all of them into ``folder``, as PNG; their files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{name.lower()}.png" for name in DRAWINGS}
    for name, file in files.items():
        DRAWINGS[name]().save(file)
    return files
