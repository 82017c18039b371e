import csv
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from discern.data import manifest
from discern.data.decode import Decoded, UndecodableError, decode
from discern.errors import DataError

REAL = Path(os.environ.get("DISCERN_REAL_DATA") or Path(__file__).parents[3] / "shared" / "data")
MAX_PIXELS = 1_000_000


def encode(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, form, **options)
    return encoded.getvalue()


def picture(width: int = 32, height: int = 16) -> Image.Image:
    """A smooth picture without symmetries."""
    y, x = np.mgrid[:height, :width]
    red, green = x * 255 // (width - 1), y * 255 // (height - 1)
    return Image.fromarray(np.stack([red, green, (red + green) // 2], axis=-1).astype(np.uint8))


def pixels(decoded: Decoded) -> np.ndarray:
    assert decoded.image.mode == "RGB"
    return np.asarray(decoded.image)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF", "JPEG", "GIF"])
def test_every_format_gives_the_picture(form: str) -> None:
    lossless = {"lossless": True} if form == "WEBP" else {}
    decoded = decode(encode(picture(), form, **lossless), MAX_PIXELS)
    assert decoded.format == form
    tolerance = {"JPEG": 40, "GIF": 40}.get(form, 0)
    assert np.abs(pixels(decoded).astype(int) - np.asarray(picture())).max() <= tolerance


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(picture(), form, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert np.array_equal(pixels(decode(data, MAX_PIXELS)), np.asarray(expected))
    assert expected.size == ((16, 32) if orientation > 4 else (32, 16))


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    decoded = decode(encode(Image.fromarray(values)), MAX_PIXELS)
    assert decoded.mode == "I;16"
    expected = np.arange(256).reshape(16, 16)
    assert np.array_equal(pixels(decoded), np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white(mode: str) -> None:
    alpha = Image.fromarray((np.arange(256, dtype=np.uint8)).reshape(16, 16))
    image = Image.new("RGB", (16, 16), (100, 100, 100)).convert(mode)
    image.putalpha(alpha)
    weight = np.arange(256).reshape(16, 16, 1) / 255
    expected = 100 * weight + 255 * (1 - weight) * np.ones(3)
    assert np.abs(pixels(decode(encode(image), MAX_PIXELS)) - expected).max() <= 1


def test_a_transparent_colour_of_a_palette_is_white() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (8, 0, 16, 16))
    found = pixels(decode(encode(image, transparency=0), MAX_PIXELS))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[0, 15].tolist() == [200, 100, 50]


def test_cmyk_and_bilevel_are_converted() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert pixels(decode(encode(cmyk, "TIFF"), MAX_PIXELS))[0, 0].tolist() == [255, 0, 0]
    assert pixels(decode(encode(Image.new("1", (16, 16), 1)), MAX_PIXELS)).min() == 255


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    for form in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if form == "WEBP" else {}
        data = encode(frames[0], form, save_all=True, append_images=frames[1:], **options)
        assert pixels(decode(data, MAX_PIXELS))[0, 0].tolist() == [255, 0, 0]


def test_a_draft_has_at_least_the_sides_asked_for() -> None:
    data = encode(picture(800, 400), "JPEG", quality=95)
    decoded = decode(data, MAX_PIXELS, draft=100)
    assert decoded.image.size == (200, 100)
    whole = decode(data, MAX_PIXELS).image.resize((200, 100), Image.Resampling.BOX)
    assert np.abs(np.asarray(decoded.image).astype(int) - np.asarray(whole)).mean() < 2


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello, I am text", r"not a picture in a known format \(JPEG, PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture in a known format"),
        (encode(picture(), "PPM"), "not a picture in a known format"),
        (encode(picture(), "JPEG")[:20], "cut off or broken within its header"),
        (cut(encode(picture(300, 300), "JPEG", quality=95)), "cannot be decoded: image file is truncated"),
        (cut(encode(picture(300, 300))), "cannot be decoded|cut off"),
        (encode(Image.new("L", (1001, 1000))), r"1001x1000 px are more than validate\.max_pixels \(1000000\)"),
        (encode(picture(7, 20)), "7x20 px: a side is shorter than 8 px"),
        (encode(Image.new("F", (16, 16)), "TIFF"), "mode F have no fixed range"),
    ],
)
def test_what_cannot_be_used_is_told_in_plain_words(data: bytes, reason: str) -> None:
    with pytest.raises(UndecodableError, match=reason) as caught:
        decode(data, MAX_PIXELS)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_flipped_bits_never_raise_anything_else() -> None:
    random = np.random.default_rng(0)
    for form in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"):
        data = encode(picture(), form)
        for _ in range(60):
            broken = bytearray(data)
            for position in random.integers(0, len(data), 4):
                broken[position] = random.integers(0, 256)
            with suppress(UndecodableError):
                assert decode(bytes(broken), MAX_PIXELS).image.mode == "RGB"


def make_raw(folder: Path, files: dict[str, bytes]) -> pd.DataFrame:
    with tarfile.open(folder / "images.tar", "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return pd.DataFrame({"path": list(files), "label": "x", "split": None})


def test_the_manifest_tells_of_every_file(tmp_path: Path) -> None:
    files = {"b.png": encode(picture()), "long/" * 40 + "ü\n.jpg": encode(picture(), "JPEG"), "bad.png": b"text"}
    rows = manifest.build(tmp_path / "images.tar", make_raw(tmp_path, files), MAX_PIXELS)
    assert rows["path"].tolist() == list(files)
    by_path: dict[Any, Any] = rows.set_index("path").to_dict("index")
    tar = (tmp_path / "images.tar").read_bytes()
    for name, content in files.items():
        row = by_path[name]
        assert tar[row["offset"] : row["offset"] + row["size"]] == content
        assert row["bytes"] == len(content)
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
    assert rows["decodable"].tolist() == [True, True, False]
    assert [by_path["b.png"][key] for key in ("width", "height", "mode", "format")] == [32, 16, "RGB", "PNG"]
    assert "known format" in by_path["bad.png"]["reason"]


def test_a_listing_of_other_files_is_refused(tmp_path: Path) -> None:
    listing = make_raw(tmp_path, {"a.png": encode(picture())})
    with pytest.raises(DataError, match=r"images\.tar and listing\.parquet differ"):
        manifest.build(tmp_path / "images.tar", listing.assign(path="b.png"), MAX_PIXELS)


def test_memory_stays_bounded_on_bombs(tmp_path: Path) -> None:
    bomb = encode(Image.new("L", (20_000, 20_000)), compress_level=9)
    make_raw(tmp_path, {f"{number}.png": bomb for number in range(4)})
    program = """
import resource
from pathlib import Path
from typing import Any
import pandas as pd
from discern.data import manifest
listing = pd.DataFrame({"path": [f"{n}.png" for n in range(4)], "label": None, "split": None})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = manifest.build(Path("images.tar"), listing, 50_000_000)
assert not rows["decodable"].any()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 60_000_000  # one of them decoded takes 400 MB


BAD = {
    "truncated.jpg": "truncated",
    "truncated-header.jpg": "within its header",
    "zero-byte.jpg": "empty",
    "text.jpg": "not a picture",
    "1x1.jpg": "1x1 px",
    "1x1.png": "1x1 px",
    "bomb-16000x16000.png": "16000x16000 px are more",
    "bomb-50000x50000-header.png": "50000x50000 px are more",
}


@pytest.mark.real_data
@pytest.mark.skipif(
    not (REAL / "bad-inputs.tar").exists(), reason="bad-inputs.tar is absent; set DISCERN_REAL_DATA"
)
def test_the_odd_files_of_bad_inputs(tmp_path: Path) -> None:
    with tarfile.open(REAL / "bad-inputs.tar") as tar:
        members = {info.name.partition("/")[2]: tar.extractfile(info) for info in tar if info.isfile()}
        files = {name: file.read() for name, file in members.items() if file is not None}
    described = list(csv.DictReader(io.StringIO(files["manifest.csv"].decode(), newline="")))
    images = {row["file"].replace("\r\n", "\n"): files[row["file"].replace("\r\n", "\n")] for row in described}
    assert len(images) == 25
    rows = manifest.build(tmp_path / "images.tar", make_raw(tmp_path, images), 50_000_000).set_index("path")
    reasons = rows["reason"].dropna()
    assert set(reasons.index) == BAD.keys()
    for name, words in BAD.items():
        assert words in reasons[name]
    good: dict[Any, Any] = rows[rows["decodable"]].to_dict("index")
    for row in described:
        name = row["file"].replace("\r\n", "\n")
        if name in BAD:
            continue
        form, mode, size = row["pillow (warnings as errors)"].removesuffix("; decodes").split(" ")
        width, height = map(int, size.split("x"))
        if name == "exif-rotated.jpg":
            width, height = height, width
        assert [good[name][key] for key in ("format", "mode", "width", "height")] == [form, mode, width, height]
    gray16, gray8 = (decode(images[name], 50_000_000).image for name in ("gray16.png", "gray8.png"))
    assert np.abs(np.asarray(gray16).astype(int) - np.asarray(gray8)).mean() < 2
