"""The rules of the data gate, as plain data: what is expected of which table, and how grave a breach is.

Four tables are looked at: `files` (everything that was found), `images` (what is left without the
quarantined), `classes` and `splits` (their counts).
"""

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from discern.data.decode import FORMATS, MIN_SIDE
from discern.data.splits import SPLITS, TEST, TRAIN, VAL
from discern.params.pipeline import Validate

Table = Literal["files", "images", "classes", "splits"]
Severity = Literal["error", "warning"]
KEYS: dict[Table, str] = {"files": "path", "images": "path", "classes": "class", "splits": "split"}

_LONG = 10  # times the short side


@dataclass(frozen=True)
class Rule:
    """One expectation and what it means.

    Attributes:
        name: stands in errors and in expectations.json.
        table: what it is checked on.
        severity: `error` stops the pipeline, `warning` is shown in the data report.
        says: what is expected, in plain words.
        expectation: Great Expectations' name of the check.
        arguments: of the check.
    """

    name: str
    table: Table
    severity: Severity
    says: str
    expectation: str
    arguments: dict[str, Any]


def tables(files: pd.DataFrame, params: Validate) -> dict[Table, pd.DataFrame]:
    """The tables that the rules look at.

    Args:
        files: the manifest of all files: columns of `manifest.build`, with the reason of every quarantined
            one, and the final split of every good one.
        params: tells which splits may be empty: val and test where their fraction is 0.
    """
    images = files[files["reason"].isna()].copy()
    by_content = images.groupby("sha256")
    images["splits_of_content"] = by_content["split"].transform("nunique")
    images["labels_of_content"] = by_content["label"].transform("nunique")
    sides = images[["width", "height"]]
    images["elongation"] = sides.max(axis=1) / sides.min(axis=1)
    may_be_empty = {TRAIN: False, VAL: params.val_fraction == 0, TEST: params.test_fraction == 0}
    sizes = images["split"].value_counts().reindex(list(SPLITS), fill_value=0)
    splits = sizes[[size > 0 or not may_be_empty[str(split)] for split, size in sizes.items()]]
    return {
        "files": files.assign(good=files["reason"].isna()),
        "images": images,
        "classes": class_counts(files).rename_axis("class").reset_index(),
        "splits": splits.rename_axis("split").reset_index(name="images"),
    }


def class_counts(files: pd.DataFrame) -> pd.DataFrame:
    """Good images of every class (rows, sorted; also those with none left) in train, val and test (columns)."""
    images = files[files["reason"].isna()]
    counts = pd.crosstab(images["label"], images["split"])
    names = sorted(files["label"].dropna().unique())
    return counts.reindex(index=names, columns=list(SPLITS), fill_value=0)


def rules(params: Validate, labelled: bool) -> list[Rule]:
    """All rules, those about the whole first.

    Args:
        params: the section `validate` of params.yaml.
        labelled: whether any file has a class.
    """
    return [*_rules_of_sets(params), *(_rules_of_classes() if labelled else ()), *_rules_of_images()]


def _rules_of_sets(params: Validate) -> list[Rule]:
    return [
        Rule(
            "few_quarantined",
            "files",
            "error",
            f"at most {params.max_quarantined:.4g} of the files may be bad (validate.max_quarantined)",
            "expect_column_values_to_be_in_set",
            {"column": "good", "value_set": [True], "mostly": 1 - params.max_quarantined},
        ),
        Rule(
            "images_left",
            "images",
            "error",
            "there is a good image",
            "expect_table_row_count_to_be_between",
            {"min_value": 1},
        ),
        Rule(
            "splits_filled",
            "splits",
            "error",
            "train, val and test have images (only a fraction of 0 allows an empty val or test)",
            "expect_column_values_to_be_between",
            {"column": "images", "min_value": 1},
        ),
    ]


def _rules_of_classes() -> list[Rule]:
    severities: dict[str, Severity] = {TRAIN: "error", TEST: "error", VAL: "warning"}
    return [
        Rule(
            "two_classes",
            "classes",
            "error",
            "there are two classes at least (one class only: remove its folder to train without labels)",
            "expect_table_row_count_to_be_between",
            {"min_value": 2},
        ),
        _image(
            "label_known",
            "error",
            "every image has a class, as some have (remove all class folders to train without labels)",
            "expect_column_values_to_not_be_null",
            {"column": "label"},
        ),
        *(
            Rule(
                f"class_in_{split}",
                "classes",
                severity,
                f"every class has an image in {split}",
                "expect_column_values_to_be_between",
                {"column": split, "min_value": 1},
            )
            for split, severity in severities.items()
        ),
        _at_most("labels_of_content", 1, "one_label", "warning", "copies of an image have the same class"),
    ]


def _rules_of_images() -> list[Rule]:
    return [
        _unique("path", "path_unique", "error", "no path stands twice"),
        _unique("sha256", "no_copies", "warning", "no image is there twice under different names"),
        _image(
            "checksum_form",
            "error",
            "every image has its SHA-256",
            "expect_column_values_to_match_regex",
            {"column": "sha256", "regex": "^[0-9a-f]{64}$"},
        ),
        _among("split", list(SPLITS), "split_known"),
        # MPO is a JPEG that holds several pictures, as phones and stereo cameras write.
        _among("format", [*FORMATS, "MPO"], "format_known"),
        *(
            _image(
                f"{side}_usable",
                "error",
                f"the {side} is at least {MIN_SIDE} px",
                "expect_column_values_to_be_between",
                {"column": side, "min_value": MIN_SIDE},
            )
            for side in ("width", "height")
        ),
        _at_most("splits_of_content", 1, "no_leak", "error", "no image lies in two splits"),
        _at_most(
            "elongation",
            _LONG,
            "shape_usual",
            "warning",
            f"the long side is at most {_LONG} times the short one",
        ),
    ]


def _image(name: str, severity: Severity, says: str, expectation: str, arguments: dict[str, Any]) -> Rule:
    return Rule(name, "images", severity, says, expectation, arguments)


def _unique(column: str, name: str, severity: Severity, says: str) -> Rule:
    return _image(name, severity, says, "expect_column_values_to_be_unique", {"column": column})


def _among(column: str, values: list[str], name: str) -> Rule:
    says = f"the {column} is one of {', '.join(values)}"
    arguments = {"column": column, "value_set": values}
    return _image(name, "error", says, "expect_column_values_to_be_in_set", arguments)


def _at_most(column: str, most: int, name: str, severity: Severity, says: str) -> Rule:
    arguments = {"column": column, "max_value": most}
    return _image(name, severity, says, "expect_column_values_to_be_between", arguments)
