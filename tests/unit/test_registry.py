"""The gate of promotions, and which version is champion."""

import base64
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from discern.embedding.knn import vote
from discern.errors import DataError, ModelError, PromotionError, RegistryError
from discern.models.build import build_encoder
from discern.models.making import Making
from discern.models.weights import ARCHITECTURE, save_encoder
from discern.params.evaluation import Bootstrap
from discern.params.promotion import Promotion
from discern.registry import gate
from discern.registry.evidence import Evidence, code_digest, tampered, write_checksums
from discern.registry.export import export, run_onnx, run_pt2, verify
from discern.registry.gate import Check, examine
from discern.registry.promotion import Decision, promote, rollback
from discern.registry.serving import Recogniser
from tests.methods import ENCODER

BOOTSTRAP = Bootstrap(samples=300, seed=0)
POLICY = Promotion(measure="probe.top1", margin=0.0, floor=0.0, class_drop=0.1, class_images=10)
CLASSES, EACH = 3, 40


def right(*counts: int) -> list[bool]:
    """Of every class, how many of its images are right."""
    return [i < count for count in counts for i in range(EACH)]


def version(root: Path, correct: list[bool], **changes: Any) -> Path:
    """A version's folder as MLflow hands it over, without a model in it."""
    model, data = root, root / "data" / "encoder"
    (model / "code" / "discern").mkdir(parents=True)
    (model / "code" / "discern" / "serving.py").write_text("answer = 42\n")
    (data / "evaluation").mkdir(parents=True)
    (data / "weights").write_bytes(b"weights")
    content: dict[str, Any] = {
        "method": "discern", "seed": 0, "splits": {"train": "a", "val": "b", "test": "c"}, "protocol": {"k": 20},
        "figures": {"probe": {"top1": float(np.mean(correct))}}, "commit": "0123456789", "dirty": False,
    }  # fmt: skip
    (data / "evaluation" / "evidence.json").write_text(Evidence(**{**content, **changes}).model_dump_json())
    frame = pd.DataFrame(
        {
            "path": [f"class{c}/{i}.png" for c in range(CLASSES) for i in range(EACH)],
            "label_id": np.repeat(np.arange(CLASSES), EACH),
            "probe_correct": pd.array(correct, "boolean"),
        }
    )
    frame.to_parquet(data / "evaluation" / "outcomes.parquet")
    write_checksums(data)
    return model


def sums(model: Path) -> tuple[str, str]:
    import hashlib

    listing = model / "data" / "encoder" / "checksums.json"
    return hashlib.sha256(listing.read_bytes()).hexdigest(), code_digest(model / "code")


@pytest.fixture(autouse=True)
def loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """These versions hold no model; tests/pipeline/test_registry.py lets one predict."""
    monkeypatch.setattr(gate, "_fresh_process", lambda candidate: Check("predicts in a fresh process", True, ""))


def verdicts(
    candidate: Path, champion: Path | None, policy: Promotion = POLICY, registered: tuple[str, str] | None = None
) -> dict[str, bool]:
    checks = examine(candidate, registered or sums(candidate), champion, policy, BOOTSTRAP)
    return {check.name: check.passed for check in checks}


def test_a_better_one_passes_and_a_worse_or_equal_one_does_not(tmp_path: Path) -> None:
    good, bad = version(tmp_path / "good", right(36, 36, 36)), version(tmp_path / "bad", right(20, 20, 20))
    same = version(tmp_path / "same", right(36, 36, 36))
    assert all(verdicts(good, bad).values())
    worse, equal = verdicts(bad, good), verdicts(same, good)
    assert not worse["better than the champion"]
    assert not worse["no class worse"]
    assert not equal["better than the champion"]
    assert equal["no class worse"]


def test_the_first_needs_no_champion_but_everything_else(tmp_path: Path) -> None:
    first = version(tmp_path / "first", right(10, 10, 10))
    assert all(verdicts(first, None).values())
    assert not verdicts(first, None, POLICY.model_copy(update={"floor": 0.26}))["floor"]
    assert verdicts(first, None, POLICY.model_copy(update={"floor": 0.25}))["floor"]  # at equality


def test_the_margin_counts_at_equality(tmp_path: Path) -> None:
    good, bad = version(tmp_path / "good", right(30, 30, 30)), version(tmp_path / "bad", right(20, 20, 20))
    assert verdicts(good, bad, POLICY.model_copy(update={"margin": 0.25}))["better than the champion"]
    assert not verdicts(good, bad, POLICY.model_copy(update={"margin": 0.26}))["better than the champion"]


def test_no_class_may_pay_for_the_others(tmp_path: Path) -> None:
    champion = version(tmp_path / "champion", right(20, 20, 20))
    at_limit = version(tmp_path / "at", right(40, 40, 16))
    beyond = version(tmp_path / "beyond", right(40, 40, 15))
    assert verdicts(at_limit, champion)["no class worse"]
    found = examine(beyond, sums(beyond), champion, POLICY, BOOTSTRAP)
    (check,) = [c for c in found if c.name == "no class worse"]
    assert not check.passed
    assert "class2" in check.detail
    assert "-12.5" in check.detail
    small = POLICY.model_copy(update={"class_images": EACH + 1})
    assert verdicts(beyond, champion, small)["no class worse"]


