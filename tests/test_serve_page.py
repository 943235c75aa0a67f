"""The page, driven in headless Chromium: it shows what the server answers and asks no other host."""

import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.serving import NUM_PDFS, chirp, running_server, wav, write_model

selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium")
CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="needs chromium and chromedriver"),
    pytest.mark.filterwarnings("ignore"),
]

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --window-size=1200,1200 --use-fake-ui-for-media-stream
--use-fake-device-for-media-stream"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(write_model(tmp_path_factory.mktemp("page") / "tiny.onnx")) as (url, _):
        yield url


@pytest.fixture
def browser(url: str, tmp_path: Path) -> Iterator[Any]:
    options = selenium.ChromeOptions()
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path}/profile"]:
        options.add_argument(flag)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    browser.get(url)
    yield browser
    complaints = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    browser.quit()
    assert not [line for line in complaints if "415" not in line]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert f"{url}/" in asked
    ours = (url, f"blob:{url}", "data:", "chrome")  # chrome: the browser's own page, before ours
    assert [address for address in asked if not address.startswith(ours)] == []


def element(browser: Any, name: str) -> Any:
    return browser.find_element("id", name)


def wait_for(browser: Any, text: str) -> None:
    until = time.monotonic() + 20
    while text not in element(browser, "status").text:
        assert time.monotonic() < until, element(browser, "status").text
        time.sleep(0.05)


def test_a_file_is_drawn_as_the_server_scores_it(browser, url, tmp_path):
    data = wav(chirp(1.0))
    (tmp_path / "chirp.wav").write_bytes(data)
    element(browser, "file").send_keys(str(tmp_path / "chirp.wav"))
    wait_for(browser, f"chirp.wav: 98 frames, {NUM_PDFS} pdfs.")
    answer = httpx.post(
        f"{url}/v1/posteriors",
        params={"output": "posterior"},
        content=data,
        headers={"accept": "application/x-npy"},
    )
    scores = np.load(io.BytesIO(answer.content))
    slider = element(browser, "timeline")
    browser.execute_script("arguments[0].value = 0.5; arguments[0].dispatchEvent(new Event('input'))", slider)
    first, score = element(browser, "at").find_element("tag name", "tr").text.split()
    assert int(first) == scores[50].argmax()
    assert float(score) == pytest.approx(scores[50].max(), abs=1e-4)
    assert browser.execute_script("return document.getElementById('heat').width") == 98
    cursor = browser.find_element("css selector", "#heat + .cursor").get_attribute("style")
    assert "left: 51" in cursor
    assert element(browser, "download").get_attribute("download") == "chirp.posterior.npy"


def test_the_keyboard_alone_moves_the_cursor_and_plays(browser, tmp_path):
    (tmp_path / "chirp.wav").write_bytes(wav(chirp(1.0)))
    element(browser, "file").send_keys(str(tmp_path / "chirp.wav"))
    wait_for(browser, "98 frames")
    element(browser, "timeline").send_keys("\ue014\ue014\ue014")  # right arrow
    assert element(browser, "time").text == "0.03 s of 0.98 s"
    assert element(browser, "timeline").get_attribute("aria-valuetext") == "0.03 seconds"
    element(browser, "play").send_keys(" ")
    time.sleep(0.5)
    assert float(element(browser, "time").text.split()[0]) > 0.1


def test_recording_is_answered(browser):
    element(browser, "record").click()
    wait_for(browser, "Recording")
    assert element(browser, "record").get_attribute("aria-pressed") == "true"
    time.sleep(0.7)
    element(browser, "record").click()
    wait_for(browser, "recording.wav:")


def test_what_is_not_audio_is_explained(browser, tmp_path):
    (tmp_path / "notes.wav").write_bytes(b"not audio")
    element(browser, "file").send_keys(str(tmp_path / "notes.wav"))
    wait_for(browser, "That did not work: the body is not in an audio format")


def test_the_documentation_lists_the_operations(browser, url):
    browser.get(f"{url}/docs")
    until = time.monotonic() + 10
    while "/v1/posteriors" not in browser.find_element("id", "operations").text:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert "X-Admin-Token" in browser.find_element("id", "description").text
    assert "X-API-Key" in browser.find_element("id", "curl").text
    for summary in browser.find_elements("tag name", "summary"):
        browser.execute_script("arguments[0].parentElement.open = true", summary)
        text = summary.find_element("xpath", "..").text
        expected = "admin token" if "/repository/models/" in summary.text else "Needs no key."
        assert expected in text
