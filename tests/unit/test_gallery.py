"""Neighbours of photographs among known images, from Python and on the command line."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from discern import cli
from discern.embedding import features as features_module
from discern.embedding.gallery import Gallery
from discern.embedding.photos import PhotoEncoder
from discern.errors import DataError
from tests.photos import pack, picture, write


def run(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr(sys, "argv", ["discern", *argv])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def gallery(labels: list[str], seed: int = 0) -> tuple[Gallery, np.ndarray]:
    rows = np.random.default_rng(seed).normal(size=(len(labels), 5)).astype(np.float32)
    return Gallery.of(rows, [f"{number}.png" for number in range(len(labels))], labels), rows


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_nearest_are_those_of_the_largest_cosine(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(features_module, "BLOCK", block)
    labels = ["wren", "", "crow", "wren", "", "crow", "wren"]
    known, rows = gallery(labels)
    queries = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
    for query, found in zip(queries, known.nearest(queries, 3), strict=True):
        order = sorted(range(7), key=lambda row: -cosine(rows[row], query))[:3]
        assert [one.name for one in found] == [f"{row}.png" for row in order]
        assert [one.label for one in found] == [labels[row] or None for row in order]
        assert [one.similarity for one in found] == pytest.approx([cosine(rows[row], query) for row in order])
    assert len(known.nearest(queries, 50)[0]) == 7


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_the_labelled_vote_with_the_exponential_of_their_cosines(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(features_module, "BLOCK", block)
    labels = ["wren", "", "crow", "wren", "", "crow", "wren", "finch"]
    known, rows = gallery(labels)
    queries = np.random.default_rng(2).normal(size=(6, 5)).astype(np.float32)
    for query, (label, share) in zip(queries, known.classify(queries, 4, 0.3), strict=True):
        order = sorted((row for row in range(8) if labels[row]), key=lambda row: -cosine(rows[row], query))[:4]
        weights: dict[str, float] = {}
        for row in order:
            weights[labels[row]] = weights.get(labels[row], 0.0) + np.exp(cosine(rows[row], query) / 0.3)
        assert label == max(weights, key=lambda name: weights[name])
        assert share == pytest.approx(weights[label] / sum(weights.values()), rel=1e-4)
    with pytest.raises(DataError, match="no labels"):
        gallery(["", ""])[0].classify(queries, 4, 0.3)


def test_equal_votes_go_to_the_first_name_and_tiny_temperatures_do_not_overflow() -> None:
    same = Gallery.of(np.ones((2, 3), np.float32), ["a", "b"], ["wren", "crow"])
    ((label, share),) = same.classify(np.ones((1, 3), np.float32), 2, 1e-6)
    assert (label, share) == ("crow", 0.5)


def test_a_gallery_is_read_as_it_was_written(tmp_path: Path) -> None:
    known, _ = gallery(["wren", "", "crow"])
    known.save(tmp_path / "index.npz")
    again = Gallery.load(tmp_path / "index.npz")
    torch.testing.assert_close(again.features, known.features)
    assert (again.names.tolist(), again.labels.tolist()) == (["0.png", "1.png", "2.png"], ["wren", "", "crow"])


def test_a_packed_split_is_a_gallery(encoder: PhotoEncoder) -> None:
    images = pack(Path("packed/train"), [0, 1, 2], [1, -1, 0])
    assert encoder.index(Path("packed/train")) == {}
    found = encoder.neighbours(images, count=2)
    assert [(row[0].name, row[0].label) for row in found] == [
        ("0.png", "wren"),
        ("1.png", None),
        ("2.png", "crow"),
    ]
    assert [row[0].similarity for row in found] == pytest.approx([1.0] * 3)
    assert all(row[1].similarity < row[0].similarity for row in found)


def test_a_folder_is_a_gallery_and_its_folders_are_labels(encoder: PhotoEncoder) -> None:
    for seed, name in enumerate(("wren/a.png", "wren/b.png", "crow/c.png")):
        write(Path("birds", name), seed)
    Path("birds/crow/broken.png").write_bytes(b"\x89PNG")
    assert list(encoder.index("birds")) == ["birds/crow/broken.png"]
    ((one,),) = encoder.neighbours(Path("birds/crow/c.png"), count=1)
    assert (one.name, one.label) == ("birds/crow/c.png", "crow")
    Path("birds/split.csv").write_text("path,label\ncrow/c.png,jay\nwren/a.png,\n")
    encoder.index("birds")
    found = encoder.neighbours([picture(seed) for seed in range(3)], count=1)
    assert [row[0].label for row in found] == [None, "wren", "jay"]
    encoder.index([picture(5), picture(6)])
    ((one,),) = encoder.neighbours(picture(6), count=1)
    assert (one.name, one.label) == ("1", None)


def test_neighbours_need_a_gallery_and_a_photograph_that_can_be_read(encoder: PhotoEncoder) -> None:
    with pytest.raises(DataError, match="call `index` with a folder first"):
        encoder.neighbours(picture(0))
    encoder.index([picture(0)])
    with pytest.raises(DataError, match=r"^1: not a picture"):
        encoder.neighbours([picture(0), b"no picture"])


# The command line, with an encoder's folder and nothing else.


def test_neighbours_work_outside_a_project(
    encoder: PhotoEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write(Path("birds/wren/a.png"), 0)
    write(Path("birds/crow/c.png"), 1)
    Path("birds/broken.png").write_bytes(b"")
    asked = ("neighbours", "birds/crow/c.png", "--encoder", "../encoder", "--count", "1")
    assert run(monkeypatch, *asked) == 2
    assert capsys.readouterr().err == (
        "discern: data/packed/train: no such folder; --among FOLDER says where to look for neighbours\n"
    )
    assert run(monkeypatch, *asked, "--among", "birds") == 0
    printed = capsys.readouterr()
    assert [line.split() for line in printed.out.splitlines()] == [
        ["similarity", "label", "image"],
        ["1.000", "crow", "birds/crow/c.png"],
    ]
    assert printed.err == "discern: birds/broken.png skipped: the file is empty\n"
    pack(Path("data/packed/train"), [3], [1])
    assert run(monkeypatch, *asked) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1:] == ["wren", "3.png"]
    assert run(monkeypatch, "neighbours", "nowhere.png", "--encoder", "nowhere") == 2
    assert capsys.readouterr().err.startswith("discern: nowhere/encoder.json: no such file")