def test_other_images_or_another_protocol_are_not_compared(tmp_path: Path) -> None:
    champion = version(tmp_path / "champion", right(20, 20, 20))
    images = version(tmp_path / "images", right(40, 40, 40), splits={"train": "a", "val": "b", "test": "other"})
    protocol = version(tmp_path / "protocol", right(40, 40, 40), protocol={"k": 5})
    for candidate in (images, protocol):
        found = verdicts(candidate, champion)
        assert not found["same evaluation"]
        assert "better than the champion" not in found
    more = version(tmp_path / "more", right(40, 40, 40), splits={"train": "more", "val": "b", "test": "c"})
    assert all(verdicts(more, champion).values())


def test_a_dirty_tree_or_an_unknown_commit_does_not_pass(tmp_path: Path) -> None:
    assert not verdicts(version(tmp_path / "dirty", right(9, 9, 9), dirty=True), None)["clean tree"]
    assert not verdicts(version(tmp_path / "unknown", right(9, 9, 9), commit=""), None)["clean tree"]


@pytest.mark.parametrize(
    "file", ["data/encoder/weights", "data/encoder/checksums.json", "code/discern/serving.py"]
)
def test_a_changed_file_ends_the_examination(tmp_path: Path, file: str) -> None:
    candidate = version(tmp_path / "candidate", right(40, 40, 40))
    registered = sums(candidate)
    (candidate / file).write_text((candidate / file).read_text() + " ")
    assert verdicts(candidate, None, registered=registered) == {"as registered": False}


def test_added_and_missing_files_are_seen(tmp_path: Path) -> None:
    candidate = version(tmp_path / "candidate", right(40, 40, 40))
    registered = sums(candidate)
    extra = candidate / "data" / "encoder" / "extra"
    extra.write_text("")
    assert "extra" in str(tampered(candidate, *registered))
    extra.unlink()
    (candidate / "data" / "encoder" / "weights").unlink()
    assert "weights" in str(tampered(candidate, *registered))


