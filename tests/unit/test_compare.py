"""Comparing revisions: what differs, and what cannot be compared."""

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from discern.compare import render
from discern.compare.comparison import compare
from discern.compare.paired import difference
from discern.compare.revision import Revision
from discern.errors import DataError, RevisionError
from discern.report.summary import Figure, Summary

PARAMS = """
base: {lr: 0.1, weights: none}
methods: {seeds: [0], compared: [simclr]}
pretrain_decoder: {loss: byol}
"""
MOCO = "kind: moco\nrate: 0.1\nqueue: 8\n"
# Before methods had files of their own.
OLD_PARAMS = """
base: {lr: 0.1, weights: none}
arms: {seeds: [0], controls: [continue], baselines: [simclr]}
pretrain_decoder: {loss: {kind: byol, rate: 1.0}}
train_baseline:
  simclr: {kind: simclr, rate: 1.0, dim: 4}
"""
LOCK = """
stages:
  pack:
    outs:
    - {path: data/packed, md5: PACKED.dir}
    - {path: reports/runs/pack.json, md5: aa}
"""


def commit(root: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "-C", str(root), "add", "-A"], check=True)
    who = ["-c", "user.name=Tester", "-c", "user.email=tester@localhost"]
    subprocess.run(["git", "-C", str(root), *who, "commit", "-q", "-m", message], check=True)


def summary(figures: dict[str, float]) -> str:
    methods = {
        method: {"probe.top1": Figure(mean=v, seeds=[v], interval=(v - 0.1, v + 0.1))}
        for method, v in figures.items()
    }
    counts = {"train": 10, "test": 5, "classes": 2}
    made = Summary(control="continue", seeds=[0], images=counts, floor={}, notes=[], methods=methods)
    return made.model_dump_json(exclude_none=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path)], check=True)
    first = {
        "params.yaml": PARAMS,
        "methods/simclr.yaml": "kind: simclr\nrate: 1.0\n",
        "methods/byol.yaml": "kind: byol\nrate: 1.0\n",
        "methods/dino.yaml": "kind: dino\nrate: 1.0\n",
        "dvc.lock": LOCK.replace("PACKED", "1" * 32),
        "src/a.py": "one\ntwo\n",
        "metrics/summary.json": summary({"discern": 0.5, "continue": 0.6}),
    }
    commit(tmp_path, first, "first | with a bar")
    second = {
        "params.yaml": PARAMS.replace("0.1", "0.2").replace("[simclr]", "[simclr, moco]"),
        "methods/moco.yaml": MOCO,
        "methods/byol.yaml": "kind: byol\nrate: 0.5\n",
        "methods/dino.yaml": "kind: dino\nrate: 0.5\n",  # nobody trains it
        "dvc.lock": LOCK.replace("PACKED", "2" * 32),
        "src/a.py": "one\n2\nthree\n",
        "metrics/summary.json": summary({"discern": 0.7, "moco": 0.3}),
    }
    commit(tmp_path, second, "second")
    return tmp_path


def test_what_went_in_and_what_came_out(repository: Path) -> None:
    found = compare(repository, "HEAD~1", "main")
    assert [(c.key, c.before, c.after) for c in found.params] == [
        ("base.lr", "0.1", "0.2"),
        ("methods.compared", '["simclr"]', '["simclr", "moco"]'),
        ("methods/byol.yaml:rate", "1.0", "0.5"),
        ("methods/moco.yaml", None, "3 parameters"),
    ]
    assert [(c.key, c.before, c.after) for c in found.data] == [
        ("data/packed", "1" * 32 + ".dir", "2" * 32 + ".dir")
    ]
    assert found.code == [("src/a.py", "2", "1")]
    means = {
        method: [(c.before and c.before.mean, c.after and c.after.mean) for c in changes]
        for method, changes in found.methods.items()
    }
    assert means == {"discern": [(0.5, 0.7)], "moco": [(None, 0.3)], "continue": [(0.6, None)]}
    assert any("neither in the cache nor on the remote" in note for note in found.notes)
    assert found.runs == (None, None)


def test_backwards_is_the_mirror_image(repository: Path) -> None:
    found = compare(repository, "HEAD", "HEAD~1")
    assert [(c.key, c.before, c.after) for c in found.params] == [
        ("base.lr", "0.2", "0.1"),
        ("methods.compared", '["simclr", "moco"]', '["simclr"]'),
        ("methods/moco.yaml", "3 parameters", None),
        ("methods/byol.yaml:rate", "0.5", "1.0"),
    ]
    assert found.code == [("src/a.py", "1", "2")]


def test_a_method_is_shown_whichever_side_trains_it(repository: Path) -> None:
    changed = {
        "params.yaml": PARAMS.replace("[simclr]", "[]").replace("loss: byol", "loss: simclr"),
        "methods/moco.yaml": MOCO.replace("queue: 8", "queue: 16") + "momentum: 0.9\n",
    }
    commit(repository, changed, "third")
    expected = [
        ("base.lr", "0.2", "0.1"),
        ("methods.compared", '["simclr", "moco"]', "[]"),
        ("pretrain_decoder.loss", "byol", "simclr"),
        ("methods/moco.yaml:queue", "8", "16"),
        ("methods/moco.yaml:momentum", None, "0.9"),
    ]
    found = compare(repository, "HEAD~1", "HEAD").params
    assert [(c.key, c.before, c.after) for c in found] == expected
    found = compare(repository, "HEAD", "HEAD~1").params
    assert {(c.key, c.after, c.before) for c in found} == set(expected)


