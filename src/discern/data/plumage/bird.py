"""The bird itself, painted from tail to eye in its own coordinates: it looks along +x, y points down."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from discern.data.plumage.canvas import Canvas
from discern.data.plumage.shapes import Field, blend, coverage, disc, ellipse, rod, turn
from discern.data.plumage.species import Species

PERCH = 0.62
"""How far below the bird's origin the branch runs."""

_INK = np.array([[0.09, 0.08, 0.10]])
_PAPER = np.array([[0.99, 0.98, 0.96]])


@dataclass(frozen=True)
class View:
    """How N birds stand in their pictures.

    Attributes:
        x: (N, S, S) the bird's own coordinate at each pixel, along its gaze.
        y: the other one, downwards.
        pixel: (N, 1, 1) width of a pixel in the bird's unit.
        light: (N, S, S) brightness that gives the body its volume.
        nod: (N, 1, 1) turn of the head, radians.
        tail_lift: (N, 1, 1) turn of the tail, radians.
    """

    x: Field
    y: Field
    pixel: Field
    light: Field
    nod: Field
    tail_lift: Field

    def cover(self, *distances: Field) -> Field:
        """Coverage of the intersection of shapes."""
        distance = distances[0]
        for other in distances[1:]:
            distance = np.maximum(distance, other)
        return coverage(distance, self.pixel)

    def inked(self, distance: Field) -> Field:
        """The light on a shape whose rim is drawn darker."""
        return self.light * (0.58 + 0.42 * coverage(distance + 0.035, np.maximum(self.pixel, 0.03)))


def paint(canvas: Canvas, kinds: Sequence[Species], view: View) -> None:
    """Paint one bird on each picture."""
    head = turn(view.x - _measure(kinds, "genus.head_x"), view.y - _measure(kinds, "genus.head_y"), view.nod)
    _legs(canvas, view)
    _tail(canvas, kinds, view)
    _beak(canvas, kinds, view, *head)
    _body(canvas, kinds, view, *head)
    _wing(canvas, kinds, view)
    _crown_and_eye(canvas, kinds, view, *head)


def _measure(kinds: Sequence[Species], name: str) -> Field:
    return np.array([float(attrgetter(name)(kind)) for kind in kinds])[:, None, None]


def _colour(kinds: Sequence[Species], name: str) -> Field:
    return np.array([attrgetter(name)(kind) for kind in kinds])


def _legs(canvas: Canvas, view: View) -> None:
    for foot in (-0.07, 0.09):
        u, v = turn(view.x - foot, view.y - 0.30, 1.45)
        canvas.paint(coverage(rod(u, v, PERCH - 0.30, 0.026, 0.030), view.pixel), _INK, bird=True)


def _tail(canvas: Canvas, kinds: Sequence[Species], view: View) -> None:
    u, v = turn(view.x + 0.34, view.y - 0.20, np.pi - 0.38 + view.tail_lift)
    length, fork = _measure(kinds, "tail.length"), _measure(kinds, "tail.fork")
    # Two feathers, mirrored about the tail's axis.
    along, across = turn(u, np.abs(v), fork)
    distance = rod(along, across, length, 0.08, 0.13)
    distance = np.maximum(distance, u - length - 0.03)
    cover = coverage(distance, view.pixel)
    canvas.paint(cover, _colour(kinds, "genus.wing"), view.inked(distance), bird=True, part=True)
    tip = cover * coverage(0.42 * length - u, view.pixel)
    canvas.paint(tip, _colour(kinds, "tail.colour"), view.inked(distance), bird=True, part=True)


def _beak(canvas: Canvas, kinds: Sequence[Species], view: View, x: Field, y: Field) -> None:
    radius = _measure(kinds, "genus.head")
    distance = rod(x - 0.7 * radius, y - 0.02, 0.3 * radius + _measure(kinds, "beak_length"), 0.12, 0.004)
    canvas.paint(
        coverage(distance, view.pixel),
        _colour(kinds, "beak.colour"),
        view.inked(distance),
        bird=True,
        part=True,
    )


