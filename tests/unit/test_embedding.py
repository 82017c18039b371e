"""A trained encoder at work outside the pipeline: photographs in any form."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from discern.data.packing import fit
from discern.embedding.photos import PhotoEncoder
from discern.embedding.reading import names_in, photos_in, read
from discern.embedding.streams import LARGEST
from discern.errors import DataError
from discern.machine import allowed_threads
from discern.models.making import Making
from tests.photos import SIZE, picture, write

# Photographs in any form.


def test_every_form_of_a_photograph_has_the_same_features(encoder: PhotoEncoder) -> None:
    path = write(Path("a.png"), 0)
    forms: list[Any] = [path, str(path), path.read_bytes(), Image.open(path), picture(0)]
    together = encoder.embed(forms)
    assert together.names == ["a.png", "a.png", "2", "3", "4"]
    assert together.features.shape == (5, encoder.dim)
    assert not together.skipped
    for form, row in zip(forms, together.features, strict=True):
        alone = encoder.embed(form)
        np.testing.assert_allclose(alone.features, [row], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(row, together.features[0])
    other = encoder.embed(picture(1)).features
    assert np.abs(other - together.features[0]).max() > 1e-3


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
def test_photographs_are_made_square_as_the_encoder_wants_them(resize: Any) -> None:
    (squares,) = read([picture(0)], Making(SIZE, resize=resize))
    expected = fit(Image.fromarray(picture(0)), SIZE, resize, Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(squares.images, np.asarray(expected)[None])


def test_packed_images_pass_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
    for resize in ("crop", "pad", "squash"):
        squares = list(read(images, Making(SIZE, resize=resize), chunk=2))
        assert [part.names for part in squares] == [["0", "1"], ["2", "3"], ["4"]]
        np.testing.assert_array_equal(np.concatenate([part.images for part in squares]), images)


def test_an_opened_picture_is_turned_upright_as_its_file_is(encoder: PhotoEncoder) -> None:
    image, exif = Image.fromarray(picture(0)), Image.Exif()
    exif[0x0112] = 6
    image.save("turned.png", exif=exif)
    file, opened = encoder.embed("turned.png").features, encoder.embed(Image.open("turned.png")).features
    np.testing.assert_array_equal(file, opened)
    assert np.abs(file - encoder.embed(image).features).max() > 1e-3


def test_what_cannot_be_read_is_named_and_the_rest_is_embedded(encoder: PhotoEncoder) -> None:
    write(Path("photos/b.png"), 1)
    write(Path("photos/below/a.png"), 0)
    Path("photos/broken.jpg").write_bytes(b"\xff\xd8 nothing")
    Path("photos/notes.txt").write_text("no picture")
    found = encoder.embed("photos")
    assert found.names == ["photos/b.png", "photos/below/a.png"]
    assert list(found.skipped) == ["photos/broken.jpg"]
    Image.fromarray(np.zeros((100, 60, 3), np.uint8)).save("large.png")
    several = encoder.embed([picture(0), b"nothing", "nowhere.png", Image.open("large.png"), "large.png", "."])
    assert several.names == ["0"]
    assert several.skipped["1"].startswith("not a picture")
    assert several.skipped["nowhere.png"] == "No such file or directory"
    assert several.skipped["."] == "Is a directory"
    assert several.skipped["3"] == several.skipped["large.png"]
    assert several.skipped["3"].startswith("60x100 px are more than")


def test_a_folder_is_listed_folder_by_folder_in_the_order_of_paths(encoder: PhotoEncoder) -> None:
    for name in (
        "b-c/x.jpg",
        "b/y.JPG",
        "b.png",
        "a/b/z.webp",
        ".hidden/k.gif",
        "b/notes.txt",
        "ä ö.tif",
        "d.jpg/e.png",
    ):
        (Path("many") / name).parent.mkdir(parents=True, exist_ok=True)
        (Path("many") / name).touch()
    expected = sorted(p for p in Path("many").rglob("*") if p.is_file() and p.suffix != ".txt")
    assert photos_in(Path("many")) == expected
    assert names_in(Path("many")) == [path.relative_to("many").as_posix() for path in expected]
    assert names_in(Path("many/../many/b")) == ["y.JPG"]


def test_nothing_to_embed_is_an_error_that_says_why(encoder: PhotoEncoder) -> None:
    with pytest.raises(DataError, match=r"^nowhere\.png: No such file"):
        encoder.embed("nowhere.png")
    with pytest.raises(DataError, match="no photographs were given"):
        encoder.embed([])
    Path("empty").mkdir()
    with pytest.raises(DataError, match="empty: no pictures"):
        encoder.embed("empty")


@pytest.mark.parametrize(
    "array",
    [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), np.zeros((3, 8, 8), np.uint8),
     np.zeros((1, 1, 8, 8, 3), np.uint8)],
)  # fmt: skip
def test_arrays_of_another_shape_or_type_are_refused(encoder: PhotoEncoder, array: Any) -> None:
    for photos in (array, [array]):
        with pytest.raises(DataError, match=r"uint8 \(H, W, 3\) or \(N, H, W, 3\), not "):
            encoder.embed(photos)


def test_photographs_are_read_in_parts_and_a_few_parts_ahead(encoder: PhotoEncoder) -> None:
    taken: list[int] = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            taken.append(len(taken))
            yield picture(len(taken) - 1)

    parts = encoder.parts(endless(), chunk=3)
    first, second = next(parts), next(parts)
    assert len(taken) <= 3 * (1 + 2 * min(LARGEST, allowed_threads()))
    assert [*first.names, *second.names] == list("012345")
    whole = encoder.embed([picture(seed) for seed in range(6)]).features
    np.testing.assert_allclose(np.concatenate([first.features, second.features]), whole, rtol=1e-4, atol=1e-5)


def test_streams_leave_the_number_of_threads_as_it_was(encoder: PhotoEncoder) -> None:
    before = torch.get_num_threads()
    parts = encoder.parts((picture(seed) for seed in range(9)), chunk=2)
    next(parts)
    assert torch.get_num_threads() == before
    del parts  # closes it
    seen: list[int] = []
    thread = Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_part_of_which_nothing_can_be_read_is_empty(encoder: PhotoEncoder) -> None:
    parts = list(encoder.parts([b"nothing", b"nothing", picture(0)], chunk=2))
    assert [part.features.shape for part in parts] == [(0, encoder.dim), (1, encoder.dim)]
    assert [list(part.skipped) for part in parts] == [["0", "1"], []]
