"""Errors of params.yaml name the file, the key, the value and what is allowed."""

import json
import re
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
        load_text(text, name="params.yaml")
    for part in ["params.yaml: ", *expected]:
        assert part in str(error.value)


def test_file_that_is_missing_or_not_yaml(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="no such file"):
        load(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match="not valid YAML"):
        load_text("a: [1,\nb: }")
    with pytest.raises(ParamsError, match="expected a mapping"):
        load_text("- 1\n- 2\n")


def test_control_must_differ_in_dims_only() -> None:
    text = TEXT.replace("controls: [continue]", "controls: [continue, random_dims]")
    assert load_text(text).methods.controls == ["continue", "random_dims"]
    with pytest.raises(ParamsError, match=r"train_control\.random_dims: .* must equal the top-level ones"):
        load_text(text.replace("pair_weight: 1.0", "pair_weight: 0.5", 1))


def test_numbers_are_read_as_dvc_reads_them() -> None:
    # PyYAML would take 1e-3 for a string, and DVC not: the two would disagree about what is in the file.
    assert load_text(TEXT.replace("decoder_lr: 1.0e-3", "decoder_lr: 1e-3")).pretrain_decoder.decoder_lr == 0.001


def test_schema_is_json_and_knows_every_stage() -> None:
    schema = json.loads(json_schema())
    assert {"dataset", "base", "validate", "train_encoder", "methods"} <= schema["properties"].keys()
