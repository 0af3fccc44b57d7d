"""What tests share that open pages in a browser."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start the Chromium that is installed; skip the test if there is none, or fail where one is asked for."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("WBC_NEEDS_BROWSER"):
            pytest.fail("No browser was found, and WBC_NEEDS_BROWSER asks for one; install Debian's chromium.")
        pytest.skip("no browser was found (Debian: apt-get install chromium)")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=chromium, args=options)
        yield instance
        instance.close()


def watch(tab, page: str, flaws: list[tuple[str, str]]) -> None:
    """Note whatever the browser complains of, and every request that leaves the machine."""
    tab.on("console", lambda message: message.type == "error" and flaws.append((page, message.text)))
    tab.on("pageerror", lambda error: flaws.append((page, str(error))))
    tab.on("request", lambda request: request.url.startswith("http") and flaws.append((page, request.url)))
