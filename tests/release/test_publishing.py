"""What a release holds, and the workflows that test and publish it."""

import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.serving import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
# What is in no release: settings of the repository, and what git keeps as it is.
NOT_RELEASED = re.compile(r"\.(ci|github)/|\.gitignore$|\.gitattributes$")


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not in a git repository")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel and a source archive of the tracked files."""
    folder = tmp_path_factory.mktemp("release")
    for name in tracked:
        (folder / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / "src" / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "src"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


def test_the_wheel_holds_every_file_of_the_packages(tracked: list[str], built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    needed = {name for name in tracked if name.startswith(("asr_bn/", "serve/"))} - {"serve/requirements.txt"}
    assert needed - names == set()
    assert {name.split("/")[0] for name in names} == {"asr_bn", "serve", "asr_bn-0.1.0.dist-info"}


def test_the_source_holds_every_file(tracked: list[str], built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    assert {name for name in tracked if not NOT_RELEASED.search(name)} - names == set()


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_pin_their_actions_and_call_what_exists(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert all(("uses" in step) != ("run" in step) for step in steps(workflow))
    assert len(PINNED.findall(path.read_text())) == sum("uses" in step for step in steps(workflow))
    called = [name for step in steps(workflow) for name in re.findall(r"^bash (\S+)", step.get("run", ""))]
    assert called and all((ROOT / name).is_file() for name in called)
    needed = [job["needs"] for job in workflow["jobs"].values() if "needs" in job]
    assert set(needed) <= workflow["jobs"].keys()


def test_every_python_that_is_promised_is_tested() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    promised = re.findall(r'"Programming Language :: Python :: ([\d.]+)"', project)
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    assert workflow["jobs"]["check"]["strategy"]["matrix"]["python"] == promised
    assert f'requires-python = ">={promised[0]},<3.{int(promised[-1].split(".")[1]) + 1}"' in project


def test_publishing_attests_and_needs_no_password() -> None:
    text = (ROOT / ".github/workflows/publish.yml").read_text()
    publish = yaml.safe_load(text)["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["steps"][-1]["with"]["attestations"] is True
    assert "secrets." not in text and "password:" not in text
    (made,) = re.findall(r"--output-file (\S+)", (ROOT / "scripts/build_release.sh").read_text())
    assert f"sbom-path: {made}\n" in text


def test_the_licence_of_every_dependency_is_listed() -> None:
    script = runpy.run_path(str(ROOT / "scripts/licences.py"))
    listed = script["listed"]()
    assert listed.keys() == script["requirements"]().keys()
    assert all(licence not in ("", "not installed", "None") for licence in listed.values())


def test_what_asr_bn_itself_needs_is_open_source() -> None:
    """kaldiio's licence allows evaluation alone: only tests and benchmarks use it."""
    script = runpy.run_path(str(ROOT / "scripts/licences.py"))
    needed = {name for name, groups in script["requirements"]().items() if "asr-bn" in groups.split(", ")}
    assert needed and not [name for name in needed if "not " in script["listed"]()[name]]
