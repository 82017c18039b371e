"""The embedded data set: reproducible to the bit, true to its masks, and as hard as it is asked to be."""

import colorsys
import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from discern.data.plumage import draw, drawing, shapes, write
from discern.data.plumage.nuisance import RANGES, sample
from discern.data.plumage.scenery import value_noise
from discern.data.plumage.species import PER_GENUS, catalogue
from discern.errors import ParamsError
from discern.params.dataset import Plumage

DRAWING = "8b5bdb28a95a59b90cf33078b7f34ae84851876c6d92a68fec2119c3cd614f0b"
"""sha256 of the pixels and masks of `TINY`; a change of it is a change of everybody's data set."""


def plumage(**changes: object) -> Plumage:
    tiny = {
        "kind": "plumage", "seed": 3, "species": 6, "train_per_species": 2, "test_per_species": 1,
        "image_size": 32, "nuisance": 0.5,
    }  # fmt: skip
    return Plumage.model_validate(tiny | changes)


def keys(count: int) -> NDArray[np.int64]:
    return np.array([(11, number) for number in range(count)], dtype=np.int64)


def test_pixels_and_masks_are_the_same_on_every_machine() -> None:
    drawn = draw(plumage())
    digest = hashlib.sha256(drawn.images.tobytes() + drawn.parts.tobytes() + drawn.bird.tobytes())
    assert digest.hexdigest() == DRAWING


def test_the_seed_changes_every_picture_but_no_species() -> None:
    first, second = draw(plumage()), draw(plumage(seed=4))
    assert first.names == second.names
    assert (first.images != second.images).mean(axis=(1, 2, 3)).min() > 0.5


def test_a_picture_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = draw(plumage())
    monkeypatch.setattr(drawing, "_CHUNK_PIXELS", 1)
    single = draw(plumage())
    np.testing.assert_array_equal(whole.images, single.images)
    np.testing.assert_array_equal(whole.parts, single.parts)
    pd.testing.assert_frame_equal(whole.attributes, single.attributes)


def test_a_picture_does_not_depend_on_how_many_others_there_are() -> None:
    few = draw(plumage())
    many = draw(plumage(species=7, train_per_species=4, test_per_species=2))
    for label in range(6):
        for split, count in (("train", 2), ("test", 1)):
            of_few = few.images[(few.labels == label) & (few.split == split)]
            of_many = many.images[(many.labels == label) & (many.split == split)]
            np.testing.assert_array_equal(of_few, of_many[:count])


def test_counts_labels_and_splits() -> None:
    drawn = draw(plumage())
    assert drawn.images.shape == (18, 32, 32, 3)
    assert drawn.images.dtype == np.uint8
    assert drawn.labels.tolist() == [label for label in range(6) for _ in range(3)]
    assert drawn.split.tolist() == ["train", "train", "test"] * 6
    assert drawn.attributes["species"].tolist() == [drawn.names[label] for label in drawn.labels]
    assert set(RANGES) < set(drawn.attributes.columns)
    assert not drawn.attributes.isna().any(axis=None)
    assert not (drawn.parts & ~drawn.bird).any()
    assert drawn.parts.any(axis=(1, 2)).all()


def test_every_part_tells_all_species_of_a_genus_apart() -> None:
    species = catalogue(200)
    names = [kind.name for kind in species]
    assert names == sorted(set(names))
    for start in range(0, len(species), PER_GENUS):
        kinds = species[start : start + PER_GENUS]
        assert len({kind.genus for kind in kinds}) == 1
        for part in ("crown", "beak", "beak_length", "wing_bars", "spots", "tail"):
            assert len({getattr(kind, part) for kind in kinds}) == PER_GENUS


def test_more_species_than_there_are_is_the_users_error() -> None:
    with pytest.raises(ParamsError, match=r"dataset\.species = 201"):
        catalogue(201)


@pytest.mark.parametrize("nuisance", [0.0, 0.5, 1.0])
def test_species_of_a_genus_differ_only_within_their_parts(nuisance: float) -> None:
    species = catalogue(PER_GENUS)
    drawn = [drawing.render([kind] * 8, keys(8), 64, nuisance) for kind in species]
    for i, one in enumerate(drawn):
        for other in drawn[i + 1 :]:
            parts = one.parts | other.parts
            differs = (one.images != other.images).any(axis=-1)
            assert not (differs & ~parts).any()
            assert differs.sum() > 0.5 * parts.sum()


def test_genera_differ_beyond_the_parts() -> None:
    kinds = catalogue(PER_GENUS + 1)
    first, second = (drawing.render([kinds[i]] * 8, keys(8), 64, 0.5) for i in (0, PER_GENUS))
    differs = (first.images != second.images).any(axis=-1)
    assert (differs & ~(first.parts | second.parts)).any(axis=(1, 2)).all()