# Exports, and what a registered model answers.


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model with an index of six images of two classes."""
    folder = tmp_path_factory.mktemp("model")
    encoder = build_encoder(ENCODER, seed=0).eval()
    save_encoder(folder / "encoder", encoder, Making(16))
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)
    features = export(encoder, images, folder)
    labels = np.array(["crow", "crow", "crow", "wren", "wren", "wren"])
    np.savez(
        folder / "index.npz", features=features, labels=labels, paths=np.array([f"{i}.png" for i in range(6)])
    )
    np.save(folder / "images.npy", images)
    settings = {"resize": "crop", "max_pixels": 10_000, "k": 4, "temperature": 0.07}
    (folder / "serving.json").write_text(json.dumps(settings))
    return folder


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_exports_give_the_encoders_features_for_any_number_of_images(model: Path) -> None:
    images = np.load(model / "images.npy")
    with np.load(model / "index.npz") as index:
        expected = index["features"]
    for run, file in ((run_pt2, "encoder.pt2"), (run_onnx, "encoder.onnx")):
        for count in (1, 5):
            np.testing.assert_allclose(run(model / file, images[:count]), expected[:count], atol=1e-4)


ARCHITECTURES: list[dict[str, Any]] = [
    {"kind": "attended", "encoder": ENCODER.model_dump(), "projections": 4},
    {"kind": "attended", "encoder": {"kind": "timm", "name": "test_vit"}, "projections": 4},
    *({"kind": "timm", "name": name} for name in ("test_vit", "test_efficientnet")),
    {"kind": "side_by_side", "encoder": {"kind": "timm", "name": "test_efficientnet"}},
    {
        "kind": "side_by_side",
        "encoder": {
            "kind": "corrected",
            "encoder": {"kind": "timm", "name": "test_vit"},
            "components": 4,
            "whitening": 0.5,
        },
    },
    {"kind": "srgan_generator", "channels": 8, "blocks": 1},
    {"kind": "srgan_discriminator", "width": 8},
    {"kind": "raw_pixels", "side": 8},
]


@pytest.mark.parametrize("description", ARCHITECTURES, ids=lambda d: d.get("name", d["kind"]))
def test_every_kind_of_encoder_can_be_exported(description: dict[str, Any], tmp_path: Path) -> None:
    """`export` itself compares both files with the encoder, for several images and for one."""
    encoder = build_encoder(ARCHITECTURE.validate_python(description), seed=0).eval()
    for name, values in encoder.named_buffers():
        if name.endswith("directions"):  # of a correction: zero before it is fitted
            values.normal_(generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    side = 48 if "timm" in str(description) else 16  # another than timm's networks were made for
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    assert export(encoder, images, tmp_path).shape == (3, encoder.dim)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_what_onnx_has_no_operator_for_is_told(tmp_path: Path) -> None:
    description = {"kind": "histogram_hog", "bins": 4, "side": 16, "pixels_per_cell": 4}
    encoder = build_encoder(ARCHITECTURE.validate_python(description), seed=0).eval()
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    with pytest.raises(ModelError, match="cannot be written as ONNX"):
        export(encoder, images, tmp_path)


def test_an_export_that_differs_is_refused() -> None:
    expected = np.ones((2, 4), np.float32)
    verify("same", expected, expected)
    for wrong in (expected * 1.001, expected * np.nan):
        with pytest.raises(ModelError, match="differ from the encoder's"):
            verify("encoder.onnx", wrong, expected)


def test_an_answer_names_the_class_its_share_and_the_neighbours(model: Path) -> None:
    images = np.load(model / "images.npy")
    recogniser = Recogniser(model)
    pictures = pd.DataFrame({"image": [png(images[0]), base64.b64encode(png(images[4])).decode()]})
    answer = recogniser.predict(pictures, {"neighbours": 2})
    assert [names[0] for names in answer["neighbours"]] == ["0.png", "4.png"]
    assert [s[0] for s in answer["similarities"]] == pytest.approx([1.0, 1.0])
    assert all(len(names) == 2 for names in answer["neighbours"])
    features = np.array(answer["embedding"].tolist(), np.float32)
    with np.load(model / "index.npz") as index:
        labels = (index["labels"] == "wren").astype(np.int64)
        expected = vote(index["features"], labels, features, 4, 0.07).predictions
        similar = torch.nn.functional.cosine_similarity(
            torch.from_numpy(features[0]), torch.from_numpy(index["features"])
        )
    assert answer["label"].tolist() == [("crow", "wren")[i] for i in expected]
    nearest = similar.sort(descending=True, stable=True).indices[:4].tolist()
    weights = {i: float(torch.exp(similar[i] / 0.07)) for i in nearest}
    of_winner = sum(w for i, w in weights.items() if ("crow", "wren")[labels[i]] == answer["label"][0])
    assert answer["score"][0] == pytest.approx(of_winner / sum(weights.values()), rel=1e-4)


@pytest.mark.parametrize("content", [b"no picture", "not base64!", ""])
def test_what_is_no_picture_is_named_by_its_row(model: Path, content: Any) -> None:
    images = np.load(model / "images.npy")
    with pytest.raises(DataError, match="picture 1"):
        Recogniser(model).predict(pd.DataFrame({"image": [png(images[0]), content]}))


# Aliases and log, in a real registry.


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from discern.registry.store import Store
    from discern.settings import settings

    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    made = Store("birds")
    made.client.create_registered_model("birds")
    for _ in range(3):
        made.client.create_model_version("birds", str(tmp_path))
    yield made
    settings.cache_clear()


def decision(number: str, champion: str | None, passed: bool = True) -> Decision:
    return Decision(number, champion, [Check("floor", passed, "it is too low")])


def test_champion_previous_and_the_log(store: Any) -> None:
    promote(store, decision("1", None), "first")
    promote(store, decision("2", "1"), "better on wrens")
    promote(store, decision("3", "2"), "better on crows")
    assert (store.alias("champion"), store.alias("previous")) == ("3", "2")
    assert rollback(store, "crows complain") == ("2", "3")
    assert (store.alias("champion"), store.alias("previous")) == ("2", "1")
    assert rollback(store, "wrens as well") == ("1", "2")
    assert (store.alias("champion"), store.alias("previous")) == ("1", None)
    with pytest.raises(RegistryError, match="no earlier champion"):
        rollback(store, "all complain")
    log = [(e.action, e.version, e.replaced, e.reason) for e in store.log()]
    assert log == [
        ("rollback", "1", "2", "wrens as well"),
        ("rollback", "2", "3", "crows complain"),
        ("promote", "3", "2", "better on crows"),
        ("promote", "2", "1", "better on wrens"),
        ("promote", "1", "", "first"),
    ]
    assert store.version("champion").tags["promotion.reason"] == "wrens as well"


def test_a_failed_check_changes_nothing(store: Any) -> None:
    with pytest.raises(PromotionError, match="floor: it is too low"):
        promote(store, decision("1", None, passed=False), "please")
    assert store.alias("champion") is None
    assert store.log() == []


def test_a_champion_made_in_the_meantime_is_not_overruled(store: Any) -> None:
    stale = decision("2", None)
    promote(store, decision("1", None), "first")
    with pytest.raises(PromotionError, match="in the meantime"):
        promote(store, stale, "second")
    assert store.alias("champion") == "1"


def test_a_version_that_is_not_there_is_named(store: Any) -> None:
    for name in ("9", "challenger"):
        with pytest.raises(RegistryError, match=f"no version or alias '{name}'"):
            store.version(name)


def test_a_dead_server_is_one_line_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from discern.registry import store as module

    dead = SimpleNamespace(
        resolved_tracking_uri="http://me:secret@127.0.0.1:9", experiment="discern", tracking=True
    )
    monkeypatch.setattr(module, "settings", lambda: dead)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegistryError) as caught:
        module.Store("birds")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
