"""An exported page in headless Chromium: the numbers of `emojax.Stream` for a file and for a fake microphone."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

import emojax
from emojax.audio import read_audio
from emojax.errors import ConfigError
from emojax.export import export_workdir
from emojax.export.onnxruntime_web import PACKAGE, VERSION, read_runtime
from tests.annotation_page_browser import start_browser
from tests.exported_models import write_workdir
from tests.test_export_command import student_config
from tests.web_page_browser import WebPage, served, wav_header, write_silence

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CATEGORIES = ("anger", "</script><b>joy</b>")
CLIP = Path(__file__).parents[1] / "tfds_builders" / "emodb" / "audio" / "03a02Fc.opus"
"""A bundled recording of 2 s, CC0."""

STEP = 1_600
"""Samples between two values of a file."""


@pytest.fixture(scope="module")
def runtime():
    """Folder of the runtime; skips the tests if npm cannot fetch it."""
    kept = Path("~/.cache/emojax").expanduser() / f"{PACKAGE}-{VERSION}"
    if kept.is_dir():
        return kept
    try:
        read_runtime(None)
    except ConfigError as error:
        pytest.skip(str(error))
    return None


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_workdir(tmp_path_factory.mktemp("runs") / "a <b>student", student_config(), CATEGORIES)


@pytest.fixture(scope="module")
def model(workdir):
    return emojax.load(workdir)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """The bundled clip as files of several formats, and twice at the rate of audio devices."""
    folder = tmp_path_factory.mktemp("recordings")
    clip = read_audio(CLIP)
    soundfile.write(folder / "clip.wav", clip, 16_000, subtype="PCM_16")
    soundfile.write(folder / "clip.flac", clip, 16_000, subtype="PCM_16")
    stereo = np.stack([soxr.resample(clip, 16_000, 44_100), np.zeros(2 * 44_100, np.float32)], 1)
    soundfile.write(folder / "stereo.wav", stereo, 44_100, subtype="PCM_24")
    soundfile.write(folder / "low.wav", soxr.resample(clip, 16_000, 8_000), 8_000, subtype="FLOAT")
    soundfile.write(folder / "long.wav", np.concatenate([clip, 0.3 * clip[::-1]] * 3), 16_000, subtype="PCM_16")
    twice = np.concatenate([soxr.resample(clip, 16_000, 48_000)] * 2)
    soundfile.write(folder / "microphone.wav", twice, 48_000, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def address(runtime, workdir, recordings, tmp_path_factory):
    """A web server of the exported folder, which also has a recording."""
    target = tmp_path_factory.mktemp("exports") / "web"
    export_workdir(workdir, target, "web", (str(recordings / "clip.wav"),), runtime)
    os.link(recordings / "clip.wav", target / "clip.wav")
    page = (target / "index.html").read_text()
    for name, labels in (("attributes", ["activation", "valence", "dominance"]), ("categories", list(CATEGORIES))):
        block = json.dumps(labels, separators=(",", ":")).replace("<", "\\u003c")
        assert f'"{name}":{block}' in page
        (target / f"no_{name}.html").write_text(page.replace(f'"{name}":{block}', f'"{name}":[]'))
    with served(target) as address:
        yield address


@pytest.fixture(scope="module")
def browser(address, recordings, tmp_path_factory):
    flags = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={recordings / 'microphone.wav'}%noloop",
    )
    browser = start_browser(tmp_path_factory.mktemp("profile"), flags=flags)
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def opened(browser, address):
    return WebPage(browser).open(address)


@pytest.fixture
def page(opened):
    yield opened
    assert opened.problems() == []


def streamed(model, samples, ends):
    """Values of `emojax.Stream` after the samples up to each end."""
    stream = emojax.Stream(model)
    rows = []
    for start, end in zip([0, *ends], ends, strict=False):
        prediction = stream(samples[start:end])
        rows.append([*prediction.attributes.values(), *prediction.emotions.values()])
    return np.array(rows)


DROP = """
const [path, done] = arguments;
fetch(path).then((response) => response.blob()).then((blob) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([blob], 'dropped.wav'));
  const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
  document.body.dispatchEvent(new DragEvent('dragover', options));
  const covered = !document.getElementById('drop').hidden;
  document.body.dispatchEvent(new DragEvent('drop', options));
  done(covered);
});
"""


def test_a_dropped_file_has_the_numbers_of_a_stream(page, model, recordings):
    assert page.browser.execute_async_script(DROP, "clip.wav")
    assert page.finished("dropped.wav") == "dropped.wav: done, 0:02.0"
    times, since, values = page.track()
    samples = read_audio(recordings / "clip.wav")
    np.testing.assert_array_equal(page.samples(), samples)
    np.testing.assert_allclose(times, np.arange(1, 21) / 10)
    assert not since.any()
    expected = streamed(model, samples, np.arange(1, 21) * STEP)
    assert np.ptp(expected, axis=0).min() > 0.01
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4)


def test_estimates_over_a_window_are_those_of_streams_that_begin_later(page, model, recordings):
    page.run("document.getElementById('window').value = '10'")
    try:
        page.choose(recordings / "long.wav")
    finally:
        page.run("document.getElementById('window').value = '0'")
    times, since, values = page.track()
    assert len(times) == 120
    assert {round(start, 1) for start in since} == {0.0, 5.0}
    samples = page.samples()
    for point in (49, 60, 99, 100, 119):
        start, end = (round(16_000 * each) for each in (since[point], times[point]))
        assert start == 0 if end <= 160_000 else 0 < 80_000 - start < 880
        expected = streamed(model, samples[start:], [end - start])
        np.testing.assert_allclose(values[point], expected[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "atol"), [("clip.flac", 5e-5), ("stereo.wav", 2e-4), ("low.wav", 5e-4)])
def test_files_of_other_formats_and_rates_are_read_as_emojax_reads_them(page, recordings, name, atol):
    page.choose(recordings / name)
    expected = read_audio(recordings / name)
    np.testing.assert_allclose(page.samples(), expected, rtol=0, atol=atol)


def test_the_microphone_has_the_numbers_of_a_stream_and_ten_updates_a_second(page, model, recordings):
    page.click("#microphone")
    page.until(lambda: page.text("#clock") >= "0:03.5", 60)
    assert page.text("#microphone") == "Stop microphone"
    page.click("#microphone")
    assert page.finished("Microphone").startswith("Microphone: done, 0:0")
    times, since, values = page.track()
    samples = page.samples()
    assert np.abs(samples).max() > 0.1  # the clip, not silence
    assert not since.any()
    ends = np.round(16_000 * times).astype(int)
    assert ends[-1] == len(samples)
    assert np.diff(ends).max() <= STEP
    np.testing.assert_allclose(values, streamed(model, samples, ends), rtol=0, atol=1e-4)
    rate, factor = page.run("return [recording.rate, recording.factor]")
    assert float(page.text("#rate")) == pytest.approx(rate, abs=0.06)
    assert float(page.text("#factor").split()[0]) == pytest.approx(factor, rel=0.06)
    assert len(times) >= 10 * times[-1]
    if factor < 0.5:  # else other programs take the time that the page needs
        assert rate >= 10


def bad_files(folder):
    (folder / "empty.wav").touch()
    yield "empty.wav", "empty.wav: is empty"
    (folder / "header.wav").write_bytes(wav_header(0))
    yield "header.wav", "header.wav: has no samples"
    (folder / "text.wav").write_text("no audio")
    yield "text.wav", "text.wav: is not audio that this browser decodes"
    (folder / "short.wav").write_bytes(wav_header(800) + bytes(1600))
    yield "short.wav", "short.wav: is shorter than 0.055 s, the shortest input of the model"
    soundfile.write(folder / "nan.wav", np.full(8_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    yield "nan.wav", "nan.wav: has samples that are not finite, or far above full scale"
    soundfile.write(folder / "quarter.flac", np.zeros(16 * 60 * 8_000, np.int16), 8_000)
    limit = "only WAV files may have more than 15 minutes: convert it to WAV"
    yield "quarter.flac", f"quarter.flac: lasts 16 minutes; {limit}"
    write_silence(folder / "day.wav", 13)
    yield "day.wav", "day.wav: must have at most 12 hours, got 13.0 hours"


def test_bad_files_are_one_line_each_and_the_next_file_runs(page, recordings, tmp_path):
    for name, line in bad_files(tmp_path):
        page.choose(tmp_path / name, ": failed")
        assert page.notice() == line
    page.choose(recordings / "clip.wav")
    assert page.notice() == ""


FAIL = """
navigator.mediaDevices.getUserMedia = arguments[0] &&
  (() => Promise.reject(new DOMException('Requested device not found', arguments[0])));
