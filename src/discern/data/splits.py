"""Which image trains, which chooses and which judges: given splits are kept, missing ones are cut.

An image's side follows from the hash of its content alone. So exact copies land together, the split does not
depend on names or order, and images that are added later move none of those that were there (but for the one
that a class too small to get any by its share was given): what was tested on once is never trained on.
"""

import hashlib

import pandas as pd

TRAIN, VAL, TEST = SPLITS = ("train", "val", "test")


def settle(files: pd.DataFrame, val_fraction: float, test_fraction: float) -> pd.DataFrame:
    """The manifest of all files with the final split of every good one, and copies across splits ruled out.

    Args:
        files: columns path, label, split (given or missing), sha256 and reason (missing for good files).
        val_fraction: see `assign`.
        test_fraction: see `assign`.
    """
    files = files.copy()
    good = files["reason"].isna()
    files["reason"] = files["reason"].fillna(leaked(files[good]))
    good = files["reason"].isna()
    files.loc[good, "split"] = assign(files[good], val_fraction, test_fraction)
    return files


def leaked(files: pd.DataFrame) -> pd.Series:
    """Copies of an image across given splits: the one nearer to the test set stays.

    Args:
        files: columns path, split (given or missing) and sha256.

    Returns:
        For every file, why it must not be used; missing for those that may.
    """
    reasons = pd.Series(index=files.index, dtype="object")
    for kept, others in ((TEST, (TRAIN, VAL)), (VAL, (TRAIN,))):
        originals = files[files["split"] == kept].drop_duplicates("sha256").set_index("sha256")["path"].to_dict()
        copies = files["split"].isin(others) & files["sha256"].isin(originals.keys()) & reasons.isna()
        words = f"the same file as the {kept} image "
        reasons[copies] = [words + originals[content] for content in files.loc[copies, "sha256"]]
    return reasons


def assign(images: pd.DataFrame, val_fraction: float, test_fraction: float) -> pd.Series:
    """The split of every image.

    Where no image is given as test, about `test_fraction` of the others becomes it; then, where none is given
    as val, about `val_fraction` of train. The cut is made within every class, and a class of at least three
    different images gets at least one of each.

    Args:
        images: columns label (or missing), split (train, val, test or missing) and sha256, good images only.
        val_fraction: share of train, in [0, 1].
        test_fraction: share of all, in [0, 1].
    """
    given = images["split"]
    side: dict[str, str] = {}
    for split in (VAL, TEST):
        side |= dict.fromkeys(images.loc[given == split, "sha256"], split)
    pool = images[~given.isin((VAL, TEST)) & ~images["sha256"].isin(side.keys())]
    cut_test = 0.0 if (given == TEST).any() else test_fraction
    cut_val = 0.0 if (given == VAL).any() else val_fraction
    for _, group in pool.groupby(pool["label"].fillna(""), sort=True):
        contents = set(group["sha256"]) - side.keys()
        every_split = len(contents) >= 3
        test = _cut(contents, TEST, cut_test, leave=2 if every_split and cut_val else 1)
        val = _cut(contents - test, VAL, cut_val, leave=1) if every_split else set()
        side |= dict.fromkeys(test, TEST) | dict.fromkeys(val, VAL)
    return images["sha256"].map(side).fillna(TRAIN).where(~given.isin((VAL, TEST)), given)


def _cut(contents: set[str], name: str, fraction: float, leave: int) -> set[str]:
    """About `fraction` of `contents`, at least one, but never so many that fewer than `leave` remain."""
    if fraction == 0:
        return set()
    order = sorted(contents, key=lambda content: _uniform(name, content))
    below = sum(_uniform(name, content) < fraction for content in order)
    return set(order[: max(0, min(max(below, 1), len(order) - leave))])


def _uniform(name: str, content: str) -> float:
    """A number in [0, 1) that depends on nothing else; independent for val and test."""
    digest = hashlib.sha256(f"{name} {content}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
