"""What can be checked of the deployment files without a cluster; they are not run here, and say so."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SECRET = re.compile(r"(password|secret|auth|token|_key)", re.IGNORECASE)


def documents(path: Path) -> list[Any]:
    return [one for one in YAML(typ="safe", pure=True).load_all(path.read_text(encoding="utf-8")) if one]


def containers() -> list[Any]:
    manifests = documents(DEPLOY / "kubernetes" / "discern.yaml")
    pods = [m["spec"]["template"]["spec"] for m in manifests if m["kind"] == "Deployment"]
    return [container for pod in pods for container in pod["containers"]]


def test_prefect_takes_its_file_and_the_flows_take_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.cli.deploy._models import PrefectYamlModel

    monkeypatch.chdir(ROOT)
    (raw,) = documents(ROOT / "prefect.yaml")
    model = PrefectYamlModel.model_validate(raw)
    assert [d.name for d in model.deployments] == ["process", "docker", "kubernetes"]
    for deployment in model.deployments:
        assert deployment.entrypoint is not None
        module, _, name = deployment.entrypoint.rpartition(".")
        flow = getattr(importlib.import_module(module), name)
        flow.validate_parameters(deployment.parameters or {})
        assert deployment.name == "process" or "untested" in (deployment.tags or [])


def test_compose_binds_to_loopback_and_asks_for_every_password() -> None:
    (compose,) = documents(DEPLOY / "compose.yaml")
    text = (DEPLOY / "compose.yaml").read_text()
    for name, service in compose["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        for key, value in service.get("environment", {}).items():
            assert not SECRET.search(key) or re.match(r"\$\{\w+", str(value)), f"{name}: {key} stands in the file"
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        used = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        assert {volume for volume in used if "/" not in volume} <= set(compose["volumes"])
    used = set(re.findall(r"\$\{(\w+)", text))
    demanded = set(re.findall(r"\$\{(\w+):\?", text))
    assert used == demanded, "a variable that is not set must stop compose, not become empty"
    assert set(re.findall(r"[A-Z0-9_]+(?=,| and| in \.env)", text.splitlines()[1])) == demanded


def test_manifests_hold_no_secret_and_fit_together() -> None:
    manifests = documents(DEPLOY / "kubernetes" / "discern.yaml")
    names = {(m["kind"], m["metadata"]["name"]) for m in manifests}
    for manifest in manifests:
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "discern"
        if manifest["kind"] == "Deployment":
            labels = manifest["spec"]["template"]["metadata"]["labels"]
            assert manifest["spec"]["selector"]["matchLabels"].items() <= labels.items()
            assert manifest["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]
        if manifest["kind"] == "Service":
            assert ("Deployment", manifest["spec"]["selector"]["app"]) in names
    for container in containers():
        assert container["resources"]["limits"]["memory"]
        for variable in container["env"]:
            assert "valueFrom" in variable or not SECRET.search(variable["name"]), variable["name"]


def test_whatever_starts_a_server_is_a_command_of_the_lock() -> None:
    (compose,) = documents(DEPLOY / "compose.yaml")
    commands = [
        service["command"] for service in compose["services"].values() if service.get("image") == "discern"
    ]
    started = {command.split()[0] for command in commands} | {c["command"][0] for c in containers()}
    assert started == {"mlflow", "prefect"}


def test_what_was_not_run_says_so() -> None:
    for path in (DEPLOY / "compose.yaml", DEPLOY / "kubernetes" / "discern.yaml"):
        assert "Not run by the project's tests" in path.read_text()
    assert "not built by the project's tests" in (DEPLOY / "Dockerfile").read_text()
