"""The page in headless Chromium: what its tests do there."""

import time
from pathlib import Path
from typing import Any

OTHER_NAME = "asr.example"  # of this machine, to the browser alone: a name that is not a secure context
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --window-size=1200,1200 --use-fake-ui-for-media-stream
--use-fake-device-for-media-stream"""


def other_name(url: str) -> str:
    return url.replace("127.0.0.1", OTHER_NAME)


def element(browser: Any, name: str) -> Any:
    return browser.find_element("id", name)


def wait_for(browser: Any, text: str, name: str = "status") -> None:
    until = time.monotonic() + 20
    while text not in element(browser, name).text:
        assert time.monotonic() < until, element(browser, name).text
        time.sleep(0.05)


def give(browser: Any, folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    element(browser, "file").send_keys(str(folder / name))
