"""Which image trains, which chooses and which judges: given splits are kept, missing ones are cut.

An image's side follows from the hash of its content alone. So exact copies land together, the split does not
depend on names or order, and images that are added later move none of those that were there: what was tested
on once is never trained on.
"""

import hashlib
from collections.abc import Iterable

import pandas as pd

TRAIN, VAL, TEST = SPLITS = ("train", "val", "test")


def leaked(files: pd.DataFrame) -> pd.Series:
    """Copies of an image across given splits: the one nearer to the test set stays.

    Args:
        files: columns path, split (given or missing) and sha256.

    Returns:
        For every file, why it must not be used; missing for those that may.
    """
    reasons = pd.Series(index=files.index, dtype="object")
    for kept, others in ((TEST, (TRAIN, VAL)), (VAL, (TRAIN,))):
        original = files[files["split"] == kept].drop_duplicates("sha256").set_index("sha256")["path"]
        copies = files["split"].isin(others) & files["sha256"].isin(original.index) & reasons.isna()
        reasons[copies] = f"the same file as the {kept} image " + files["sha256"].map(original)[copies]
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
    side = {}
    for split in (VAL, TEST):
        side |= dict.fromkeys(images.loc[given == split, "sha256"], split)
    pool = images[~given.isin((VAL, TEST)) & ~images["sha256"].isin(side.keys())]
    cut_test = 0.0 if (given == TEST).any() else test_fraction
    cut_val = 0.0 if (given == VAL).any() else val_fraction
    for _, group in pool.groupby(pool["label"].fillna(""), sort=True):
        contents = sorted(set(group["sha256"]) - side.keys())
        test = _cut(contents, TEST, cut_test, spare=2 if cut_val else 1)
        val = _cut(sorted(set(contents) - test), VAL, cut_val, spare=1 if len(contents) > 2 else 2)
        side |= dict.fromkeys(test, TEST) | dict.fromkeys(val, VAL)
    return images["sha256"].map(side).fillna(TRAIN).where(~given.isin((VAL, TEST)), given)


def _cut(contents: list[str], name: str, fraction: float, spare: int) -> set[str]:
    """About `fraction` of `contents`: at least one, and `spare` are left over where there are enough."""
    if fraction == 0:
        return set()
    order = sorted(contents, key=lambda content: _uniform(name, content))
    cut = {content for content in order if _uniform(name, content) < fraction}
    most = max(0, len(order) - spare)
    return set(_first(cut or order[:1], order, most))


def _first(chosen: Iterable[str], order: list[str], most: int) -> list[str]:
    chosen = set(chosen)
    return [content for content in order if content in chosen][:most]


def _uniform(name: str, content: str) -> float:
    """A number in [0, 1) that depends on nothing else; independent for val and test."""
    digest = hashlib.sha256(f"{name} {content}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
