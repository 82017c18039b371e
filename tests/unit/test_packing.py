import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from discern.data.manifest import ImageTar, byte_ranges
from discern.data.packing import PartMasks, fit, pack_images
from discern.errors import DataError
from discern.images.packed import PackedSplit
from discern.params.pipeline import Pack, Params
from discern.run.context import Context
from discern.stages.pack import run
from discern.tracking.record import Recorder
from discern.workspace import Workspace

LANCZOS = Image.Resampling.LANCZOS


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(image: Image.Image) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
def test_a_square_of_the_right_size_is_left_alone(resize: Literal["crop", "pad", "squash"]) -> None:
    image = noise(24, 24)
    assert np.array_equal(np.asarray(fit(image, 24, resize, LANCZOS)), np.asarray(image))


def test_crop_keeps_the_central_square() -> None:
    image = noise(60, 20)
    found = np.asarray(fit(image, 10, "crop", LANCZOS)).astype(int)
    expected = np.asarray(image.crop((20, 0, 40, 20)).resize((10, 10), LANCZOS))
    assert np.array_equal(found[:, 3:7], expected[:, 3:7])
    assert np.abs(found - expected).mean() < 2  # at the edge, the filter may see what lies beyond
    tall = np.asarray(fit(image.transpose(Image.Transpose.ROTATE_90), 20, "crop", LANCZOS))
    assert np.array_equal(tall, np.rot90(np.asarray(image)[:, 20:40]))


def test_pad_keeps_everything_on_white() -> None:
    found = np.asarray(fit(noise(40, 20), 20, "pad", LANCZOS))
    assert np.array_equal(found[5:15], np.asarray(noise(40, 20).resize((20, 10), LANCZOS)))
    assert (found[:5] == 255).all()
    assert (found[15:] == 255).all()
    sliver = np.asarray(fit(Image.new("RGB", (20_000, 20)), 16, "pad", LANCZOS))
    assert (sliver == 0).all(axis=(1, 2)).sum() == 1


def test_squash_changes_the_aspect() -> None:
    found = fit(noise(40, 20), 16, "squash", LANCZOS)
    assert np.array_equal(np.asarray(found), np.asarray(noise(40, 20).resize((16, 16), LANCZOS)))


def test_shrinking_is_antialiased() -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (256, 128))).convert("RGB")
    found = np.asarray(fit(stripes, 32, "crop", LANCZOS)).astype(int)
    assert np.abs(found - 127).max() < 25


