"""The Dockerfile, kept honest without Docker: its install commands run in a fresh virtual environment, its
start command and health check run in its environment, and a request is answered."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.helpers.serving import ROOT, chirp, wav, write_model

Instruction = tuple[str, str]


def read_dockerfile() -> list[Instruction]:
    """(instruction, argument) pairs, continuation lines joined, comments dropped."""
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    kept = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in kept]


def arguments(name: str) -> list[str]:
    return [argument for instruction, argument in read_dockerfile() if instruction == name]


def environment(kind: str) -> dict[str, str]:
    pairs = (item.partition("=") for line in arguments(kind) for item in shlex.split(line))
    return {name: value for name, _, value in pairs}


def exec_form(argument: str) -> list[str]:
    command = json.loads(argument[argument.index("[") :])
    assert isinstance(command, list)
    return command


def test_it_runs_as_another_user_than_root_and_checks_its_health():
    instructions = [name for name, _ in read_dockerfile()]
    (user,) = arguments("USER")
    assert user not in ("root", "0")
    assert any("useradd" in command and user in command for command in arguments("RUN"))
    assert instructions.index("USER") < instructions.index("CMD")
    assert "HEALTHCHECK" in instructions
    assert any("onnxruntime-gpu" in line for line in (ROOT / "Dockerfile").read_text().splitlines())


def test_everything_it_copies_is_in_the_build_context():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for argument in arguments("COPY"):
        for source in argument.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in allowed, source


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment in which the image's install commands have run."""
    folder = tmp_path_factory.mktemp("image")
    source = folder / "src"
    for argument in arguments("COPY"):
        *names, target = argument.split()
        for name in names:
            destination = source / (name if target == "./" else target)
            destination.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, destination, dirs_exist_ok=True)
            else:
                shutil.copyfile(ROOT / name, destination)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    programs = folder / "venv" / "bin"
    given = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    given |= environment("ARG") | {"PATH": f"{programs}:{os.environ['PATH']}"}
    for command in arguments("RUN"):
        if command.startswith("pip "):
            # The image keeps no downloads; this machine may have them already.
            done = subprocess.run(
                ["bash", "-c", command.replace("--no-cache-dir", "--disable-pip-version-check -q")],
                cwd=source,
                env=given,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
    return programs


def test_the_start_command_serves_without_torch(installed: Path, tmp_path: Path):
    model = write_model(tmp_path / "model.onnx")
    given = {"PATH": f"{installed}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    given |= environment("ENV") | {"ASR_BN_MODEL": str(model), "ASR_BN_PORT": "0", "ASR_BN_HOST": "127.0.0.1"}
    assert subprocess.run([installed / "python", "-c", "import torch"], capture_output=True).returncode != 0
    (start,) = arguments("CMD")
    server = subprocess.Popen(exec_form(start), env=given, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        ready = server.stdout.readline()
        found = re.search(r"ready at (http://\S+):(\d+)", ready)
        assert found, ready
        (health,) = arguments("HEALTHCHECK")
        check = exec_form(health.partition("CMD")[2])
        assert subprocess.run(check, env=given | {"ASR_BN_PORT": found[2]}).returncode == 0
        assert subprocess.run(check, env=given | {"ASR_BN_PORT": "1"}, capture_output=True).returncode != 0
        request = urllib.request.Request(f"{found[1]}:{found[2]}/v1/posteriors?top_k=1", data=wav(chirp()))
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["num_frames"] == 48
        started = time.monotonic()
        server.terminate()
        server.wait(timeout=20)
        assert time.monotonic() - started < 10
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
