import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from discern.data import sources
from discern.data.sources.layout import Listed, arrange, printable, wrapping_folder
from discern.errors import ArchiveError, DataError, DownloadError
from discern.params.dataset import Archive, Folder
from discern.params.pipeline import Params
from discern.run.context import Context
from discern.stages.download import run
from discern.tracking.record import Recorder
from discern.workspace import Workspace


def png(shade: int) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, 0, 0)).save(encoded, "PNG")
    return encoded.getvalue()


def make_folder(root: Path, files: dict[str, bytes]) -> Folder:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Folder(kind="folder", path=str(root), licence="CC0")


def make_archive(path: Path, files: dict[str, bytes], mode: str = "w") -> Archive:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # the mode is a variable
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Archive(kind="archive", url=str(path), mirrors=[], sha256=sha256, licence="CC0")


def write(
    dataset: Folder | Archive, tmp_path: Path
) -> tuple[dict[str, Any], list[tuple[Any, ...]], dict[str, bytes]]:
    """source.json, the listing's rows (missing as None), and the content of images.tar."""
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    source = sources.write(dataset, Workspace(tmp_path), out)
    listing = pd.read_parquet(out / "listing.parquet")
    rows = [tuple(None if pd.isna(cell) else cell for cell in row) for row in listing.itertuples(index=False)]
    with tarfile.open(out / "images.tar") as tar:
        content = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]  # files only
    return source, rows, content


TREE = {"cat/1.png": png(1), "cat/deep/2.png": png(2), "dog/1.PNG": png(3)}
SIDE_FILES = {"README.md": b"-", "cat/notes.txt": b"-", ".hidden.png": b"-", "__MACOSX/cat/._1.png": b"-"}


