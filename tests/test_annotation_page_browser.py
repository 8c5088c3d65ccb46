"""The page of an annotation in headless Chromium, from disk, by clicks and keys."""

import copy

import pytest

from emojax.annotation.page import audio_data_uri, render_annotation_page
from tests.annotation_page_browser import PageDriver, start_browser
from tests.annotation_page_examples import long_annotation, tiny_annotation, write_silence

SECONDS = 300.0
EXAMPLE = long_annotation(segments=60, words=12, seconds=SECONDS)
SEGMENTS = EXAMPLE["segments"]


IN_LIST = """
const [row, list] = [arguments[0], document.getElementById('rows')].map((box) => box.getBoundingClientRect());
return row.top >= list.top - 1 && row.bottom <= list.bottom + 1;
"""
PLOT = "return document.querySelector('#plot canvas').toDataURL()"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = start_browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    write_silence(folder / "interview.wav", SECONDS)
    (folder / "page.html").write_text(render_annotation_page(EXAMPLE, "interview.wav"), encoding="utf-8")
    return folder


@pytest.fixture
def page(browser, folder):
    page = PageDriver(browser).open(folder / "page.html")
    page.until(lambda: page.run("return document.getElementById('audio').readyState > 0"))
    yield page
    assert page.problems() == []


def middle(segment):
    return (segment["start"] + segment["end"]) / 2


def seconds(clock):
    """Position of the clock '1:05.2 / 5:00'."""
    minutes, rest = clock.split(" / ")[0].split(":")
    return 60 * int(minutes) + float(rest)


def test_play_and_pause_by_button_and_key(page):
    assert page.find("#play").get_attribute("aria-label") == "Play"
    page.click("#play")
    page.until(lambda: page.time() > 0.3)
    assert page.find("#play").get_attribute("aria-label") == "Pause"
    page.until(lambda: seconds(page.text("#clock")) > 0.3)
    page.click("#play")
    page.until(lambda: page.find("#play").get_attribute("aria-label") == "Play")
    page.click("#title")
    page.press(" ")
    page.until(lambda: page.find("#play").get_attribute("aria-label") == "Pause")
    page.press("k")
    page.until(lambda: page.find("#play").get_attribute("aria-label") == "Play")


def test_a_click_on_the_waveform_seeks(page):
    page.click("#zoom-all")
    wanted = middle(SEGMENTS[30])
    page.click_at("#plot", wanted / SECONDS, 0.1)
    assert page.time() == pytest.approx(wanted, abs=1)
    assert seconds(page.text("#clock")) == pytest.approx(wanted, abs=1)
    assert float(page.find("#plot").get_attribute("aria-valuenow")) == pytest.approx(wanted, abs=2)
    assert page.find("#plot").get_attribute("aria-valuetext").endswith("of 5:00")
    (row,) = page.all("#rows > [aria-current]")
    assert row.get_attribute("data-index") == "30"
    page.until(lambda: page.run(IN_LIST, row))
    page.click_at("#overview", 0.1)
    assert page.time() == pytest.approx(SECONDS / 10, abs=1)


def test_a_click_on_a_word_seeks_and_marks_it(page):
    word = page.all("#rows > li:nth-child(2) .word")[7]
    expected = SEGMENTS[1]["words"][7]
    assert word.text == expected["word"]
    word.click()
    assert expected["start"] <= page.time() < expected["end"]
    assert page.run("return [...document.querySelectorAll('.word.current')].map(w => w.dataset.word)") == ["7"]
    page.press(".")
    assert [w.get_attribute("data-word") for w in page.all(".word.current")] == ["8"]
    page.press(",")
    page.press(",")
    assert [w.get_attribute("data-word") for w in page.all(".word.current")] == ["6"]
    unsure = [w["word"] for w in SEGMENTS[1]["words"] if w["probability"] < 0.5]
    assert [w.text for w in page.all("#rows > li:nth-child(2) .word.unsure")] == unsure


