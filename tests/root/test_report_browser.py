"""The report's page in a real browser: it is whole, its policy lets its own style in, and nobody's words do anything.

Chromium, which `./check` installs on Debian; elsewhere the test is skipped where there is none.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sockproxy.audit.log import Entry, Log, encode
from sockproxy.review import main
from tests.support import needs
from tests.unit.test_review import EVIL, RECORDS

pytestmark = pytest.mark.root  # and not for `--quick`: it takes seconds

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
REFUSED = "Content Security Policy"  # what a browser says in its console of what the page's policy forbids


def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), "")
    if not found:
        if "ID=debian" in Path("/etc/os-release").read_text().splitlines():
            needs.missing("chromium-headless-shell")
        pytest.skip("no browser")
    return found


def opened(page: Path, folder: Path, *options: str) -> tuple[str, str]:
    """Open a page; give its elements as the browser has them, and what it said."""
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=2000", "--window-size=1200,2400", *options]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout, done.stderr


def test_the_report_in_a_browser(tmp_path: Path) -> None:
    log, page = Log(str(tmp_path)), tmp_path / "report.html"
    log.append([Entry(encode(record), 0, 1) for record in RECORDS])
    log.close()
    assert main(["report", "--html", str(page), "--log-dir", str(tmp_path), "--runtime-dir", str(tmp_path)]) == 0
    shown, said = opened(page, tmp_path, "--dump-dom")
    assert REFUSED not in said
    assert "<script" not in shown.lower()
    assert "&lt;script&gt;x&lt;/script&gt;" in shown
    assert "\u202e" not in shown
    assert EVIL.startswith("</td>")
    for words in ("<h1>What was done through sockproxy</h1>", 'class="t refused"', "<svg", "The record is <b>sound"):
        assert words in shown
    assert shown.count("<table>") == shown.count("</table>") == page.read_text().count("<table>")
    opened(page, tmp_path, f"--screenshot={tmp_path}/report.png")
    plain = tmp_path / "plain.html"
    plain.write_text("<!DOCTYPE html>")
    opened(plain, tmp_path, f"--screenshot={tmp_path}/plain.png")
    assert (tmp_path / "report.png").stat().st_size > 2 * (tmp_path / "plain.png").stat().st_size  # there is something


def test_the_pages_policy_holds(tmp_path: Path) -> None:
    """A page into which somebody got a script and a foreign picture after all: the browser runs and loads neither."""
    log, page = Log(str(tmp_path)), tmp_path / "report.html"
    log.append([Entry(encode(record), 0, 1) for record in RECORDS])
    log.close()
    main(["report", "--html", str(page), "--log-dir", str(tmp_path), "--runtime-dir", str(tmp_path)])
    script = "<script>document.body.append('it ran')</script><img src='http://127.0.0.1:9/x'>"
    page.write_text(page.read_text().replace("</body>", f"{script}</body>"))
    shown, said = opened(page, tmp_path, "--dump-dom")
    assert "it ran</body>" not in shown.replace("\n", "")
    assert "it ran" not in shown.partition("</script>")[2]
    assert said.count(REFUSED) >= 2
