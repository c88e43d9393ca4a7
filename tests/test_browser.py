"""A real JupyterLab in a real browser: a notebook runs to its end, a slider is moved, and the picture changes.

The browser is the system's Chromium (or Chrome), driven by Playwright. Where there is none the test says so and skips;
in CI that is a failure. Screenshots go to the folder that COURSE_SCREENSHOTS names, else to pytest's temporary folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from running import NOTEBOOKS, offline

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
AT_ONCE = ("00",)  # what a student meets first; kernels run all, and test_browser_stuck all cells of 03
NOTEBOOK_TIME = 300  # seconds until a notebook has to be through

# What a clean profile would ask about at the first start; a course is not the place to answer it.
NEWS = {"fetchNews": "false", "checkForUpdates": False}


class Lab:
    """A JupyterLab server on a free port, with a profile and copies of the notebooks in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.token = folder, secrets.token_hex(16)
        self.notebooks = folder / "notebooks"
        shutil.copytree(ROOT / "notebooks", self.notebooks, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(
            self._command(), cwd=folder, env=self._environment(), stdout=self.log, stderr=self.log
        )

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
        command += [f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0"]
        return [*command, f"--ServerApp.root_dir={self.notebooks}", f"--IdentityProvider.token={self.token}"]

    def _environment(self) -> dict[str, str]:
        profile = self.folder / "profile"
        settings = profile / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(NEWS))
        mine = {
            "HOME": str(profile),
            "JUPYTER_CONFIG_DIR": str(profile / "config"),
            "JUPYTER_DATA_DIR": str(profile / "data"),
            "JUPYTER_RUNTIME_DIR": str(profile / "runtime"),
            "IPYTHONDIR": str(profile / "ipython"),
            "JUPYTERLAB_SETTINGS_DIR": str(profile / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(profile / "workspaces"),
            "COURSE_EFFORT": "smoke",
            "COURSE_DATASET": "digits",
        }
        return os.environ | offline() | mine

    def ask(self, path: str):
        """The server's answer to GET /api/…, decoded."""
        request = urllib.request.Request(f"{self.url}/api/{path}", headers={"Authorization": f"token {self.token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def wait_until_up(self, seconds: float = 90) -> None:
        """Return when the server answers; AssertionError with its log when it doesn't."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.ask("status")
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        raise AssertionError(f"JupyterLab did not start:\n{self.last_words()}")

    def kernels(self) -> list[dict]:
        """The server's kernels; none while it can't list them: a kernel just being started makes it answer 500."""
        try:
            return self.ask("kernels")
        except urllib.error.HTTPError as error:
            if error.code != 500:
                raise
            return []

    def end_kernels(self) -> None:
        """End all kernels; the server goes on."""
        for kernel in self.kernels():
            where, token = f"{self.url}/api/kernels/{kernel['id']}", {"Authorization": f"token {self.token}"}
            urllib.request.urlopen(urllib.request.Request(where, headers=token, method="DELETE"), timeout=20).close()

    def wait_until_idle(self, seconds: float) -> None:
        """Return when there is a kernel, connected, and idle for two seconds in a row."""
        end, quiet_since = time.monotonic() + seconds, None
        while time.monotonic() < end:
            kernels = self.kernels()
            busy = not kernels or any(k["execution_state"] != "idle" or not k["connections"] for k in kernels)
            quiet_since = None if busy else quiet_since or time.monotonic()
            if quiet_since and time.monotonic() - quiet_since > 2:
                return
            time.sleep(0.25)
        raise AssertionError(f"the kernel was still busy after {seconds} s:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of the server's log."""
        return (self.folder / "server.log").read_text()[-3000:]

    def stop(self) -> None:
        """End the server and its kernels."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


def browser_path() -> str | None:
    """The first browser on PATH that Playwright can drive."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def browser():
    path = browser_path()
    if path is None:
        reason = f"no browser on PATH (looked for {', '.join(BROWSERS)}); on Debian: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextlib.contextmanager
def served(folder: Path):
    """A JupyterLab with `folder` to itself, up and answering; it ends with the block."""
    lab = Lab(folder)
    try:
        lab.wait_until_up()
        yield lab
    finally:
        lab.stop()


@pytest.fixture
def lab(tmp_path):
    with served(tmp_path) as lab:
        yield lab


@pytest.fixture
def screenshots(tmp_path) -> Path:
    folder = Path(os.environ.get("COURSE_SCREENSHOTS", tmp_path / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def scroll_to(page, selector: str):
    """The first element for `selector`, looking down the notebook: JupyterLab draws only what is near the view."""
    wanted = page.locator(selector).first
    place = page.locator(".jp-WindowedPanel-outer").first
    place.evaluate("element => { element.scrollTop = 0 }")
    for _ in range(200):
        page.wait_for_timeout(150)
        if wanted.count():
            wanted.scroll_into_view_if_needed()
            return wanted
        at_end = place.evaluate(
            "e => { e.scrollTop += 0.8 * e.clientHeight; return e.scrollTop + e.clientHeight >= e.scrollHeight - 2 }"
        )
        if at_end and not wanted.count():
            page.wait_for_timeout(500)
    raise AssertionError(f"nothing in the notebook matches {selector}")


def run_all(page, lab: Lab, name: str) -> nbformat.NotebookNode:
    """Open a notebook, run all its cells, wait until they are through, save; the saved notebook."""
    page.goto(f"{lab.url}/lab/tree/{name}.ipynb?token={lab.token}")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
    lab.wait_until_idle(60)  # requests sent before the kernel is connected can get lost
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    end = time.monotonic() + NOTEBOOK_TIME
    while True:
        lab.wait_until_idle(end - time.monotonic())
        page.keyboard.press("Control+s")
        page.wait_for_timeout(1000)
        saved = nbformat.read(lab.notebooks / f"{name}.ipynb", as_version=4)
        code = [c for c in saved.cells if c.cell_type == "code" and c.source.strip()]
        stopped = any(o.output_type == "error" for c in code for o in c.outputs)
        if stopped or all(c.execution_count for c in code) or time.monotonic() > end - 5:
            return saved


@pytest.mark.parametrize(
    "name", [name if name[:2] in AT_ONCE else pytest.param(name, marks=pytest.mark.slow) for name in NOTEBOOKS]
)
def test_a_notebook_runs_and_its_slider_moves(name, browser, lab, screenshots, report):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    saved = run_all(page, lab, name)
    page.screenshot(path=screenshots / f"{name}-1-end.png")

    code = [c for c in saved.cells if c.cell_type == "code" and c.source.strip()]
    assert [f"{o.ename}: {o.evalue}" for c in code for o in c.outputs if o.output_type == "error"] == []
    waiting = [c.source for c in code if not c.execution_count]
    assert not waiting, f"{len(waiting)} cells did not run, the first: {waiting[0]}"
    assert page.locator(".jp-Dialog").count() == 0

    handle = scroll_to(page, ".jp-Cell:has(.jp-OutputArea-output img) .widget-slider .noUi-handle")
    cell = (
        page.locator(".jp-Cell", has=page.locator(".widget-slider .noUi-handle"))
        .filter(has=page.locator(".jp-OutputArea-output img"))
        .first
    )
    picture = cell.locator(".jp-OutputArea-output img").first
    before = picture.get_attribute("src")
    page.wait_for_timeout(500)
    page.screenshot(path=screenshots / f"{name}-2-before.png")
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    for _ in range(120):
        page.wait_for_timeout(250)
        if picture.get_attribute("src") != before:
            break
    page.screenshot(path=screenshots / f"{name}-3-after.png")
    assert picture.get_attribute("src") != before, "the slider moved and the picture stayed the same"
    assert page.locator("[role=alert]").count() == 0, "an explorer shows an error line"
    assert complaints == []
    report.append(
        f"{name} in {browser.browser_type.name} {browser.version}: {len(code)} cells, slider moved, picture changed"
    )
    page.close()
