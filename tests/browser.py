"""A real Chromium for tests of the page: the machine's own, driven by playwright, which never
downloads one. It draws WebGL in software and can reach no host but this machine."""

import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

WITHOUT = os.environ.get("EMBARCHIVE_NO_BROWSER") == "1"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
# Says on the console what the policy refused, in words that no page of ours uses.
REFUSED = "refused by the policy:"
_LISTEN = f"""addEventListener("securitypolicyviolation", (event) =>
  console.error("{REFUSED}", event.effectiveDirective, event.blockedURI, event.sample));"""


@dataclass
class Seen:
    """What a page did, in the order of events.

    requests: URLs, of workers too; console: errors and warnings; errors: exceptions nobody
    caught; violations: what the Content-Security-Policy refused.
    """

    requests: list = field(default_factory=list)
    console: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    violations: list = field(default_factory=list)

    @property
    def faults(self):
        """All that must not happen on a page that works."""
        return [*self.errors, *self.violations, *self.console]

    def hear(self, message):
        """Sort one message of the console."""
        refused = REFUSED in message.text or "Content Security Policy" in message.text
        if refused:
            self.violations.append(message.text)
        elif message.type in ("error", "warning"):
            self.console.append(f"{message.type}: {message.text}")


def until(page, expression, seconds=60):
    """Wait until an expression is true in the page, and give its value. (playwright's own
    wait_for_function evaluates text within the page, which a strict policy refuses.)"""
    deadline = time.monotonic() + seconds
    while not (value := page.evaluate(expression)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{expression} after {seconds} s; the page said {page.seen.faults}")
        page.wait_for_timeout(20)
    return value


def find_chromium():
    """The path of the machine's Chromium; raises FileNotFoundError."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise FileNotFoundError("tests in a browser: expected chromium in PATH, found none")
    return found


@contextmanager
def launched():
    """A browser with a fresh profile. While it is open, this thread runs an event loop."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser, **options):
    """A tab with a profile of its own; `page.seen` is a Seen. options: of a new context."""
    context = browser.new_context(**options)
    try:
        context.add_init_script(_LISTEN)
        page = context.new_page()
        page.seen = Seen()
        page.set_default_timeout(60_000)
        context.on("request", lambda request: page.seen.requests.append(request.url))
        context.on("console", page.seen.hear)
        context.on("weberror", lambda error: page.seen.errors.append(str(error.error)))
        yield page
    finally:
        context.close()
