"""Memory of a server that runs for long: one arena, and what was freed goes back to the system."""

import re
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve.app import create_app
from serve.service import lifecycle
from serve.settings import load_settings
from tests.helpers.serving import running_server, wait_until, write_model

_HEAP_BYTES = 64 << 20
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) 00000000 00:00 0 *\n")


def arenas_of(pid: int) -> int:
    """Count a process's arenas beside the first: each reserves 64 MB, aligned, and opens a part of it."""
    mappings = _MAPPING.findall(Path(f"/proc/{pid}/maps").read_text())
    spans = [(int(begin, 16), int(end, 16), rights) for begin, end, rights in mappings]
    return sum(
        opened[2] == "rw-p" and kept[2] == "---p" and kept[1] - opened[0] == _HEAP_BYTES
        for opened, kept in zip(spans, spans[1:], strict=False)
        if opened[0] % _HEAP_BYTES == 0 and opened[1] == kept[0]
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
@pytest.mark.parametrize("processes", ["1", "2"])
def test_all_threads_of_a_server_share_one_arena(tmp_path, processes):
    model = write_model(tmp_path / "model.onnx")
    with running_server(model, "--processes", processes) as (url, process):
        wait_until(f"{url}/readyz")
        pids = [process.pid]
        if processes != "1":
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            pids = [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
        assert pids
        assert [arenas_of(pid) for pid in pids] == [0] * len(pids)


def test_what_was_freed_is_given_back_again_and_again(tmp_path, monkeypatch):
    given_back = []
    monkeypatch.setattr(lifecycle, "_GIVE_BACK_S", 0.01)
    monkeypatch.setattr(lifecycle, "give_back_freed_memory", lambda: given_back.append(True))
    model = write_model(tmp_path / "model.onnx")
    with TestClient(create_app(load_settings(model=model, device="cpu", audio_processes=1))) as client:
        while len(given_back) < 2:
            assert client.get("/healthz").status_code == 200