def test_part_masks_are_read_bit_by_bit(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((5, 33, 33)) < 0.3  # no multiple of 8
    paths = [f"{i}.png" for i in range(5)]
    np.savez(tmp_path / "truth.npz", paths=np.array(paths), shape=np.array(masks.shape), parts=np.packbits(masks))
    loaded = PartMasks.load(tmp_path / "truth.npz")
    for row in (3, 0, 4, 1):
        assert np.array_equal(loaded.mask(paths[row]), masks[row])


class Project:
    """A checkout whose validate stage has run, with some images of every split."""

    def __init__(self, root: Path, params: Params, images: dict[str, bytes], splits: list[str]) -> None:
        self.workspace = Workspace(root)
        self.params = params
        self.workspace.raw.mkdir(parents=True)
        self.workspace.validated.mkdir(parents=True)
        with tarfile.open(self.workspace.raw / "images.tar", "w") as tar:
            for path, content in images.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        manifest = byte_ranges(self.workspace.raw / "images.tar")
        manifest["sha256"] = [hashlib.sha256(content).hexdigest() for content in images.values()]
        manifest["split"] = splits
        manifest["label"] = [path.partition("/")[0] for path in images]
        self.manifest = manifest
        self.save()

    def save(self) -> None:
        self.manifest.to_parquet(self.workspace.validated / "manifest.parquet")

    def pack(self, image_size: int = 16, resize: str = "crop") -> dict[str, PackedSplit]:
        section = Pack.model_validate({"image_size": image_size, "resize": resize})
        params = self.params.model_copy(update={"pack": section})
        run(Context("pack", 0, None, params, self.workspace, Recorder("pack", self.workspace, tracking=False)))
        return {split: PackedSplit.load(self.workspace.packed(split)) for split in ("train", "val", "test")}


IMAGES = {
    "dog/1.png": noise(40, 30, 1),
    "cat/2.png": noise(30, 40, 2),
    "dog/3.png": noise(16, 16, 3),
    "ant/4.png": noise(100, 90, 4),
}


@pytest.fixture
def project(tmp_path: Path, params: Params) -> Project:
    images = {path: png(image) for path, image in IMAGES.items()}
    return Project(tmp_path, params, images, ["train", "train", "test", "train"])


def test_the_stage_packs_every_split_in_the_manifests_order(project: Project) -> None:
    packed = project.pack()
    train = packed["train"]
    assert train.classes == ["ant", "cat", "dog"]
    assert train.index["path"].tolist() == ["dog/1.png", "cat/2.png", "ant/4.png"]
    assert train.labels.tolist() == [2, 1, 0]
    assert train.labels.dtype == np.int64
    assert isinstance(train.images, np.memmap)
    assert train.images.shape == (3, 16, 16, 3)
    for row, path in enumerate(train.index["path"]):
        assert np.array_equal(train.images[row], np.asarray(fit(IMAGES[path], 16, "crop", LANCZOS)))
    assert np.array_equal(packed["test"].images[0], np.asarray(IMAGES["dog/3.png"]))
    assert train.parts is None
    table = project.workspace.packed("train") / "index.parquet"
    assert train.digest == hashlib.sha256(table.read_bytes()).hexdigest()[:32]


def test_an_empty_split_has_no_rows(project: Project) -> None:
    val = project.pack()["val"]
    assert val.images.shape == (0, 16, 16, 3)
    assert len(val.index) == len(val.labels) == 0


def test_images_without_labels_have_the_number_minus_one(project: Project) -> None:
    project.manifest["label"] = pd.Series([None] * 4, dtype="string")
    project.save()
    train = project.pack()["train"]
    assert train.classes == []
    assert train.labels.tolist() == [-1, -1, -1]


def test_packing_twice_gives_the_same_bytes(project: Project) -> None:
    contents = []
    for _ in range(2):
        project.pack(resize="pad")
        files = sorted(path for path in (project.workspace.root / "data/packed").rglob("*") if path.is_file())
        contents.append([path.read_bytes() for path in files])
    assert len(contents[0]) == 7
    assert contents[0] == contents[1]


def test_masks_follow_the_geometry_of_the_images(tmp_path: Path, params: Params) -> None:
    masks = np.zeros((2, 32, 32), bool)
    masks[0, 4:12, 8:24] = masks[1, 20:, :6] = True
    images = {f"a/{i}.png": png(Image.fromarray(masks[i].astype(np.uint8) * 255).convert("RGB")) for i in range(2)}
    project = Project(tmp_path, params, images, ["test", "train"])
    np.savez(
        project.workspace.raw / "truth.npz",
        paths=np.array(list(images)),
        shape=np.array(masks.shape),
        parts=np.packbits(masks),
    )
    attributes = pd.DataFrame({"path": list(images)[::-1], "beak": ["long", "short"]})
    attributes.to_parquet(project.workspace.raw / "attributes.parquet")
    packed = project.pack(image_size=16)
    for split, row in (("test", 0), ("train", 1)):
        parts = packed[split].parts
        assert parts is not None
        assert parts.dtype == np.bool_
        assert np.array_equal(parts[0], masks[row, ::2, ::2])
        assert np.array_equal(parts[0], packed[split].images[0, ..., 0] > 127)
    table = pd.read_parquet(project.workspace.packed("test") / "attributes.parquet")
    assert table.to_dict("records") == [{"path": "a/0.png", "beak": "short"}]


def test_raw_data_that_changed_behind_the_gate_are_an_error(project: Project) -> None:
    path = project.workspace.raw / "images.tar"
    content = bytearray(path.read_bytes())
    start = int(project.manifest["offset"][0])
    content[start : start + 30] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"'dog/1\.png': not a picture.*dvc repro -f validate"):
        project.pack()
    assert not project.workspace.packed("train").exists()


def test_a_split_that_is_missing_or_mixed_up_is_an_error(project: Project) -> None:
    with pytest.raises(DataError, match="run `dvc repro pack`"):
        PackedSplit.load(project.workspace.packed("train"))
    project.pack()
    (project.workspace.packed("test") / "index.parquet").replace(
        project.workspace.packed("train") / "index.parquet"
    )
    with pytest.raises(DataError, match="3 images but 1 rows"):
        PackedSplit.load(project.workspace.packed("train"))


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    """300 images of 360,000 pixels are 324 MB decoded and 59 MB packed."""
    photo = io.BytesIO()
    noise(600, 600).resize((600, 600)).save(photo, "JPEG")
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for number in range(300):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = len(photo.getvalue())
            tar.addfile(info, io.BytesIO(photo.getvalue()))
    program = """
import resource
from pathlib import Path
from discern.data.manifest import ImageTar, byte_ranges
from discern.data.packing import pack_images
from discern.params.pipeline import Pack
tar = Path("images.tar")
rows = byte_ranges(tar)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ImageTar(tar) as images:
    pack_images(rows, images, Pack(image_size=32, resize="crop"), 10**7, Path("images.npy"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 60_000_000


def test_the_number_of_threads_does_not_change_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for number in range(40):
            content = png(noise(30, 30, number))
            info = tarfile.TarInfo(f"{number}.png")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    rows = byte_ranges(tmp_path / "images.tar")
    results = []
    for workers in (1, 5):
        monkeypatch.setattr("discern.data.progress.allowed_threads", lambda workers=workers: workers)
        with ImageTar(tmp_path / "images.tar") as images:
            pack_images(rows, images, Pack(image_size=16, resize="crop"), 10**6, tmp_path / f"{workers}.npy")
        results.append((tmp_path / f"{workers}.npy").read_bytes())
    assert results[0] == results[1]