def test_marks_follow_the_audio_while_it_plays(page):
    page.click("#rows > li:nth-child(3) .time")
    page.click("#play")
    first = page.until(lambda: page.run("return document.querySelector('.word.current')?.dataset.word"))
    page.until(lambda: page.run("return document.querySelector('.word.current')?.dataset.word") not in (first, None))
    page.press("k")
    assert page.find("#rows > [aria-current]").get_attribute("data-index") == "2"


def test_the_transcript_scrolls_to_the_position(page):
    page.run("document.getElementById('rows').scrollTop = 0")
    page.press("End")
    page.press("p")
    page.until(lambda: page.run("return document.getElementById('rows').scrollTop") > 100)
    row = page.find("#rows > [aria-current]")
    page.until(lambda: page.run(IN_LIST, row))


def test_the_quadrant_negative_and_aroused(page):
    expected = [i for i, s in enumerate(SEGMENTS) if s["valence"] <= 4 and s["activation"] >= 4]
    assert 0 < len(expected) < len(SEGMENTS)
    button = page.all("#presets button")[0]
    assert button.text == "negative and aroused"
    button.click()
    assert page.shown_rows() == expected
    assert button.get_attribute("aria-pressed") == "true"
    assert page.text("#shown").startswith(f"{len(expected)} of {len(SEGMENTS)} segments")
    button.click()
    assert page.shown_rows() == list(range(len(SEGMENTS)))


def test_free_thresholds_emotion_speaker_and_text(page):
    low, high = page.all("#ranges fieldset:nth-child(2) input")
    assert low.get_attribute("aria-label") == "valence at least"
    low.send_keys("3.5")
    high.send_keys("4.75")
    kept = {i for i, s in enumerate(SEGMENTS) if 3.5 <= s["valence"] <= 4.75}
    assert page.shown_rows() == sorted(kept)
    chips = page.all("#emotions label")
    chip = next(chip for chip in chips if chip.text.startswith("neutral"))
    chip.click()
    kept &= {i for i, s in enumerate(SEGMENTS) if s["emotion"] == "neutral"}
    assert page.shown_rows() == sorted(kept)
    page.all("#speakers label")[0].click()
    kept &= {i for i, s in enumerate(SEGMENTS) if s["speaker"] == "Ana"}
    assert page.shown_rows() == sorted(kept)
    page.find("#text").send_keys("THAT")
    kept &= {i for i, s in enumerate(SEGMENTS) if "that" in s["transcript"].lower()}
    assert page.shown_rows() == sorted(kept)
    assert kept
    page.find("#text").send_keys("xyz")
    assert page.shown_rows() == []
    assert page.text("#nothing") == "No segment meets the filter."
    page.click("#reset")
    assert page.shown_rows() == list(range(len(SEGMENTS)))
    assert page.find("#text").get_attribute("value") == low.get_attribute("value") == ""


def test_text_that_is_searched_is_marked(page):
    page.find("#text").send_keys("sit down")
    found = "return [...(CSS.highlights.get('found') ?? [])].map(range => range.toString())"
    assert set(page.run(found)) == {"sit down"}
    page.click("#reset")
    assert page.run(found) == []


def test_a_drag_over_a_histogram_selects_a_range(page):
    page.drag("#ranges fieldset:nth-child(1) .histogram", 0.5, 0.75)
    low, high = (float(x.get_attribute("value")) for x in page.all("#ranges fieldset:nth-child(1) input"))
    assert (low, high) == (pytest.approx(4, abs=0.1), pytest.approx(5.5, abs=0.1))
    assert page.shown_rows() == [i for i, s in enumerate(SEGMENTS) if low <= s["activation"] <= high]


def choose(page, selector, label):
    page.run(
        "const select = document.querySelector(arguments[0]);"
        "select.value = [...select.options].find((option) => option.text === arguments[1]).value;"
        "select.dispatchEvent(new Event('change'))",
        selector,
        label,
    )


def current_row(page):
    return int(page.find("#rows > [aria-current]").get_attribute("data-index"))


