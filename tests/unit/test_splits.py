import hashlib
from collections.abc import Sequence

import pandas as pd
import pytest

from discern.data.splits import assign, leaked, settle


def frame(rows: Sequence[tuple[str, str | None, str | None]]) -> pd.DataFrame:
    """Rows of (content, label, split); the path is numbered."""
    return pd.DataFrame(
        [
            (f"{number}.jpg", label, split, hashlib.sha256(content.encode()).hexdigest())
            for number, (content, label, split) in enumerate(rows)
        ],
        columns=["path", "label", "split", "sha256"],
    ).astype({"label": "string", "split": "string"})


def labelled(classes: int, per_class: int) -> pd.DataFrame:
    return frame([(f"{c}-{i}", f"class{c}", None) for c in range(classes) for i in range(per_class)])


def test_the_cut_is_about_as_large_as_asked_within_every_class() -> None:
    images = labelled(4, 500)
    images["split"] = assign(images, val_fraction=0.1, test_fraction=0.2)
    counts = pd.crosstab(images["label"], images["split"])
    # Binomial: 5 standard deviations of 500 draws.
    assert counts["test"].between(100 - 45, 100 + 45).all()
    assert counts["val"].between(40 - 31, 40 + 31).all()
    assert counts.to_numpy().sum() == 2000


def test_a_given_content_keeps_its_side_whatever_is_added_or_renamed() -> None:
    few = labelled(3, 60)
    many = frame([(f"{c}-{i}", f"class{c}", None) for i in reversed(range(400)) for c in range(5)])
    before = dict(zip(few["sha256"], assign(few, 0.1, 0.2), strict=True))
    after = dict(zip(many["sha256"], assign(many, 0.1, 0.2), strict=True))
    assert len(set(before.values())) == 3
    assert {content: after[content] for content in before} == before


@pytest.mark.parametrize("size", range(3, 12))
def test_a_class_of_three_is_in_every_split(size: int) -> None:
    images = labelled(30, size)
    images["split"] = assign(images, val_fraction=0.01, test_fraction=0.01)
    assert (pd.crosstab(images["label"], images["split"])[["train", "val", "test"]] >= 1).all(axis=None)


@pytest.mark.parametrize("size", range(3, 8))
def test_large_fractions_leave_something_to_train_on(size: int) -> None:
    images = labelled(30, size)
    images["split"] = assign(images, val_fraction=0.9, test_fraction=0.9)
    assert (pd.crosstab(images["label"], images["split"])[["train", "val", "test"]] >= 1).all(axis=None)


def test_tiny_classes_train_first_then_test() -> None:
    assert assign(labelled(1, 1), 0.5, 0.5).tolist() == ["train"]
    assert sorted(assign(labelled(1, 2), 0.5, 0.5)) == ["test", "train"]


def test_copies_land_on_one_side() -> None:
    images = frame([(f"{i % 40}", "a" if i < 100 else "b", None) for i in range(200)])
    images["split"] = assign(images, 0.3, 0.3)
    assert (images.groupby("sha256")["split"].nunique() == 1).all()


def test_given_splits_are_kept_and_only_missing_ones_are_cut() -> None:
    rows = [(f"t{i}", "a", "train") for i in range(50)] + [(f"e{i}", "a", "test") for i in range(9)]
    images = frame(rows)
    split = assign(images, val_fraction=0.2, test_fraction=0.5)
    assert (split[images["split"] == "test"] == "test").all()
    assert set(split[images["split"] == "train"]) == {"train", "val"}
    images.loc[0:4, "split"] = "val"
    assert assign(images, 0.2, 0.5).tolist() == images["split"].tolist()


def test_test_is_cut_from_train_where_only_train_is_given() -> None:
    images = frame([(f"t{i}", "a", "train") for i in range(50)])
    assert set(assign(images, 0.2, 0.2)) == {"train", "val", "test"}


def test_an_image_without_split_follows_its_copy() -> None:
    images = frame([("same", "a", "test"), ("same", "a", None), ("other", "a", None)])
    assert assign(images, 0.0, 0.5).tolist() == ["test", "test", "train"]


def test_fractions_of_zero_cut_nothing() -> None:
    assert set(assign(labelled(2, 50), 0.0, 0.0)) == {"train"}


def test_without_labels_the_hash_decides_alone() -> None:
    images = frame([(str(i), None, None) for i in range(300)])
    counts = assign(images, 0.1, 0.2).value_counts()
    assert 30 < counts["test"] < 90
    assert 8 < counts["val"] < 50


def test_copies_across_given_splits_are_ruled_out_and_test_is_left_whole() -> None:
    images = frame(
        [("x", "a", "train"), ("x", "a", "test"), ("y", "a", "val"), ("y", "a", "train"), ("z", "a", "train")]
    )
    assert leaked(images).fillna("").tolist() == [
        "the same file as the test image 1.jpg",
        "",
        "",
        "the same file as the val image 2.jpg",
        "",
    ]
    images["reason"] = [None, None, None, None, "broken"]
    settled = settle(images, 0.0, 0.0)
    assert settled["reason"].notna().tolist() == [True, False, False, True, True]
    assert settled["reason"].iloc[4] == "broken"
