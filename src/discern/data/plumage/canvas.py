"""A stack of pictures that is painted from back to front and remembers what is visible of what."""

import numpy as np

from discern.data.plumage.shapes import Field


class Canvas:
    """N pictures being painted.

    Attributes:
        rgb: (3, N, S, S) colours.
        bird: (N, S, S) share of each pixel that shows the bird.
        parts: (N, S, S) share of each pixel that shows a part by which species are told apart.
    """

    def __init__(self, rgb: Field) -> None:
        self.rgb = np.ascontiguousarray(rgb)  # `paint` writes through flat views
        self.bird = np.zeros(rgb.shape[1:])
        self.parts = np.zeros(rgb.shape[1:])

    def paint(
        self,
        cover: Field,
        colour: Field,
        light: Field | None = None,
        *,
        bird: bool = False,
        part: bool = False,
    ) -> None:
        """Lay one colour over what is there.

        Args:
            cover: (N, S, S) opacity.
            colour: (N, 3) or (1, 3) RGB.
            light: (N, S, S) factor on the colour.
            bird: whether this is some of the bird.
            part: whether this is a part that tells species apart.
        """
        # Shapes are small: working on the covered pixels alone is what makes drawing fast.
        where = np.flatnonzero(cover > 0.0)
        opacity = cover.ravel()[where]
        rgb = colour.T[:, where // cover[0].size if len(colour) > 1 else np.zeros_like(where)]
        if light is not None:
            rgb = rgb * light.ravel()[where]
        for layer, value in (*zip(self.rgb, rgb, strict=True), (self.bird, bird), (self.parts, part)):
            flat = layer.reshape(-1)
            flat[where] += opacity * (value - flat[where])
