"""What an evaluation leaves on the disk: features, outcomes image by image, confusions, heat maps."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from discern.evaluation.protocol import Evaluation
from discern.images.packed import PackedSplit

LISTS = ("neighbours", "neighbour_similarity")  # outcomes with several entries for each image


def save(folder: Path, result: Evaluation, test: PackedSplit) -> None:
    """Write test.npz, outcomes.parquet and, with a probe, confusion.csv, subsets.csv, cams.npy, cams_rows.npy.

    Heat maps also need an encoder with a feature map, and subsets.csv label fractions.
    """
    np.savez(folder / "test.npz", features=result.features)
    pq.write_table(outcome_table(result, test), folder / "outcomes.parquet")
    if result.confusion is not None:
        names = pd.Index(test.classes, name="true")
        pd.DataFrame(result.confusion, index=names, columns=test.classes).to_csv(folder / "confusion.csv")
    if result.subsets is not None:
        result.subsets.to_csv(folder / "subsets.csv", index=False)
    if result.heat_maps is not None:
        np.save(folder / "cams.npy", result.heat_maps)
        np.save(folder / "cams_rows.npy", result.heat_map_rows)


def outcome_table(result: Evaluation, test: PackedSplit) -> pa.Table:
    """One row per test image in packed order; null where there is no outcome."""
    outcomes = result.findings.outcomes
    columns = {"path": pa.array(test.index["path"], pa.string()), "label_id": pa.array(test.labels)}
    for name, values in outcomes.items():
        if name not in LISTS:
            columns[name] = pa.array(values, from_pandas=True).cast(_type(name))
    columns |= {name: pa.array(list(outcomes[name])) for name in LISTS}
    return pa.table(columns)


def _type(name: str) -> pa.DataType:
    """Outcomes are floats because of NaN; what they say is a class, right or wrong, or a figure."""
    if name.endswith("_pred"):
        return pa.int64()
    return pa.bool_() if name.endswith("_correct") else pa.float64()