def test_jumps_to_the_extremes(page):
    for label, value in (
        ("most negative", lambda segment: segment["valence"]),
        ("most active", lambda segment: -segment["activation"]),
        ("most probable anger", lambda segment: -segment["probabilities"]["anger"]),
    ):
        order = sorted(range(len(SEGMENTS)), key=lambda i: (value(SEGMENTS[i]), i))
        choose(page, "#extreme", label)
        assert not page.find("#extreme-previous").is_enabled()
        for rank in (0, 1):
            page.click("#extreme-next")
            assert current_row(page) == order[rank]
            assert page.text("#extreme-found").startswith(f"{rank + 1} of {len(SEGMENTS)}: ")
        page.click("#extreme-previous")
        assert current_row(page) == order[0]
    page.click("#title")
    page.press("e")
    assert current_row(page) == order[1]
    page.press("E")
    assert current_row(page) == order[0]


def test_extremes_are_those_of_the_filter(page):
    page.all("#presets button")[1].click()
    kept = page.shown_rows()
    page.click("#extreme-next")
    expected = min(kept, key=lambda i: SEGMENTS[i]["valence"])
    assert current_row(page) == expected


def test_keys_seek_and_move_between_segments(page):
    from selenium.webdriver.common.keys import Keys

    page.press(Keys.ARROW_RIGHT)
    assert page.time() == pytest.approx(5, abs=0.01)
    page.press(Keys.ARROW_LEFT)
    assert page.time() == pytest.approx(0, abs=0.01)
    page.press("n")
    assert page.time() == pytest.approx(SEGMENTS[0]["start"], abs=0.01)
    page.press("n")
    page.press("n")
    assert page.time() == pytest.approx(SEGMENTS[2]["start"], abs=0.01)
    page.press("p")
    assert page.time() == pytest.approx(SEGMENTS[1]["start"], abs=0.01)
    page.press(Keys.END)
    assert page.time() == pytest.approx(SECONDS, abs=0.01)
    page.press("]")
    assert page.run("return document.getElementById('audio').playbackRate") == 1.25
    page.press("/")
    page.press("n n p 5 ?")
    assert page.find("#text").get_attribute("value") == "n n p 5 ?"
    assert page.time() == pytest.approx(SECONDS, abs=0.01)


def test_help_lists_every_key_and_single_keys_can_be_switched_off(page):
    from selenium.webdriver.common.keys import Keys

    page.press("?")
    assert page.run("return document.getElementById('help').open")
    listed = {key.text for key in page.all("#keys kbd")}
    assert {"Space", "k", "←", "→", "Shift ←", "n", "p", "e", "Shift e", "+", "-", "0", "/", "?"} <= listed
    page.press("n")
    assert page.time() == 0
    page.click("#single-keys")
    page.press(Keys.ESCAPE)
    assert not page.run("return document.getElementById('help').open")
    page.click("#title")
    page.press("n")
    assert page.time() == 0
    page.run("document.getElementById('plot').focus()")
    page.press(Keys.ARROW_RIGHT)
    assert page.time() == pytest.approx(5, abs=0.01)


def test_zoom_and_pan_by_buttons_wheel_and_drag(page):
    start, width = page.view()
    assert (start, width) == (0, pytest.approx(40))
    page.click("#zoom-in")
    page.until(lambda: page.view()[1] == pytest.approx(20))
    page.press("-")
    page.until(lambda: page.view()[1] == pytest.approx(40))
    page.wheel("#plot", -400)
    page.until(lambda: page.view()[1] == pytest.approx(40 * 2.71828**-0.6, rel=1e-3))
    start, width = page.view()
    page.wheel("#plot", 300, shift=True)
    page.until(lambda: page.view()[0] > start + 1)
    start, _ = page.view()
    page.drag("#plot", 0.3, 0.5)
    page.until(lambda: page.view()[0] == pytest.approx(start - 0.2 * width, rel=0.02))
    assert page.time() == 0
    page.press("0")
    page.until(lambda: page.view() == [0, 100])


def test_values_under_the_pointer(page):
    page.click("#zoom-all")
    page.hover("#plot", middle(SEGMENTS[10]) / SECONDS, 0.4)
    lines = page.text("#readout").splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["activation", "valence", "dominance"]
    assert "±" in lines[1]
    assert lines[4] == f"{SEGMENTS[10]['speaker']}, {SEGMENTS[10]['emotion']}"


