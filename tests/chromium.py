"""Pages in a real browser, for tests: opened from a file, without network, and what became of them."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


def needed(test: Any) -> Any:
    """Marks a test that opens a browser; it is skipped where there is none."""
    why = "chromium is not installed (apt-get install chromium)"
    return pytest.mark.browser(pytest.mark.skipif(not shutil.which("chromium"), reason=why)(test))


def dumped(folder: Path, text: str, *flags: str, after: str = "") -> str:
    """The page as the browser has it when its scripts have run; `after` stands behind the file in the address."""
    page = folder / "page.html"
    page.write_text(text, encoding="utf-8")
    start = [
        *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars", "--window-size=1280,1000", "--dump-dom"),
        *(*flags, f"--user-data-dir={folder / 'profile'}", f"{page.as_uri()}{after}"),
    ]
    return subprocess.run(start, capture_output=True, text=True, timeout=120, check=True).stdout


def told(folder: Path, script: str, page: str, *flags: str) -> Any:
    """What a script that holds `page` in a frame, where it says PAGE, leaves as JSON in the title."""
    quoted = json.dumps(page).replace("</", "<\\/")
    title = re.search(r"<title>(.*?)</title>", dumped(folder, script.replace("PAGE", quoted), *flags))
    assert title, "the script ran"
    return json.loads(html.unescape(title[1]))
