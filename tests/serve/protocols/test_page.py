"""The page, driven in headless Chromium: it shows what the server answers and asks no other host."""

import io
import time

import httpx
import numpy as np
import pytest

from tests.helpers.page import FLAGS, OTHER_NAME, element, give, other_name, wait_for
from tests.helpers.serving import NUM_PDFS, chirp, wav

pytestmark = pytest.mark.filterwarnings("ignore")


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


def test_playback_ends_at_the_last_frame_and_the_button_says_play(browser, tmp_path):
    give(browser, tmp_path, "chirp.wav", wav(chirp(0.5)))
    wait_for(browser, "48 frames")
    for _ in range(3):
        element(browser, "play").click()
        wait_for(browser, "Pause", name="play")
        wait_for(browser, "Play", name="play")
        assert element(browser, "time").text == "0.48 s of 0.48 s"


def test_the_newest_of_two_files_is_shown_as_a_whole(browser, tmp_path):
    give(browser, tmp_path, "long.wav", wav(chirp(60.0)))
    give(browser, tmp_path, "short.wav", wav(chirp(1.0)))
    wait_for(browser, "short.wav: 98 frames")
    give(browser, tmp_path, "long.wav", wav(chirp(60.0)))
    give(browser, tmp_path, "short.wav", b"not audio")
    wait_for(browser, "That did not work")
    time.sleep(2)  # the long file's answers would have come by now
    assert "That did not work" in element(browser, "status").text
    assert not element(browser, "result").is_displayed()
    give(browser, tmp_path, "short.wav", wav(chirp(1.0)))  # the same name again
    wait_for(browser, "short.wav: 98 frames")
    assert element(browser, "name").text == "short.wav"
    assert element(browser, "download").get_attribute("download") == "short.posterior.npy"
    assert element(browser, "time").text == "0.00 s of 0.98 s"
    assert browser.execute_script("return document.getElementById('spectrogram').width") == 98


def test_of_a_stereo_file_a_channel_is_chosen(browser, url, tmp_path):
    left, right = chirp(1.0), chirp(1.0)[::-1]
    data = wav(np.stack([left, right], axis=1))
    give(browser, tmp_path, "stereo.wav", data)
    wait_for(browser, "stereo.wav, channel 0: 98 frames")
    box = element(browser, "channel")
    browser.execute_script("arguments[0].value = 1; arguments[0].dispatchEvent(new Event('change'))", box)
    wait_for(browser, "stereo.wav, channel 1: 98 frames")
    answer = httpx.post(
        f"{url}/v1/posteriors",
        params={"channel": 1},
        content=data,
        headers={"accept": "application/x-npy"},
    )
    best = np.load(io.BytesIO(answer.content))[0].argmax()
    assert element(browser, "at").find_element("tag name", "tr").text.split()[0] == str(best)
    give(browser, tmp_path, "mono.wav", wav(chirp(1.0)))
    wait_for(browser, "mono.wav: 98 frames")
    assert not box.is_displayed()


def test_the_sample_is_scored_by_a_click(browser):
    element(browser, "sample").click()
    wait_for(browser, "sample.flac: ")


def test_a_file_chosen_while_the_sample_is_loaded_is_the_newest(browser, tmp_path):
    """The sample is slow to come: it was asked for first."""
    browser.execute_script(
        """
        const fetchNow = window.fetch;
        window.fetch = async (path, options) => {
            const answer = await fetchNow(path, options);
            if (!String(path).includes("sample")) return answer;
            await new Promise((go) => { window.letSampleCome = go; });
            window.sampleCame = true;
            return answer;
        };
        """
    )
    element(browser, "sample").click()
    until = time.monotonic() + 20
    while not browser.execute_script("return Boolean(window.letSampleCome)"):
        assert time.monotonic() < until
    give(browser, tmp_path, "short.wav", wav(chirp(1.0)))
    wait_for(browser, "short.wav: 98 frames")
    browser.execute_script("window.letSampleCome()")
    time.sleep(1)
    assert browser.execute_script("return window.sampleCame")
    assert "short.wav: 98 frames" in element(browser, "status").text


def test_a_sample_that_does_not_come_is_told(browser):
    browser.execute_script("const now = fetch; window.fetch = (path, options) => now(`no/${path}`, options)")
    element(browser, "sample").click()
    wait_for(browser, "That did not work: the server answered 404")


def test_a_key_is_asked_for_and_the_enter_key_sends_it(browser, locked_url, tmp_path):
    browser.get(locked_url)
    assert not element(browser, "key").is_displayed()
    give(browser, tmp_path, "chirp.wav", wav(chirp(1.0)))
    wait_for(browser, "That did not work: a key is needed")
    element(browser, "key").send_keys("wrong\n")
    time.sleep(1)
    wait_for(browser, "That did not work: a key is needed")
    element(browser, "key").clear()
    element(browser, "key").send_keys("sesame\n")
    wait_for(browser, "chirp.wav: 98 frames")
    assert browser.current_url == f"{locked_url}/"  # the key is in no address


def test_a_file_that_the_browser_cannot_play_is_told(browser, tmp_path):
    give(browser, tmp_path, "chirp.wav", wav(chirp(1.0)))
    wait_for(browser, "98 frames")
    browser.execute_script("HTMLMediaElement.prototype.play = () => Promise.reject(Error('no decoder'))")
    element(browser, "play").click()
    wait_for(browser, "This browser cannot play it: no decoder")
    assert element(browser, "play").text == "Play"


def test_a_file_beyond_the_servers_bound_is_refused_in_its_words(browser, tmp_path):
    give(browser, tmp_path, "long.wav", wav(chirp(1.0)) + b"\0" * (40 << 20))
    wait_for(browser, "That did not work: the body is larger than")


def test_hostile_and_long_names_are_text_and_fit_a_narrow_window(browser, tmp_path):
    name = "<img src=x onerror=document.title='owned'>" + 150 * "W" + ".wav"
    browser.set_window_size(500, 800)
    device = {"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    give(browser, tmp_path, name, wav(chirp(1.0)))
    wait_for(browser, "98 frames")
    assert element(browser, "name").text == name
    assert browser.title != "owned"
    assert not browser.find_elements("css selector", "main img")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 320


def test_frames_beyond_a_canvas_are_drawn_some_together(browser):
    """A canvas of more than 65,535 columns shows nothing in Chromium; the first and last frame are there."""
    drawn = browser.execute_async_script(
        """
        const done = arguments[0];
        import("/static/plots.js").then(({ drawHeat, spread }) => {
            const matrix = { rows: 200000, columns: 2, values: new Float32Array(400000) };
            matrix.values.fill(1, 200000);
            const canvas = document.createElement("canvas");
            drawHeat(canvas, matrix, [0, 1], 0, 1, 8);
            const at = (x) => [...canvas.getContext("2d").getImageData(x, 0, 1, 1).data];
            done([canvas.width, at(0), at(canvas.width - 1), spread(matrix, [0, 1])]);
        });
        """
    )
    width, first, last, limits = drawn
    assert 1000 < width < 1 << 15
    assert first == [13, 8, 60, 255]
    assert last == [252, 255, 200, 255]
    assert limits == pytest.approx([0.0, 1.0], abs=1e-6)


@pytest.mark.parametrize("flags", [[*FLAGS.split(), f"--host-resolver-rules=MAP {OTHER_NAME} 127.0.0.1"]])
def test_without_https_the_page_says_why_it_has_no_microphone(browser, url):
    browser.get(other_name(url))
    element(browser, "record").click()
    wait_for(browser, "No microphone: browsers give one only to pages over HTTPS or from localhost")


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