def test_matching_segments_alone_are_played(page):
    page.find("#text").send_keys("river")
    kept = page.shown_rows()
    assert kept
    assert kept[0] > 0
    page.click("#only-shown")
    page.click("#play")
    page.until(lambda: page.time() >= SEGMENTS[kept[0]]["start"])
    assert page.time() < SEGMENTS[kept[0]]["end"]


def test_rows_are_one_stop_of_the_tab_key(page):
    from selenium.webdriver.common.keys import Keys

    buttons = page.all("#rows .time")
    assert [b.get_attribute("tabindex") for b in buttons].count("0") == 1
    page.run("arguments[0].focus()", buttons[0])
    page.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert page.run("return document.activeElement.closest('li').dataset.index") == "2"
    page.press(Keys.ENTER)
    assert page.time() == pytest.approx(SEGMENTS[2]["start"], abs=0.01)
    unnamed = page.run(
        "const named = (e) => e.labels?.length || e.ariaLabel || e.textContent.trim();"
        "return [...document.querySelectorAll('button, select, input')].filter((e) => !named(e)).map((e) => e.id)"
    )
    assert unnamed == []


def test_the_colours_of_segments_can_be_an_attribute(page):
    assert [item.text for item in page.all("#legend li")][:2] == ["anger", "disgust"]
    choose(page, "#colour", "valence")
    assert [item.text for item in page.all("#legend li")] == ["valence 1.0", "4.0", "7.0"]


def test_light_and_dark_follow_the_system_and_the_button(page):
    ground = "return getComputedStyle(document.body).backgroundColor"
    light, drawn = page.run(ground), page.run(PLOT)
    page.click("#theme")
    page.click("#theme")
    assert page.text("#theme") == "Theme: dark"
    assert page.run(ground) != light
    page.until(lambda: page.run(PLOT) != drawn)
    page.click("#theme")
    assert page.run(ground) == light


