"""Jigsaw puzzles: nine tiles of an image, shuffled; the encoder sees each, and a head names the permutation.

Noroozi & Favaro (2016, arXiv 1603.09246). Whatever tells a tile's place without saying what it shows must be kept
from the network. Edges that go on in the next tile: tiles are cut at random places with a gap between them.
Chromatic aberration, and light that falls off towards the corners: some images are grey, and every tile is
normalised by itself. The views of `base` are not used, flips neither: a puzzle is made of the whole image as it is
packed, since left and right are part of the answer.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.embedding.features import inference
from discern.errors import ParamsError
from discern.images.randomness import Stream, uniform
from discern.images.views import LUMA, Augment
from discern.methods.build import Setup
from discern.methods.pretext.jigsaw.permutations import permutation_set
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.pretext import Jigsaw
from discern.training.objective import Batch, Objective, Terms

SIDE = 3  # tiles in a row and in a column
TILES = SIDE * SIDE
SMALLEST = 4  # side of a tile in pixels; 16 px images, the smallest that `pack` makes, come to just that
DRAWS = [1, 1, 2 * TILES]  # uniform numbers of a puzzle: permutation, grayscale, where tiles are cut


class JigsawObjective(Objective):
    """Cross-entropy of the permutation that shuffled an image's tiles.

    Deviations from the paper: the encoder is that of `base`, with its batch normalisation, instead of AlexNet;
    one hidden layer per tile and none for the joined ones; one puzzle of every image and epoch.

    Args:
        params: how many permutations, the tiles' size, the head's width and its dropout.
        encoder: f; it sees tiles, each as an image of its own.
    """

    # Nine tiles together hold (64/75)^2 = 73 % of an image's pixels, so a pass of all of them counts as one.
    passes = 1
    permutations: Tensor

    def __init__(self, params: Jigsaw, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder, self.params = encoder, params
        self.bottleneck = nn.Linear(encoder.dim, params.bottleneck)
        self.head = nn.Linear(TILES * params.bottleneck, params.permutations)
        permutations = torch.from_numpy(permutation_set(params.permutations, TILES)).long()
        self.register_buffer("permutations", permutations, persistent=False)

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """One puzzle of every image; of `augment` only the seed counts."""
        # A mask for dropout is a thousand numbers per image: they are drawn where the images lie.
        index = batch.index.to(batch.images.device, non_blocking=True)
        tiles, answer = self.puzzles(batch.images, index, augment.seed, batch.epoch)
        y = self.encoder(tiles)  # (9N, D)
        z = F.relu(self.bottleneck(y)).view(len(index), -1)  # (N, 9 bottleneck), in the order of places
        if self.training and self.params.dropout > 0:
            kept = (
                uniform(index, z.shape[1], augment.seed, batch.epoch, Stream.PUZZLE_DROPOUT) >= self.params.dropout
            )
            z = torch.where(kept, z / (1 - self.params.dropout), 0)
        loss = F.cross_entropy(full(self.head(z)), answer)
        embedding = F.normalize(y.detach().view(len(index), TILES, -1).mean(1))
        return Terms(loss, {"cross_entropy": loss}, embedding)

    def puzzles(self, images: Tensor, index: Tensor, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        """The shuffled tiles of a batch, and which permutation shuffled them.

        Args:
            images: uint8 (N, 3, S, S).
            index: image numbers (N,), where the images lie.
            seed: of the random numbers.
            epoch: with the image's number, decides the puzzle.

        Returns:
            Normalised tiles (9N, 3, t, t), channels last, the nine of an image one after another: place p holds
            the tile of cell permutation[p]. And the permutations' numbers (N,).
        """
        choice, grey, places = uniform(index, sum(DRAWS), seed, epoch, Stream.PUZZLE).split_with_sizes(
            DRAWS, dim=1
        )
        answer = (choice[:, 0] * self.params.permutations).long()
        cells = self.permutations[answer]  # (N, 9)
        tiles = cut(images, cells, places.view(-1, TILES, 2), self.params.tile)
        tiles = tiles.to(self.head.weight.dtype)  # what normalisation should be computed in
        red, green, blue = tiles.unbind(-1)
        luma = (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(-1)
        tiles = torch.where((grey < self.params.grayscale).view(-1, 1, 1, 1, 1), luma, tiles)
        return normalised(tiles).flatten(0, 1).permute(0, 3, 1, 2), answer

    def chance(self, batch_size: int) -> float:  # noqa: ARG002  # the permutations, not the batch, decide
        """ln(permutations)."""
        return math.log(self.params.permutations)


def tile_side(size: int, share: float) -> int:
    """Pixels of a tile's side in an image of side `size`, where it takes this share of its cell's side."""
    return round(size // SIDE * share)


def cut(images: Tensor, cells: Tensor, places: Tensor, share: float) -> Tensor:
    """Tiles from the cells of a 3x3 grid, which stands in the middle of the image.

    Args:
        images: (N, 3, S, S).
        cells: the cells (N, 9) to cut from, numbered by rows.
        places: uniform numbers (N, 9, 2): where to cut in cell 0, 1 and so on, from its top and from its left.
        share: of a cell's side that a tile takes.

    Returns:
        (N, 9, t, t, 3), in the order of `cells`.
    """
    cell, tile = images.shape[2] // SIDE, tile_side(images.shape[2], share)
    margin = (images.shape[2] - SIDE * cell) // 2
    places = places.gather(1, cells.unsqueeze(2).expand(-1, -1, 2))  # each cell keeps its own, wherever it goes
    corner = torch.stack([cells // SIDE, cells % SIDE], dim=2) * cell + margin  # (N, 9, 2)
    corner = corner + (places * (cell - tile + 1)).long()
    pixels = corner.unsqueeze(3) + torch.arange(tile, device=images.device)  # (N, 9, 2, t)
    rows, columns = pixels.unbind(2)
    image = torch.arange(len(images), device=images.device).view(-1, 1, 1, 1)
    return images[image, :, rows.unsqueeze(3), columns.unsqueeze(2)]


def normalised(tiles: Tensor) -> Tensor:
    """Levels (..., t, t, 3) to zero mean and unit variance of each tile and channel.

    A tile that varies by less than one level of 255 is only centred: there would be noise alone to see.
    """
    deviation, mean = torch.std_mean(tiles, dim=(-3, -2), correction=0, keepdim=True)
    return (tiles - mean) / deviation.clamp(min=1)


def build(params: Jigsaw, setup: Setup) -> JigsawObjective:
    """At chance every permutation is as likely: ln(permutations).

    Raises:
        ParamsError: tiles of fewer than 4 pixels show nothing, or the encoder takes none of their side.
    """
    side = tile_side(setup.size, params.tile)
    if side < SMALLEST:
        raise ParamsError(
            f"pack.image_size = {setup.size}: jigsaw's tiles would be {side} px wide and at least {SMALLEST} are"
            f" needed; with tile = {params.tile:g} that takes {3 * math.ceil(SMALLEST / params.tile)} px"
        )
    device = next(setup.encoder.parameters()).device
    try:
        with inference(setup.encoder, device, "fp32"):
            setup.encoder.feature_map(torch.zeros(1, 3, side, side, device=device))
    except ParamsError as error:
        raise ParamsError(
            f"base.encoder: jigsaw feeds it tiles of {side} px, which it does not take; take another"
            " pack.image_size or network, or jigsaw out of methods.compared"
        ) from error
    return JigsawObjective(params, setup.encoder)
