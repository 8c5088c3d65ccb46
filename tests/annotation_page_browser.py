"""A headless Chromium for tests of the page, driven by Selenium with the driver of the distribution."""

import os
import shutil
import time

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
)


def start_browser(profile, width=1440, height=900, phone=False, dark=False, flags=()):
    """Starts Chromium; skips the test with the reason if it, its driver or Selenium is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install selenium)")
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium and ChromeDriver (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    os.environ.setdefault("SE_OFFLINE", "true")  # Selenium looks for no other driver
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    return browser


class PageDriver:
    """Actions of a user on the page, and what the page then shows."""

    def __init__(self, browser):
        self.browser = browser

    def open(self, path):
        self.browser.get_log("browser")
        self.browser.get(path.as_uri())
        self.until(lambda: self.run("return document.querySelector('#plot canvas').width > 300"))
        return self

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def text(self, selector):
        return self.find(selector).text

    def click(self, selector):
        self.find(selector).click()

    def click_at(self, selector, across, down=0.5):
        """Clicks at a share of the width and height of an element."""
        self._move(selector, across, down).click().perform()

    def hover(self, selector, across, down=0.5):
        self._move(selector, across, down).perform()

    def drag(self, selector, start, end):
        box = self.find(selector).rect
        self._move(selector, start, 0.5).click_and_hold().move_by_offset(
            round((end - start) * box["width"]), 0
        ).release().perform()

    def wheel(self, selector, pixels, shift=False):
        self.run(
            "const box = arguments[0].getBoundingClientRect();"
            "arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: arguments[1], shiftKey: arguments[2],"
            " clientX: box.left + box.width / 2, bubbles: true, cancelable: true}));",
            self.find(selector),
            pixels,
            shift,
        )

    def press(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def time(self):
        return self.run("return document.getElementById('audio').currentTime")

    def view(self):
        """Start and duration of the visible range, as shares of the recording."""
        return self.run(
            "const s = document.getElementById('window').style; return [parseFloat(s.left), parseFloat(s.width)]"
        )

    def shown_rows(self):
        """Indices of the rows that the filter shows."""
        return [
            int(i)
            for i in self.run(
                "return [...document.querySelectorAll('#rows > li:not([hidden])')].map(r => r.dataset.index)"
            )
        ]

    def until(self, condition, seconds=20):
        """Waits for a condition; fails with its last value."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, f"still {value!r} after {seconds} s"
            time.sleep(0.03)
        return value

    def problems(self):
        """Messages of the console, among them violations of the Content Security Policy."""
        return [entry["message"] for entry in self.browser.get_log("browser")]

    def _move(self, selector, across, down):
        from selenium.webdriver.common.action_chains import ActionChains

        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'nearest'})", element)
        box = element.rect
        offsets = (round((across - 0.5) * box["width"]), round((down - 0.5) * box["height"]))
        return ActionChains(self.browser).move_to_element_with_offset(element, *offsets)
