"""Errors of params.yaml name the file, the key, the value and what is allowed."""

import json
import re
import shutil
from pathlib import Path

import pytest

from discern.errors import ParamsError
from discern.params.load import json_schema, load, load_text

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (r"nuisance: .*", "nuisance: 7", ["dataset.nuisance = 7", "less than or equal to 1"]),
        (r"species: 20", "specis: 20", ["dataset.specis is not a parameter", "dataset.species is missing"]),
        (r"precision: .*", "precision: fp8", ['base.precision = "fp8"', "'fp32' or 'bf16'"]),
        (
            r"pack:\n  image_size: .*",
            "pack:\n  image_size: 0",
            ["pack.image_size = 0", "greater than or equal to 16"],
        ),
        (r"controls: .*", "controls: [nope]", ["methods.controls: 'nope' has no entry in train_control"]),
        (r"seeds: .*", "seeds: [0, 0]", ["methods.seeds: a seed stands twice"]),
        (r"control: continue", "control: moco", ["report.control: 'moco' is not among the methods"]),
        (r"pair_weight: .*", "pair_weight: no", ['train_encoder.pair_weight = "no"', "valid number"]),
    ],
)
def test_errors_name_key_value_and_what_is_allowed(old: str, new: str, expected: list[str]) -> None:
    text, changed = re.subn(old, new, TEXT, count=1)
    assert changed
    with pytest.raises(ParamsError) as error:
        load_text(text, name="params.yaml", methods=ROOT / "methods")
    for part in ["params.yaml: ", *expected]:
        assert part in str(error.value)


def test_file_that_is_missing_or_not_yaml(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="no such file"):
        load(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match="not valid YAML"):
        load_text("a: [1,\nb: }")
    with pytest.raises(ParamsError, match="expected a mapping"):
        load_text("- 1\n- 2\n")


def test_a_control_says_only_what_differs_and_the_rest_follows_ours(tmp_path: Path) -> None:
    text = TEXT.replace("controls: []", "controls: [random_dims]").replace("pair_weight: 1.0", "pair_weight: 0.5")
    found = load_text(text, methods=ROOT / "methods")
    assert found.train_control["random_dims"].model_dump() == {"dims": "random"}
    with pytest.raises(ParamsError, match=r"train_control\.random_dims\.pair_weight is not a parameter"):
        load_text(text.replace("{dims: random}", "{dims: random, pair_weight: 1.0}"), methods=ROOT / "methods")


def method(folder: Path, name: str, old: str, new: str) -> None:
    """A copy of the methods with one of them changed."""
    shutil.copytree(ROOT / "methods", folder / "methods", symlinks=True)
    file = folder / "methods" / f"{name}.yaml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    (folder / "params.yaml").write_text(TEXT, encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "temperature: 0.2",
            "temperature: hot",
            'simclr.yaml: temperature = "hot": input should be a valid number',
        ),
        ("dim: 128", "width: 128", "simclr.yaml: dim is missing"),
        ("dim: 128", "width: 128", "simclr.yaml: width is not a parameter"),
        ("kind: simclr", "kind: simclear", "simclr.yaml: "),
        ("kind: simclr", "kind: [", "simclr.yaml: not valid YAML"),
    ],
)
def test_errors_of_a_method_name_its_file(old: str, new: str, expected: str, tmp_path: Path) -> None:
    method(tmp_path, "simclr", old, new)
    with pytest.raises(ParamsError) as error:
        load(tmp_path / "params.yaml")
    assert f"{tmp_path / 'methods'}/{expected}" in str(error.value)


def test_a_method_that_nobody_trains_is_not_read(tmp_path: Path) -> None:
    method(tmp_path, "moco", "kind: moco", "kind: [")
    assert load(tmp_path / "params.yaml").methods.compared == ["simclr", "random_init"]


def test_a_missing_method_is_told_with_all_other_mistakes() -> None:
    text = TEXT.replace("compared: [", "compared: [mocho, ").replace("pair_weight: 1.0", "pair_weight: -1")
    with pytest.raises(ParamsError) as error:
        load_text(text, methods=ROOT / "methods")
    missing, other = str(error.value).splitlines()
    assert "methods/mocho.yaml: no such file, so there is no method mocho; there are barlow_twins, " in missing
    assert "params.yaml: train_encoder.pair_weight = -1" in other


def test_the_loss_of_ours_is_one_between_two_views() -> None:
    with pytest.raises(ParamsError, match=r"loss: 'jigsaw' is none of the kinds barlow_twins, byol"):
        load_text(TEXT.replace("loss: simclr", "loss: jigsaw"), methods=ROOT / "methods")


@pytest.mark.parametrize("name", ["discern", "continue"])
def test_what_is_always_trained_is_not_in_the_lists(name: str) -> None:
    text = TEXT.replace("controls: []", f"controls: [{name}]")
    text = text.replace("train_control:", f"train_control:\n  {name}: {{dims: random}}")
    with pytest.raises(ParamsError, match="always trained"):
        load_text(text, methods=ROOT / "methods")


def test_numbers_are_read_as_dvc_reads_them() -> None:
    # PyYAML would take 1e-3 for a string, and DVC not: the two would disagree about what is in the file.
    text = TEXT.replace("decoder_lr: 1.0e-3", "decoder_lr: 1e-3")
    assert load_text(text, methods=ROOT / "methods").pretrain_decoder.decoder_lr == 0.001


def test_schema_is_json_and_knows_every_stage() -> None:
    schema = json.loads(json_schema())
    assert {"dataset", "base", "validate", "train_encoder", "methods"} <= schema["properties"].keys()
    assert "described" not in schema["properties"]
    assert "moco" in json.loads(json_schema(of_method=True))["discriminator"]["mapping"]
