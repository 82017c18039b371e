"""The data gate: Great Expectations over tables of the manifest; it never reads an image."""

import logging
from dataclasses import dataclass
from typing import Any

import pandas as pd

from discern.data.rules import KEYS, Rule, Severity, rules, tables
from discern.params.pipeline import Validate
from discern.settings import silence_telemetry

_EXAMPLES = 20


@dataclass(frozen=True)
class Finding:
    """What became of a rule; without times and run ids, so that the same data give the same findings.

    Attributes:
        rule: its name.
        table: the table it was checked on.
        severity: `error` or `warning`.
        says: what was expected, in plain words.
        expectation: Great Expectations' name of the check.
        success: whether it held.
        rows: rows looked at.
        broken: rows that break it; 0 for a rule about the number of rows.
        examples: the first of them: their path, class or split, and the value.
    """

    rule: str
    table: str
    severity: Severity
    says: str
    expectation: str
    success: bool
    rows: int
    broken: int
    examples: list[dict[str, Any]]

    @property
    def line(self) -> str:
        """The finding in one line."""
        if not self.broken:
            return f"{self.rule}: {self.says}; found {self.rows} {self.table} ({self.expectation})"
        shown = ", ".join(_shown(example) for example in self.examples[:3])
        return (
            f"{self.rule}: {self.says}; {self.broken} of {self.rows} {self.table} break it, "
            f"e.g. {shown} ({self.expectation})"
        )


def check(files: pd.DataFrame, params: Validate) -> list[Finding]:
    """Check every rule, in the rules' order.

    Args:
        files: the manifest of all files, as `rules.tables` takes it.
        params: the section `validate` of params.yaml.
    """
    # Great Expectations asks for both when it is imported, and sets one module's level by itself.
    silence_telemetry()
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("manifest")
    batches = {}
    for name, table in tables(files, params).items():
        definition = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        batches[name] = definition.get_batch(batch_parameters={"dataframe": table})
    findings = []
    for rule in rules(params, labelled=bool(files["label"].notna().any())):
        result = batches[rule.table].validate(
            ExpectationConfiguration(type=rule.expectation, kwargs=rule.arguments).to_domain_obj(),
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [KEYS[rule.table]]},
        )
        findings.append(_finding(rule, result.to_json_dict()))
    return findings


def _finding(rule: Rule, result: dict[str, Any]) -> Finding:
    if result["exception_info"].get("raised_exception") is not False:
        # Great Expectations calls a missing column a failed check; here it is a bug, not bad data.
        raise RuntimeError(f"the rule {rule.name} could not be checked: {result['exception_info']}")
    details = result["result"]
    return Finding(
        rule=rule.name,
        table=rule.table,
        severity=rule.severity,
        says=rule.says,
        expectation=rule.expectation,
        success=bool(result["success"]),
        rows=int(details.get("element_count", details.get("observed_value", 0))),
        broken=int(details.get("unexpected_count", 0)),
        examples=(details.get("unexpected_index_list") or [])[:_EXAMPLES],
    )


def _shown(example: dict[str, Any]) -> str:
    """`'class/file.jpg' (column = value)` on one line, whatever the names hold."""
    *columns, key = example  # Great Expectations puts the key last
    values = ", ".join(f"{column} = {str(example[column])[:20]}" for column in columns)
    return " ".join(f"'{example[key]}' ({values})".splitlines())
