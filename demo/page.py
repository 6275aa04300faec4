"""`python demo/page.py`: docs/page.jpg, the page in a browser on the packaged archive."""

from __future__ import annotations

import sys
from pathlib import Path

from embarchive import serve

HOME = Path(__file__).parent.parent
sys.path.insert(0, str(HOME / "tests"))
from browser import launched, opened, until  # noqa: E402

SESSION = "like=dqdnkb&k=24&imagery=1&heat=0"


def main() -> None:
    """Open it, search, wait for every picture, and take the screenshot."""
    root, size = serve.demo_root(), {"width": 1400, "height": 860}
    with serve.running(root) as url, launched() as browser, opened(browser, viewport=size) as page:
        page.goto(f"{url}/viewer/index.html#{SESSION}")
        until(page, "document.querySelectorAll('.card canvas.decoded').length === 24")
        page.wait_for_timeout(3000)
        page.screenshot(path=HOME / "docs" / "page.jpg", type="jpeg", quality=85)
    print("docs/page.jpg")


if __name__ == "__main__":
    main()
