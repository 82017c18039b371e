"""evaluate, evaluate_control and evaluate_baseline: one arm's encoder through the one protocol."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discern.stages.context import Context
from discern.stages.runner import execute
from discern.workspace import atomic_dir, atomic_file

if TYPE_CHECKING:
    import pyarrow as pa

    from discern.data.packed import PackedSplit
    from discern.evaluation.protocol import Evaluation


def run(ctx: Context) -> None:
    """Write metrics/arms/ARM/SEED.json and data/embeddings/ARM/SEED/."""
    from discern.data.packed import PackedSplit
    from discern.evaluation.own_head import head_findings
    from discern.evaluation.protocol import evaluate
    from discern.models.weights import load_encoder

    assert ctx.arm is not None, "dvc.yaml gives every evaluation an arm"
    train, val, test = (PackedSplit.load(ctx.workspace.packed(split)) for split in ("train", "val", "test"))
    trained = ctx.workspace.encoder(ctx.arm, ctx.seed)
    encoder = load_encoder(trained)
    ctx.record.dataset("test", test.index, test.digest, context="evaluation")
    params, base = ctx.params.evaluate, ctx.params.base
    result = evaluate(encoder, train, val, test, params, base, ctx.device)
    own = head_findings(encoder, trained, test.images, test.labels, params.bootstrap, base, ctx.device)
    result.findings.add(own)

    metrics = result.findings.metrics
    if (restoration := trained / "super_resolution.json").exists():  # of an arm that restores images
        metrics["super_resolution"] = json.loads(restoration.read_text(encoding="utf-8"))
    if result.findings.notes:
        metrics["notes"] = result.findings.notes
    with atomic_dir(ctx.workspace.embeddings(ctx.arm, ctx.seed)) as folder:
        save(folder, result, test)
        if (pictures := trained / "super_resolution.npz").exists():
            shutil.copy(pictures, folder)
    figures = ctx.workspace.metrics(ctx.arm, ctx.seed)
    with atomic_file(figures) as path:
        path.write_text(json.dumps(_rounded(metrics), indent=2, sort_keys=True, allow_nan=False) + "\n")
    ctx.record.metrics(_flat(metrics))
    ctx.record.artifact(figures)


def save(folder: Path, result: "Evaluation", test: "PackedSplit") -> None:
    """Write test.npz, outcomes.parquet and, with a probe, confusion.csv, subsets.csv, cams.npy, cams_rows.npy.

    Heat maps also need an encoder with a feature map, and subsets.csv label fractions.
    """
    import numpy as np
    import pandas as pd
    import pyarrow.parquet as pq

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


def outcome_table(result: "Evaluation", test: "PackedSplit") -> "pa.Table":
    """One row per test image in packed order; null where there is no outcome."""
    import pyarrow as pa

    types = {
        "probe_pred": pa.int64(),
        "knn_pred": pa.int64(),
        "probe_correct": pa.bool_(),
        "knn_correct": pa.bool_(),
        "knn_large_correct": pa.bool_(),
        "mlp_correct": pa.bool_(),
        "finetune_correct": pa.bool_(),
        "head_correct": pa.bool_(),
        "rank1_correct": pa.bool_(),
        "ap": pa.float64(),
        "energy": pa.float64(),
    }
    outcomes = result.findings.outcomes
    columns = {"path": pa.array(test.index["path"], pa.string()), "label_id": pa.array(test.labels)}
    columns |= {
        name: pa.array(outcomes[name], from_pandas=True).cast(kind)
        for name, kind in types.items()
        if name in outcomes
    }
    columns |= {name: pa.array(list(outcomes[name])) for name in ("neighbours", "neighbour_similarity")}
    return pa.table(columns)


def _rounded(value: Any) -> Any:
    """Figures to six decimals: finer ones differ between machines and would only make diffs longer."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def _flat(metrics: Mapping[str, Any]) -> dict[str, float]:
    """{"probe": {"top1": x}} → {"probe.top1": x}; notes are no figures."""
    return {
        f"{section}.{name}": float(figure)
        for section, figures in metrics.items()
        if section != "notes"
        for name, figure in figures.items()
    }


if __name__ == "__main__":
    sys.exit(execute("evaluate", run))