"""


def test_a_microphone_that_is_missing_or_refused_is_one_line(page, recordings):
    lines = {
        "NotFoundError": "Microphone: there is none",
        "NotAllowedError": "Microphone: the browser or the visitor refused access",
        None: "Microphone: browsers allow it on https and on localhost only",
    }
    try:
        for name, line in lines.items():
            page.run(FAIL, name)
            page.click("#microphone")
            page.until(lambda line=line: page.notice() == line)
            assert page.text("#microphone") == "Start microphone"
    finally:
        page.run("delete navigator.mediaDevices.getUserMedia")
    page.choose(recordings / "clip.wav")
    assert page.notice() == ""


def test_audio_that_never_starts_is_one_line(page, recordings):
    page.run("globalThis.resume = AudioContext.prototype.resume")
    page.run("AudioContext.prototype.resume = () => new Promise(() => {})")  # as in Firefox without an output device
    try:
        page.click("#microphone")
        page.until(lambda: page.notice(), 30)
        line = "Microphone: audio did not start within 5 s; some browsers need an output device"
        assert page.notice() == line
        assert page.text("#microphone") == "Start microphone"
    finally:
        page.run("AudioContext.prototype.resume = globalThis.resume")
    page.choose(recordings / "clip.wav")
    assert page.notice() == ""


def test_eight_hours_of_silence_are_read_in_pieces_until_stopped(page, tmp_path):
    write_silence(tmp_path / "silence.wav", 8)
    page.find("#file").send_keys(str(tmp_path / "silence.wav"))
    page.until(lambda: page.text("#clock") > "0:20.0" and len(page.text("#clock")) == 6, 60)
    assert page.text("#state") == "silence.wav, 8:00:00.0: running"
    assert page.run("return performance.memory.usedJSHeapSize") < 100e6
    assert 0 < float(page.find("#progress").get_property("value")) < 0.5
    page.click("#stop")
    assert page.finished("silence.wav", ": stopped")
    assert page.text("#microphone") == "Start microphone"


def test_texts_of_the_model_are_text_and_curves_have_an_alternative(page, recordings):
    page.choose(recordings / "clip.wav")
    page.until(lambda: page.text("#clock") == "0:02.0", 60)
    assert page.text("#title") == "a <b>student"
    assert [each.text for each in page.all("#categories .name")] == list(CATEGORIES)
    assert not page.all("main b")
    label = page.find("#plot").get_attribute("aria-label")
    assert label.startswith("Curves. At 0:02: activation ")
    assert "so far activation between" in label
    assert page.run("return document.getElementById('summary').textContent").startswith("At 0:02: activation ")
    lines = page.run("return Array.from(recording.track.csv()).join('').split('\\n')")
    assert lines[0] == "time,since,activation,valence,dominance,anger,</script><b>joy</b>"
    assert len(lines) == 22


@pytest.mark.parametrize("missing", ["categories", "attributes"])
def test_pages_of_models_without_categories_or_attributes(browser, opened, address, recordings, missing):
    page = WebPage(browser).open(address, f"no_{missing}.html")
    try:
        page.choose(recordings / "clip.wav")
        columns = {"categories": ["activation", "valence", "dominance"], "attributes": list(CATEGORIES)}[missing]
        assert page.run("return recording.track.columns") == columns
        assert page.track()[2].shape == (20, len(columns))
        assert not page.find(f"#{missing}").is_displayed()
        words = page.find("#plot").get_attribute("aria-label")
        assert ("activation" in words) == (missing == "categories")
        assert page.problems() == []
    finally:
        opened.open(address)


def test_nothing_is_wider_than_a_phone(page, browser):
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.run("document.getElementById('details').open = true")
        assert page.run("return document.documentElement.scrollWidth") <= 390
    finally:
        metrics = {"width": 1440, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


CONNECT = """
const [address, done] = arguments;
const fetched = `fetch(${JSON.stringify(address)}, { mode: 'no-cors' })`;
const code = `${fetched}.then(() => 'open', () => 'closed').then(postMessage)`;
const worker = new Worker(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })), { type: 'module' });
worker.onmessage = ({ data }) => done(data);
"""


def test_scripts_and_workers_connect_to_nothing_else(opened, address):
    elsewhere = address.replace("localhost", "127.0.0.1")
    assert opened.browser.execute_async_script(CONNECT, f"{address}/page.css") == "open"
    assert opened.browser.execute_async_script(CONNECT, f"{elsewhere}/page.css") == "closed"
    problems = opened.problems()
    assert problems
    assert all("Content Security Policy" in problem for problem in problems)