def test_a_class_tree(tmp_path: Path) -> None:
    source, rows, content = write(make_folder(tmp_path / "pets", TREE | SIDE_FILES), tmp_path)
    assert rows == [("cat/1.png", "cat", None), ("cat/deep/2.png", "cat", None), ("dog/1.PNG", "dog", None)]
    assert content == TREE
    assert source == {
        "kind": "folder", "licence": "CC0", "name": "pets", "sha256": None, "url": None,
        "images": 3, "classes": 2, "ignored": 2,
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_gives_what_the_folder_gives(tmp_path: Path, mode: str) -> None:
    wrapped = {f"pets-1.0/{name}": content for name, content in (TREE | SIDE_FILES).items()}
    archive = make_archive(tmp_path / "pets.tar.gz", wrapped | {"__MACOSX/._pets-1.0": b"-"}, mode)
    source, rows, content = write(archive, tmp_path)
    _, folder_rows, _ = write(make_folder(tmp_path / "pets", TREE), tmp_path)
    assert rows == folder_rows
    assert content == TREE
    assert (source["name"], source["images"], source["ignored"]) == ("pets", 3, 2)
    assert (source["url"], source["sha256"]) == (archive.url, archive.sha256)


def test_the_tar_is_the_same_bytes_whatever_order_and_times_the_files_have(tmp_path: Path) -> None:
    tars = []
    for number, names in enumerate((sorted(TREE), sorted(TREE, reverse=True))):
        folder = tmp_path / str(number) / "pets"
        dataset = make_folder(folder, {name: TREE[name] for name in names})
        os.utime(folder / "cat/1.png", (number * 10**6, number * 10**6))
        write(dataset, tmp_path)
        tars.append((tmp_path / "out" / "images.tar").read_bytes())
    assert tars[0] == tars[1]


def test_split_folders_with_and_without_classes(tmp_path: Path) -> None:
    tree = {"train/cat/1.png": png(1), "valid/cat/2.png": png(2), "test/dog/3.png": png(3), "train/4.png": png(4)}
    _, rows, _ = write(make_folder(tmp_path / "pets", tree), tmp_path)
    assert rows == [
        ("test/dog/3.png", "dog", "test"),
        ("train/4.png", None, "train"),
        ("train/cat/1.png", "cat", "train"),
        ("valid/cat/2.png", "cat", "val"),
    ]


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    tree = {"train/1.png": png(1), "bus/2.png": png(2)}
    _, rows, _ = write(make_folder(tmp_path / "vehicles", tree), tmp_path)
    assert rows == [("bus/2.png", "bus", None), ("train/1.png", "train", None)]


def test_a_folder_beside_train_and_test_is_an_error(tmp_path: Path) -> None:
    tree = {"train/1.png": png(1), "test/2.png": png(2), "holdout/3.png": png(3)}
    with pytest.raises(DataError, match=r"also 'holdout'; use train, val and test only"):
        write(make_folder(tmp_path / "x", tree), tmp_path)


@pytest.mark.parametrize("wrapper", ["", "photos/"])
def test_a_flat_archive_has_no_labels(tmp_path: Path, wrapper: str) -> None:
    _, rows, _ = write(
        make_archive(tmp_path / "x.tar", {f"{wrapper}1.png": png(1), f"{wrapper}2.png": png(2)}), tmp_path
    )
    assert rows == [("1.png", None, None), ("2.png", None, None)]


def test_the_wrapping_folder_is_no_split_and_no_part_of_the_tree() -> None:
    assert wrapping_folder(["a/b/1.png", "a/c/2.png", ".DS_Store"]) == "a/"
    assert wrapping_folder(["train/b/1.png"]) == ""
    assert wrapping_folder(["a/1.png", "b/1.png"]) == ""
    assert wrapping_folder(["a/1.png", "README.md"]) == ""


def table(text: str, names: tuple[str, ...] = ("cat/1.png", "cat/2.png", "dog/3.png")) -> list[Listed]:
    return arrange("pets", names, text.encode())


def test_split_csv_decides_for_the_files_it_names() -> None:
    assert table("\ufeffpath,label,split\ncat/1.png,tabby,test\n./cat/2.png,,\n") == [
        Listed("cat/1.png", "tabby", "test"),
        Listed("cat/2.png", None, None),
        Listed("dog/3.png", "dog", None),
    ]


def test_a_column_that_split_csv_lacks_is_left_to_the_folders() -> None:
    assert table("path,split\r\ncat/1.png,validation\r\n")[0] == Listed("cat/1.png", "cat", "val")
    assert table("label,path\ntabby,cat/1.png\n")[0] == Listed("cat/1.png", "tabby", None)


def test_a_listed_file_is_an_image_whatever_it_is_called() -> None:
    assert table('path\n"a, b"\n', ("a, b", "c"))[0].name == "a, b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\ncat/9.png,cat\n", r"names 1 files that are not there: 'cat/9\.png'"),
        ("path,split\ncat/1.png,holdout\n", r"line 2: split 'holdout' is not train, val or test"),
        ("path\ncat/1.png\ncat/1.png\n", r"line 3: 'cat/1\.png' stands twice"),
        ("path,label\ncat/1.png\n", r"line 2: not as many cells"),
        ("file,label\ncat/1.png,cat\n", r"must name the columns path"),
        ('path,label\n"cat/1.png,cat\n', r"line \d: unexpected end of data"),
        ("", r"must name the columns path"),
    ],
)
def test_a_bad_split_csv_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        table(text)
    assert str(caught.value).startswith("pets/split.csv: ")
    assert "\n" not in str(caught.value)


ODD_NAMES = [
    b"-rf.png",
    b"a b.png",
    b"new\nline.png",
    "🌿 葉.png".encode(),
    b"\xff\xfe.png",
    rb"\xff\xfe.png",
    b'q",.png',
]


def test_odd_names_survive_and_none_is_lost(tmp_path: Path) -> None:
    root = tmp_path / "odd"
    (root / "c").mkdir(parents=True)
    for shade, name in enumerate(ODD_NAMES):
        Path(os.fsdecode(os.fsencode(root / "c") + b"/" + name)).write_bytes(png(shade))
    _, rows, content = write(Folder(kind="folder", path=str(root), licence="x"), tmp_path)
    assert {path for path, _, _ in rows} == {
        "c/-rf.png",
        "c/a b.png",
        "c/new\nline.png",
        "c/🌿 葉.png",
        r"c/\xff\xfe.png",
        r"c/\\xff\\xfe.png",
        'c/q",.png',
    }
    assert sorted(content.values()) == sorted(png(shade) for shade in range(len(ODD_NAMES)))
    assert content[r"c/\xff\xfe.png"] == png(4)


