"""Phones and words on the page, driven in headless Chromium: names, times, and what a click plays."""

import io
import time
from typing import Any

import httpx
import numpy as np
import pytest

from tests.helpers.page import element, give, wait_for
from tests.helpers.searching import TEXTS, speech, write_searchable
from tests.helpers.serving import chirp, wav, write_phone_model

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("url", [write_phone_model], indirect=True)
def test_phones_are_named_at_the_level_that_is_chosen(browser, url, tmp_path):
    data = wav(chirp(1.0))
    give(browser, tmp_path, "chirp.wav", data)
    for level, wanted in (("phone", "158 phones"), ("phone-class", "39 phones"), ("pdf", "72 pdfs")):
        select = element(browser, "level")
        browser.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))",
            select,
            level,
        )
        wait_for(browser, f"chirp.wav: 98 frames, {wanted}.")
        names = httpx.get(f"{url}/v1/names", params={"level": level}).json()["names"]
        answer = httpx.post(
            f"{url}/v1/posteriors",
            params={"level": level},
            content=data,
            headers={"accept": "application/x-npy"},
        )
        best = int(np.load(io.BytesIO(answer.content))[0].argmax())
        name = f"{names[best]} {best}" if level == "pdf" else names[best]
        first = element(browser, "at").find_element("tag name", "td").text
        labels = [label.text for label in browser.find_elements("css selector", "#pdf-axis span")]
        assert first == name
        assert name in labels
        assert not any(label.startswith("pdf") for label in labels)


def find_words(browser: Any, text: str) -> None:
    box = element(browser, "text")
    box.clear()
    box.send_keys(text + "\n")


@pytest.mark.parametrize("url", [write_searchable], indirect=True)
def test_words_and_phones_are_shown_under_the_sound_and_a_click_plays_a_word(browser, url, tmp_path):
    pytest.importorskip("kaldifst", reason="makes a graph")
    give(browser, tmp_path, "u.wav", speech("f1-015"))
    wait_for(browser, "u.wav: 89 frames")
    find_words(browser, TEXTS["f1-015"])
    wait_for(browser, "fits badly", name="found")  # a network that was not trained doubts every text
    found = httpx.post(f"{url}/v1/alignments", params={"text": TEXTS["f1-015"]}, content=speech("f1-015"))
    words, phones = found.json()["words"], found.json()["phones"]
    boxes = browser.find_elements("css selector", "#words button")
    assert [box.text for box in boxes] == [word["word"] for word in words] == ["bring", "my", "chair"]
    drawn = browser.find_elements("css selector", "#phones span")
    assert [box.get_attribute("textContent") for box in drawn] == [phone["phone"] for phone in phones]
    plot = browser.find_element("id", "words").rect
    for box, word in zip(boxes, words, strict=True):
        left, width = (box.rect["x"] - plot["x"]) / plot["width"], box.rect["width"] / plot["width"]
        assert left == pytest.approx(word["start"] / 0.89, abs=0.003)
        assert width == pytest.approx((min(word["end"], 0.89) - word["start"]) / 0.89, abs=0.003)
    browser.execute_script(
        """
        window.labels = [];  // of the button: too soon over for a busy machine to look at
        const button = document.getElementById("play"), options = { childList: true };
        new MutationObserver(() => window.labels.push(button.textContent)).observe(button, options);
        """
    )
    boxes[1].click()
    until = time.monotonic() + 20
    while browser.execute_script("return window.labels") != ["Pause", "Play"]:
        assert time.monotonic() < until
        time.sleep(0.05)
    # It ends with the first picture behind the word's end; a busy browser draws few.
    reached = float(element(browser, "time").text.split()[0])
    assert words[1]["end"] - 0.01 <= reached < words[1]["end"] + 0.3
    element(browser, "transcribe").click()
    wait_for(browser, "no words are found in it", name="found")
    assert not browser.find_elements("css selector", "#words button")
    find_words(browser, "bring zebra")
    wait_for(browser, "That did not work: text: 'zebra': no pronunciation", name="found")
    give(browser, tmp_path, "other.wav", speech("f2-008"))
    wait_for(browser, "other.wav: ")
    assert element(browser, "found").text == ""


def test_a_server_without_lexicon_says_so_where_words_are_asked_for(browser, tmp_path):
    give(browser, tmp_path, "chirp.wav", wav(chirp(1.0)))
    wait_for(browser, "98 frames")
    find_words(browser, "bring my chair")
    wait_for(browser, "this server was started without a lexicon; asr-bn serve MODEL --lang", name="found")
    element(browser, "transcribe").click()
    wait_for(browser, "this server was started without a graph; asr-bn serve MODEL --graph", name="found")
    assert element(browser, "result").is_displayed()
