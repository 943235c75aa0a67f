"""The lowest versions that are allowed: the same everywhere, and none with a hole that is known."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.helpers.serving import ROOT

# The first version without it (OSV, GitHub's advisories, ONNX Runtime's release notes), or that starts.
FIRST_SOUND = {
    "jinja2": ("3.1.6", "GHSA-cpwx-vrp4-4pq7: out of the sandbox"),
    "onnx": ("1.21.0", "CVE-2026-27489, CVE-2026-34447: external data read files anywhere"),
    "onnxruntime": ("1.27.0", "external data of sparse tensors were not checked"),
    "onnxruntime-gpu": ("1.27.0", "the same"),
    "orjson": ("3.11.6", "CVE-2025-67221: recursion without a bound"),
    "python-multipart": (
        "0.0.31",
        "GHSA-pp6c-gr5w-3c5g, CVE-2026-40347, CVE-2026-53540: endless heads of parts",
    ),
    "starlette": (
        "1.3.1",
        "CVE-2025-62727, CVE-2026-48710, CVE-2026-54282, CVE-2026-54283: ranges, Host, forms",
    ),
    "tqdm": ("4.66.3", "CVE-2024-34062: options evaluated as code"),
    "uvicorn": (
        "0.53.0",
        "before 0.51 serve.server cannot import what it needs; 0.53 says connection: close",
    ),
}


def floors(lines: list[str]) -> dict[str, Version]:
    found = {}
    for requirement in map(Requirement, lines):
        (bound,) = requirement.specifier
        assert bound.operator == ">=", requirement
        found[requirement.name] = Version(bound.version)
    return found


def of_the_package() -> dict[str, Version]:
    return floors(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])


def of_the_image() -> dict[str, Version]:
    lines = (ROOT / "serve/requirements.txt").read_text().splitlines()
    (runtime,) = re.findall(r'^ARG ONNXRUNTIME="(.*)"$', (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return floors([line for line in [*lines, runtime] if not line.startswith("#")])


def test_image_and_package_agree():
    package = of_the_package()
    assert of_the_image().items() <= package.items()


@pytest.mark.parametrize("name", FIRST_SOUND)
def test_no_known_hole_is_allowed(name):
    assert of_the_package()[name] >= Version(FIRST_SOUND[name][0]), FIRST_SOUND[name][1]