def test_printable_names_can_be_turned_back() -> None:
    for name in ODD_NAMES:
        shown = printable(os.fsdecode(name))
        back = shown.encode().decode("unicode_escape" if b"\\" in shown.encode() else "utf-8")
        assert back.encode("latin-1" if b"\\" in shown.encode() else "utf-8") == name


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    dataset = make_folder(tmp_path / "pets", TREE)
    (tmp_path / "pets/dog/link.png").symlink_to(tmp_path / "pets/cat/1.png")
    (tmp_path / "pets/wolf").symlink_to(tmp_path / "pets/dog")
    _, rows, _ = write(dataset, tmp_path)
    assert [path for path, _, _ in rows][-2:] == ["wolf/1.PNG", "wolf/link.png"]
    (tmp_path / "pets/cat/up").symlink_to(tmp_path / "pets")
    with pytest.raises(DataError, match="is a link to a folder above it"):
        write(dataset, tmp_path)


def test_a_link_to_nowhere_is_an_error_and_a_socket_is_left_out(tmp_path: Path) -> None:
    dataset = make_folder(tmp_path / "p", TREE)
    os.mkfifo(tmp_path / "p/cat/pipe.png")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(tmp_path / "p/socket.png"))
        assert len(write(dataset, tmp_path)[1]) == 3
    (tmp_path / "p/cat/gone.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"'cat/gone\.png' is a link that leads nowhere"):
        write(dataset, tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.tar").write_bytes(b"no archive")
    sha256 = hashlib.sha256(b"no archive").hexdigest()

    def folder(path: str) -> Folder:
        return Folder(kind="folder", path=path, licence="x")

    def archive(path: str, checksum: str) -> Archive:
        return Archive(kind="archive", url=path, mirrors=[], sha256=checksum, licence="x")

    for dataset, kind, message in (
        (folder("nowhere"), DataError, "dataset.path: .*nowhere: no such folder"),
        (folder("file.tar"), DataError, r"file\.tar is a file; .*kind: archive"),
        (folder("empty"), DataError, r"empty: no images \(bmp, gif.*among its 0 files"),
        (folder("."), DataError, "holds what the pipeline itself writes"),
        (archive("nowhere.tar", sha256), DownloadError, r"dataset\.url: .*nowhere\.tar: no such file"),
        (archive("file.tar", "0" * 64), DownloadError, f"sha256 is {sha256}, expected 0{{64}}"),
        (archive("file.tar", sha256), ArchiveError, "not a tar or zip archive"),
    ):
        with pytest.raises(kind, match=message) as caught:
            write(dataset, tmp_path)
        assert "\n" not in str(caught.value)


def test_a_local_mirror_is_used(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "x.tar", TREE)
    moved = archive.model_copy(update={"url": "gone.tar", "mirrors": ["x.tar"]})
    assert len(write(moved, tmp_path)[1]) == 3


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from discern.data import sources
from discern.params.dataset import Folder
from discern.workspace import Workspace
out = Path("out"); out.mkdir()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sources.write(Folder(kind="folder", path="big", licence="x"), Workspace(Path.cwd()), out)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    folder = tmp_path / "big" / "c"
    folder.mkdir(parents=True)
    for number in range(10):
        with (folder / f"{number}.png").open("wb") as file:
            file.truncate(20_000_000)  # a hole: 200 MB that take no room
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 50_000_000


def test_the_stage_leaves_all_or_nothing(tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = make_folder(tmp_path / "pets", TREE)
    workspace = Workspace(tmp_path)

    def stage(dataset: Folder) -> None:
        changed = params.model_copy(update={"dataset": dataset})
        run(Context("download", 0, None, changed, workspace, Recorder("download", workspace, tracking=False)))

    stage(dataset)
    assert sorted(path.name for path in workspace.raw.iterdir()) == [
        "images.tar",
        "listing.parquet",
        "source.json",
    ]
    assert json.loads((workspace.raw / "source.json").read_text())["classes"] == 2
    with pytest.raises(DataError):
        stage(dataset.model_copy(update={"path": "nowhere"}))
    assert [path.name for path in workspace.raw.parent.iterdir()] == ["raw"]
