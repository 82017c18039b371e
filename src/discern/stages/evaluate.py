"""evaluate, evaluate_control and evaluate_method: one method's encoder through the one protocol."""

import json
import shutil

from discern.evaluation.files import save
from discern.evaluation.own_head import head_findings
from discern.evaluation.protocol import evaluate
from discern.images.packed import PackedSplit
from discern.models.weights import load_encoder
from discern.nested import flat
from discern.run.context import Context
from discern.workspace import atomic_dir, write_figures


def run(ctx: Context) -> None:
    """Write metrics/methods/METHOD/SEED.json and data/embeddings/METHOD/SEED/."""
    assert ctx.method is not None, "dvc.yaml gives every evaluation a method"
    train, val, test = (PackedSplit.load(ctx.workspace.packed(split)) for split in ("train", "val", "test"))
    trained = ctx.workspace.encoder(ctx.method, ctx.seed)
    encoder = load_encoder(trained)
    ctx.record.dataset("test", test.index, test.digest, context="evaluation")
    params, base = ctx.params.evaluate, ctx.params.base
    result = evaluate(encoder, train, val, test, params, base, ctx.device)
    own = head_findings(encoder, trained, test.images, test.labels, params.bootstrap, base, ctx.device)
    result.findings.add(own)

    metrics = result.findings.metrics
    if (restoration := trained / "super_resolution.json").exists():  # of a method that restores images
        metrics["super_resolution"] = json.loads(restoration.read_text(encoding="utf-8"))
    figures = {key: float(value) for key, value in flat(metrics).items()}
    if result.findings.notes:
        metrics["notes"] = result.findings.notes
    with atomic_dir(ctx.workspace.embeddings(ctx.method, ctx.seed)) as folder:
        save(folder, result, test)
        if (pictures := trained / "super_resolution.npz").exists():
            shutil.copy(pictures, folder)
    path = ctx.workspace.metrics(ctx.method, ctx.seed)
    write_figures(path, metrics, sort=True)
    ctx.record.metrics(figures)
    ctx.record.artifact(path)