def _body(canvas: Canvas, kinds: Sequence[Species], view: View, head_x: Field, head_y: Field) -> None:
    u, v = turn(view.x, view.y - 0.08, -0.42)
    length, height = _measure(kinds, "genus.body_length"), _measure(kinds, "genus.body_height")
    trunk = ellipse(u, v, length, height)
    distance = blend(trunk, disc(head_x, head_y, _measure(kinds, "genus.head")), 0.16)
    light = view.inked(distance)
    canvas.paint(coverage(distance, view.pixel), _colour(kinds, "genus.body"), light, bird=True)
    belly = ellipse(u - 0.30 * length, v - 0.42 * height, 0.74 * length, 0.66 * height)
    canvas.paint(view.cover(belly, distance), _colour(kinds, "genus.belly"), light, bird=True)
    # A lattice of spots, every second row shifted, on the breast.
    size = _measure(kinds, "spots.size")
    row = np.floor(v / 0.155)
    spot = disc((u / 0.155 + 0.5 * (row % 2.0)) % 1.0 - 0.5, (v / 0.155) % 1.0 - 0.5, size) * 0.155
    breast = ellipse(u - 0.42 * length, v - 0.36 * height, 0.50 * length, 0.52 * height)
    cover = view.cover(spot, breast, distance) * (size > 0.0)
    canvas.paint(cover, _colour(kinds, "spots.colour"), view.light, bird=True, part=True)


def _wing(canvas: Canvas, kinds: Sequence[Species], view: View) -> None:
    length, height = _measure(kinds, "genus.body_length"), _measure(kinds, "genus.body_height")
    u, v = turn(view.x - 0.10, view.y - 0.02, np.pi - 0.42)
    reach = 1.30 * length
    distance = rod(u, v, reach, 0.56 * height, 0.03)
    light = view.inked(distance)
    cover = coverage(distance, view.pixel)
    canvas.paint(cover, _colour(kinds, "genus.wing"), light, bird=True)
    # Flight feathers: thin dark lines that run to the tip.
    feather = np.abs((v / (1.0 - 0.55 * np.clip(u / reach, 0.0, 1.0)) / 0.09) % 1.0 - 0.5) * 0.09 - 0.008
    lines = 0.45 * cover * coverage(feather, view.pixel) * coverage(0.38 * reach - u, view.pixel)
    canvas.paint(lines, _INK, bird=True)
    count, colour = _measure(kinds, "wing_bars.count"), _colour(kinds, "wing_bars.colour")
    for bar, place in enumerate((0.16, 0.50)):
        band = np.abs(u + 0.25 * v - place * reach) - 0.07
        canvas.paint(cover * coverage(band, view.pixel) * (count > bar), colour, light, bird=True, part=True)


def _crown_and_eye(canvas: Canvas, kinds: Sequence[Species], view: View, x: Field, y: Field) -> None:
    radius = _measure(kinds, "genus.head")
    skull = disc(x, y, radius)
    # The cap slopes down to the nape.
    cap = 0.93 * y + 0.37 * x - 0.02 * radius
    canvas.paint(view.cover(skull, cap), _colour(kinds, "crown.colour"), view.inked(skull), bird=True, part=True)
    eye_x, eye_y = x - 0.42 * radius, y + 0.02 * radius
    canvas.paint(coverage(disc(eye_x, eye_y, 0.27 * radius), view.pixel), _PAPER, bird=True)
    canvas.paint(coverage(disc(eye_x, eye_y, 0.20 * radius), view.pixel), _INK, bird=True)
    glint = disc(eye_x - 0.06 * radius, eye_y + 0.07 * radius, 0.07 * radius)
    canvas.paint(coverage(glint, view.pixel), _PAPER, bird=True)