@pytest.mark.parametrize("forward", [True, False])
def test_a_revision_from_before_methods_had_files_can_still_be_read(repository: Path, forward: bool) -> None:
    old = {"params.yaml": OLD_PARAMS, "metrics/summary.json": '{"control": "continue", "arms": {"discern": {}}}'}
    subprocess.run(["git", "-C", str(repository), "rm", "-rq", "methods"], check=True)
    commit(repository, old, "from before")
    subprocess.run(["git", "-C", str(repository), "tag", "old"], check=True)
    sides = ("old", "HEAD~1") if forward else ("HEAD~1", "old")
    found = compare(repository, *sides)
    changes = [(c.key, *((c.before, c.after) if forward else (c.after, c.before))) for c in found.params]
    assert set(changes) == {
        ("base.lr", "0.1", "0.2"),
        ("arms", "3 parameters", None),
        ("train_baseline", "3 parameters", None),
        ("pretrain_decoder.loss.kind", "byol", None),
        ("pretrain_decoder.loss.rate", "1.0", None),
        ("pretrain_decoder.loss", None, "byol"),
        ("methods", None, "2 parameters"),
        ("methods/simclr.yaml", None, "2 parameters"),
        ("methods/moco.yaml", None, "3 parameters"),
        ("methods/byol.yaml", None, "2 parameters"),
    }
    assert any("old" in note and "of another version" in note for note in found.notes)
    text = render.markdown(found)
    row = ("arms", "3 parameters", "–") if forward else ("arms", "–", "3 parameters")
    assert f"| {' | '.join(row)} |" in text
    assert "| discern | – → 70.0 |" in text if forward else "| discern | 70.0 → – |" in text


@pytest.mark.parametrize("before", ["HEAD", "workspace"])
def test_the_workspace_is_a_revision_on_either_side(repository: Path, before: str) -> None:
    (repository / "params.yaml").write_text(PARAMS)
    (repository / "src" / "a.py").write_text("one\n")
    found = compare(repository, before, "workspace" if before == "HEAD" else "HEAD")
    forward = before == "HEAD"
    assert found.params[0].before == ("0.2" if forward else "0.1")
    assert found.code == [("src/a.py", *(("0", "2") if forward else ("2", "0")))]


def test_many_files_are_summed_by_folder(repository: Path) -> None:
    commit(repository, {f"src/many/{i}.py": "x\n" * i for i in range(1, 25)}, "many")
    assert compare(repository, "HEAD~1", "HEAD").code == [("src/many/ (24 files)", "300", "0")]


def test_a_summary_of_another_version_is_left_out_and_said(repository: Path) -> None:
    commit(repository, {"metrics/summary.json": '{"columns": []}'}, "old")
    found = compare(repository, "HEAD~1", "HEAD")
    assert any("of another version" in note for note in found.notes)
    assert found.methods["discern"][0].after is None


def test_unknown_revisions_are_named(repository: Path) -> None:
    with pytest.raises(RevisionError, match="nowhere: no such commit"):
        compare(repository, "HEAD", "nowhere")
    with pytest.raises(RevisionError, match="--output=x: no such commit"):
        Revision.find(repository, "--output=x")


def test_markdown_is_a_table_whatever_the_message(repository: Path) -> None:
    text = render.markdown(compare(repository, "HEAD~1", "HEAD"))
    assert "| message | first \\| with a bar | second |" in text
    assert "| discern | 50.0 → 70.0 |" in text
    assert "| continue | 60.0 → – |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)
    page = render.html(compare(repository, "HEAD~1", "HEAD"))
    assert "http://" not in page.replace("http://www.w3.org", "")


def outcomes(right: list[list[int]]) -> list[pd.DataFrame]:
    names = [f"{i}.png" for i in range(len(right[0]))]
    return [
        pd.DataFrame({"path": names, "label_id": 0, "probe_correct": pd.array([bool(r) for r in seed], "boolean")})
        for seed in right
    ]


def test_a_paired_difference_averages_seeds_image_by_image() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.integers(0, 2, (2, 60)).tolist(), rng.integers(0, 2, (3, 60)).tolist()
    found = difference(outcomes(before), outcomes(after), "probe_correct", 200, 0)
    expected = [sum(s[i] for s in after) / 3 - sum(s[i] for s in before) / 2 for i in range(60)]
    assert found is not None
    assert found.mean == pytest.approx(sum(expected) / 60)
    assert found.low < found.mean < found.high
    assert difference(outcomes(before), outcomes(after), "knn_correct", 200, 0) is None
    assert difference([], outcomes(after), "probe_correct", 200, 0) is None


def test_other_images_are_not_compared() -> None:
    before, after = outcomes([[0, 1, 1]]), outcomes([[0, 1, 1]])
    after[0].loc[1, "path"] = "other.png"
    with pytest.raises(DataError, match="different test images"):
        difference(before, after, "probe_correct", 200, 0)