def test_a_flipped_bird_has_mirrored_masks() -> None:
    kinds = catalogue(8)
    centred = sample(keys(8), 64, 0.5)
    upright = {name: np.zeros((8, 1, 1)) for name in ("x", "rotation")}
    nuisances = replace(centred, values=centred.values | upright, flip=np.ones(8))
    right = drawing._render(kinds, nuisances, 64)
    left = drawing._render(kinds, replace(nuisances, flip=-np.ones(8)), 64)
    np.testing.assert_array_equal(right.parts, left.parts[:, :, ::-1])
    np.testing.assert_array_equal(right.bird, left.bird[:, :, ::-1])
    assert (right.bird != left.bird).any()


def test_nuisance_leads_from_shared_muted_backgrounds_to_one_for_each_picture() -> None:
    kinds = catalogue(1) * 120
    spread, colourfulness, size = [], [], []
    for nuisance in (0.0, 0.5, 1.0):
        drawn = drawing.render(kinds, keys(120), 32, nuisance)
        scenery = np.where(drawn.bird[..., None], np.nan, drawn.images.astype(np.float64))
        colour = pd.DataFrame(np.nanmean(scenery, axis=(1, 2)))
        spread.append(colour.groupby(drawn.nuisances["habitat"]).std().mean().mean())
        colourfulness.append((colour.max(axis=1) - colour.min(axis=1)).mean())
        size.append(drawn.bird.mean())
    assert spread[0] < 8.0
    assert spread[0] < spread[1] < spread[2]
    assert spread[2] > 35.0
    assert 2.0 * colourfulness[0] < colourfulness[2]
    assert size[0] > size[1] > size[2] > 0.2 * size[0]


def test_written_files_hold_the_drawing_and_are_the_same_each_time(tmp_path: Path) -> None:
    drawn = draw(plumage())
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        source = write(plumage(), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files == ["attributes.parquet", "images.tar", "listing.parquet", "truth.npz"]
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    assert (source["kind"], source["images"], source["classes"]) == ("plumage", 18, 6)

    listing = pd.read_parquet(tmp_path / "first" / "listing.parquet")
    assert listing["path"][3] == f"{drawn.names[1]}/0001.png"
    assert listing["label"].tolist() == [drawn.names[label] for label in drawn.labels]
    assert listing["split"].tolist() == drawn.split.tolist()
    with tarfile.open(tmp_path / "first" / "images.tar") as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == listing["path"].tolist()
        assert {(member.mtime, member.uid, member.gid) for member in members} == {(0, 0, 0)}
        for member, image in zip(members, drawn.images, strict=True):
            encoded = tar.extractfile(member)
            assert encoded is not None
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encoded.read()))), image)
    with np.load(tmp_path / "first" / "truth.npz") as truth:
        assert truth["paths"].tolist() == listing["path"].tolist()
        shape = tuple(truth["shape"])
        for mask, expected in (("parts", drawn.parts), ("bird", drawn.bird)):
            unpacked = np.unpackbits(truth[mask], count=np.prod(shape)).reshape(shape)
            np.testing.assert_array_equal(unpacked.astype(bool), expected)


def test_coverage_measures_area() -> None:
    x, y = np.meshgrid((np.arange(64) + 0.5) / 32 - 1, (np.arange(64) + 0.5) / 32 - 1)
    area = shapes.coverage(shapes.disc(x, y, 0.6), 1 / 32).sum() / 32**2
    assert area == pytest.approx(np.pi * 0.36, rel=1e-3)
    area = shapes.coverage(shapes.ellipse(x, y, 0.8, 0.4), 1 / 32).sum() / 32**2
    assert area == pytest.approx(np.pi * 0.32, rel=3e-3)


def test_rod_is_the_nearest_of_many_discs() -> None:
    x, y = np.array([[-0.3, 0.2, 0.5, 1.4]]), np.array([[0.1, 0.5, -0.4, 0.0]])
    distance = shapes.rod(x, y, 1.0, 0.2, 0.2)
    for i in range(4):
        nearest = min(np.hypot(x[0, i] - t, y[0, i]) - 0.2 for t in np.linspace(0, 1, 1001))
        assert distance[0, i] == pytest.approx(nearest, abs=1e-6)


def test_hsv_agrees_with_the_standard_library() -> None:
    h, s, v = np.random.default_rng(0).random((3, 50)) * np.array([[3.0], [1.0], [1.0]]) - [[1.0], [0.0], [0.0]]
    expected = [colorsys.hsv_to_rgb(*each) for each in zip(h % 1.0, s, v, strict=True)]
    np.testing.assert_allclose(shapes.hsv(h, s, v), expected, atol=1e-12)


def test_value_noise_interpolates_its_grid() -> None:
    grid = np.random.default_rng(0).random((2, 3, 5))
    field = value_noise(grid, 9)
    for i in range(9):
        for j in range(9):
            row, column = i * 2 / 8, j * 4 / 8
            top, left = min(int(row), 1), min(int(column), 3)
            a, b = ((t * t * (3 - 2 * t)) for t in (row - top, column - left))
            near, far = grid[:, top], grid[:, top + 1]
            expected = (1 - a) * ((1 - b) * near[:, left] + b * near[:, left + 1])
            expected += a * ((1 - b) * far[:, left] + b * far[:, left + 1])
            np.testing.assert_allclose(field[:, i, j], expected, atol=1e-12)