def test_phone_width_has_no_horizontal_scroll(browser, folder, page):
    for width in (390, 320):
        metrics = {"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        try:
            page.open(folder / "page.html") if width >= 390 else None
            assert page.run("return [document.documentElement.scrollWidth, innerWidth]") == [width, width]
            page.click("#filter summary")
            assert page.run("return document.documentElement.scrollWidth") == width
        finally:
            metrics = {"width": 1440, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def test_hostile_text_is_shown_and_never_run(page, folder):
    text = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
    hostile = copy.deepcopy(EXAMPLE)
    hostile["file"] = hostile["model"]["name"] = text
    hostile["categories"].append(text)
    hostile["segments"][0] |= {
        "speaker": text,
        "emotion": text,
        "transcript": text,
        "words": [{"word": text, "start": 0, "end": 9}],
    }
    hostile["segments"][0]["probabilities"] = None
    (folder / "hostile.html").write_text(render_annotation_page(hostile, text + ".wav"), encoding="utf-8")
    page.open(folder / "hostile.html")
    name = text.rpartition("/")[2]  # the title is the file's name without folders
    assert page.browser.title == f"{name} – emojax annotation"
    assert page.text("#title") == name
    assert page.text("#rows > li:first-child .word") == text
    assert page.text("#rows > li:first-child .emotion") == text
    assert page.run("return document.querySelectorAll('img').length") == 0
    page.click("#rows > li:first-child .word")
    page.hover("#plot", 0.01)
    page.until(lambda: page.find("#notice").is_displayed())
    assert page.text("#notice-text").startswith(text)
    assert all("ERR_FILE_NOT_FOUND" in problem for problem in page.problems())  # the audio alone


def test_missing_audio_can_be_chosen_and_another_file_is_noticed(page, folder):
    (folder / "moved.html").write_text(render_annotation_page(EXAMPLE, "nothing.wav"), encoding="utf-8")
    page.open(folder / "moved.html")
    page.until(lambda: page.find("#notice").is_displayed())
    assert "is not beside this page" in page.text("#notice-text")
    page.click_at("#plot", 0.5)
    assert seconds(page.text("#clock")) == pytest.approx(60, abs=1)
    page.problems()
    page.find("#file").send_keys(str(folder / "interview.wav"))
    page.until(lambda: page.time() == pytest.approx(60, abs=1))
    assert not page.find("#notice").is_displayed()
    write_silence(folder / "short.wav", 12)
    page.find("#file").send_keys(str(folder / "short.wav"))
    page.until(lambda: "0:12.0 long, the annotation 5:00.0" in page.text("#notice-text"))


def test_embedded_audio_is_played(page, folder):
    write_silence(folder / "beep.wav", 2)
    document = render_annotation_page(tiny_annotation(), audio_data_uri(folder / "beep.wav"))
    (folder / "embedded.html").write_text(document, encoding="utf-8")
    page.open(folder / "embedded.html")
    page.until(lambda: page.run("return document.getElementById('audio').duration") == 2)
    page.click("#play")
    page.until(lambda: page.time() > 0.1)


def test_a_recording_without_anything_optional(page, folder):
    from selenium.webdriver.common.keys import Keys

    write_silence(folder / "beep.wav", 2)
    (folder / "tiny.html").write_text(render_annotation_page(tiny_annotation(), "beep.wav"), encoding="utf-8")
    page.open(folder / "tiny.html")
    assert page.text("#nothing") == "The recording has no segments."
    assert not page.find("#side").is_displayed()
    assert not page.find("#overview").is_displayed()
    for key in ("n", "p", "e", "E", ".", ",", "+", "-", "0", Keys.ARROW_RIGHT):
        page.press(key)
    assert page.time() == pytest.approx(2, abs=0.01)


def test_many_speakers_that_overlap_without_words_or_track(page, folder):
    partial = {**copy.deepcopy(EXAMPLE), "attributes": ["activation"], "categories": [], "track": None}
    for i, segment in enumerate(partial["segments"]):
        segment |= {"speaker": f"S{i % 15:02}", "end": segment["end"] + 5, "emotion": None, "probabilities": None}
        segment |= {
            "words": None,
            "transcript": "só" if i else None,
            "spread": None,
            "activation": 2 + i / 20 if i else None,
        }
    (folder / "partial.html").write_text(render_annotation_page(partial, "interview.wav"), encoding="utf-8")
    page.open(folder / "partial.html")
    lanes = [name.text for name in page.all("#labels .segments .name")]
    assert lanes == [*(f"S{i:02}" for i in range(11)), "other speakers"]
    assert page.text("#rows > li:first-child .text") == "no transcript"
    page.click("#rows > li:nth-child(2) .text")
    assert page.time() == pytest.approx(SEGMENTS[1]["start"], abs=0.01)
    assert current_row(page) == 1  # the first goes on
    assert page.text('#labels [data-attribute="activation"] .value') == "2.05"
    assert [option.text for option in page.all("#extreme option")] == ["most active", "least active"]
    page.click("#extreme-next")
    assert current_row(page) == len(SEGMENTS) - 1
    assert not page.find("#presets").is_displayed()
    assert page.shown_rows() == list(range(len(SEGMENTS)))
    page.all("#ranges input")[0].send_keys("0")
    assert page.shown_rows() == list(range(1, len(SEGMENTS)))  # without a value: in no range


def test_three_hours_and_thirty_thousand_words(page, folder):
    write_silence(folder / "long.wav", 10800)
    (folder / "long.html").write_text(render_annotation_page(long_annotation(), "long.wav"), encoding="utf-8")
    page.open(folder / "long.html")
    assert page.text("#shown").startswith("2,000 segments")
    words = "return document.querySelectorAll('.word').length"
    page.until(lambda: page.run(words) > 0)
    assert page.run(words) < 1500
    page.press("0")
    page.until(lambda: page.view() == [0, 100])
    page.click_at("#plot", 0.5, 0.1)
    assert page.time() == pytest.approx(5400, abs=10)
    page.press("n")
    page.until(lambda: page.run(IN_LIST, page.find("#rows > [aria-current]")) and page.all(".word.current"))
    assert page.run(words) < 3000
    page.find("#text").send_keys("river")
    page.until(lambda: 0 < len(page.shown_rows()) < 2000)
