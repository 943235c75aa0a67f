"""A server, and a browser that shows its page and asks no other host."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.page import FLAGS, other_name
from tests.helpers.serving import running_server, write_model


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[str]:
    write = getattr(request, "param", write_model)
    written = write(tmp_path_factory.mktemp("page") / "tiny.onnx")
    model, *options = written if isinstance(written, tuple) else (written,)
    with running_server(model, *options) as (url, _):
        yield url


@pytest.fixture
def locked_url(tmp_path: Path) -> Iterator[str]:
    """A server that wants a key."""
    (tmp_path / "keys").write_text("sesame\n")
    model = write_model(tmp_path / "tiny.onnx")
    with running_server(model, ASR_BN_API_KEYS_FILE=str(tmp_path / "keys")) as (url, _):
        yield url


@pytest.fixture
def flags() -> list[str]:
    return FLAGS.split()


@pytest.fixture
def browser(request: pytest.FixtureRequest, url: str, flags: list[str], tmp_path: Path) -> Iterator[Any]:
    selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver")
    options = selenium.ChromeOptions()
    for flag in [*flags, f"--user-data-dir={tmp_path}/profile"]:
        options.add_argument(flag)
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    browser.get(url)
    yield browser
    complaints = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    browser.quit()
    refused = ("401", "404", "413", "415", "422", "501")  # by the server, and on the page
    assert not [line for line in complaints if not any(f"status of {status}" in line for status in refused)]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert f"{url}/" in asked
    hosts = [url, other_name(url), request.node.funcargs.get("locked_url", url)]
    ours = (*hosts, *(f"blob:{host}" for host in hosts), "data:", "chrome")  # chrome: its first page
    assert [address for address in asked if not address.startswith(ours)] == []
