"""``deploy/`` and SECURITY.md: readable, and true of this server's settings, metrics, paths and image."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.app import create_app
from serve.service.metrics import Metrics
from serve.settings import ENV_PREFIX, Settings
from tests.helpers.serving import ROOT, write_model

MANIFESTS = sorted((ROOT / "deploy").glob("*.yaml"))
DASHBOARD = ROOT / "deploy/grafana.json"
# A path inside a container; what KServe puts in the place of its own names.
FILE_SETTINGS = ("model", "api_keys_file", "admin_token_file")
KSERVE = {"{{.Name}}": "mini"}


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def found(node: Any, key: str) -> Iterator[Any]:
    """Every value of ``key``, wherever it is."""
    if isinstance(node, dict):
        yield from (value for name, value in node.items() if name == key)
        for value in node.values():
            yield from found(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from found(value, key)


def environments(path: Path) -> Iterator[dict[str, str]]:
    """Of every container."""
    for document in documents(path):
        yield from found(document, "environment")
        for listed in found(document, "env"):
            yield {item["name"]: item["value"] for item in listed}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_settings_exist_and_have_good_values(path):
    (given,) = environments(path)
    image = dict(re.findall(r"(ASR_BN_[A-Z_]+)=(\S+)", (ROOT / "Dockerfile").read_text()))
    values = {name.removeprefix(ENV_PREFIX).lower(): value for name, value in (image | given).items()}
    assert values.keys() <= Settings.model_fields.keys()
    settings = Settings.model_validate(
        {name: KSERVE.get(str(value), value) for name, value in values.items()}
    )
    assert settings.host == "0.0.0.0"
    for name in values.keys() & set(FILE_SETTINGS):
        assert Path(values[name]).is_absolute()


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_threads_memory_and_time_fit(path):
    """Memory: all that the decoders may take, and 2 GB for the server, its model and answers."""
    (given,) = environments(path)
    settings = Settings.model_validate(
        {
            name.removeprefix(ENV_PREFIX).lower(): KSERVE.get(str(value), value)
            for name, value in given.items()
        }
        | {"model": "x"}
    )
    whole = documents(path)
    cores = [int(limits["cpu"]) for limits in found(whole, "limits")] + list(found(whole, "cpus"))
    memory = [limits["memory"] for limits in found(whole, "limits")] + list(found(whole, "mem_limit"))
    assert cores == [settings.num_threads] == [settings.audio_processes]
    gib = int(re.fullmatch(r"(\d+)(Gi|g)", memory[0])[1])
    assert gib << 30 >= settings.audio_processes * settings.decode_memory_bytes + (2 << 30)
    times = [*found(whole, "terminationGracePeriodSeconds")]
    times += [int(text.removesuffix("s")) for text in found(whole, "stop_grace_period")]
    assert all(seconds >= settings.shutdown_delay_s + settings.grace_s + 5 for seconds in times)
    assert len(times) == 1


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_paths_ports_and_users_are_those_of_the_server_and_its_image(path, tmp_path):
    app = create_app(Settings(model=write_model(tmp_path / "tiny.onnx")))
    app.state.service.audio_workers.close()
    routes = app.openapi()["paths"].keys()
    (given,) = environments(path)
    port = int(given.get("ASR_BN_PORT", "8000"))
    whole = documents(path)
    probes = list(found(whole, "httpGet"))
    assert all(probe["path"] in routes and probe["port"] in ("http", port) for probe in probes)
    assert all(listed == port for listed in found(whole, "containerPort"))
    for annotations in found(whole, "annotations"):
        assert {value for name, value in annotations.items() if "prometheus" in name} <= {
            "true",
            str(port),
            "/metrics",
        }
    uid = re.search(r"--uid (\d+)", (ROOT / "Dockerfile").read_text())
    assert uid and all(user == int(uid[1]) for user in found(whole, "runAsUser"))
    mounted = [mount["mountPath"] for mounts in found(whole, "volumeMounts") for mount in mounts]
    if mounted:
        needed = [given[name] for name in ("ASR_BN_MODEL", "ASR_BN_API_KEYS_FILE")]
        assert all(any(name.startswith(folder) for folder in mounted) for name in needed)


def samples() -> dict[str, set[str]]:
    """The labels of everything that the server counts, by the names that Prometheus has."""
    metrics = Metrics()
    metrics.begin_request()
    metrics.end_request("/", 200, 0.1)
    families = list(metrics.registry.collect())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def test_the_dashboard_shows_what_the_server_counts():
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    known, shown = samples(), set()
    for expression in found(panels, "expr"):
        names = re.findall(r"\basr_bn_\w+", expression)
        labels = set(re.findall(r'(\w+)=~?"', expression))
        labels |= {
            label for listed in re.findall(r"by \(([^)]*)\)", expression) for label in listed.split(", ")
        }
        assert names and set(names) <= known.keys(), expression
        assert all(labels <= known[name] for name in names if "{" in expression or "by (" in expression), (
            expression
        )
        assert expression.count("(") == expression.count(")")
        shown |= {re.sub("_(bucket|sum|count|total)$", "", name) for name in names}
    assert shown == {re.sub("_(bucket|sum|count|total|created)$", "", name) for name in known}


def test_what_security_md_names_exists():
    text = (ROOT / "SECURITY.md").read_text()
    settings = set(re.findall(r"\bASR_BN_([A-Z_]+)\b", text))
    assert settings
    assert {name.lower() for name in settings} <= Settings.model_fields.keys()
    named = set(re.findall(r"`((?:tests|serve|deploy|asr_bn)/[\w./-]+)`", text))
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / name).exists()]
    assert set(re.findall(r"\basr_bn_[a-z_]+_total\b", text)) <= samples().keys()
