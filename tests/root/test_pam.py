"""What PAM says, asked as the auth process does: its user, group shadow, no capability; real modules and accounts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sockproxy.auth import accounts, services
from sockproxy.supervise import host, pam
from sockproxy.supervise.table import AUTH
from tests.support import needs
from tests.support.users import User

pytestmark = pytest.mark.root
PASSWORD = "correct horse 9"
CONFIG = Path(__file__).resolve().parents[2] / "config" / "pam.d"
DENIED, AUTH_ERROR, UNKNOWN, EXPIRED, MUST_CHANGE = 6, 7, 10, 13, 12
# Reads the services from a folder of the test's instead of /etc/pam.d; all else is as in the process.
ASK = """
import ctypes, json, sys
from pam.__internals import PamAuthenticator
from sockproxy.auth import accounts, services
folder, *questions = json.loads(sys.argv[1])
PamAuthenticator()
start = ctypes.CDLL("libpam.so.0").pam_start_confdir
start.argtypes = [*PamAuthenticator.pam_start.argtypes[:3], ctypes.c_char_p, PamAuthenticator.pam_start.argtypes[3]]
PamAuthenticator.pam_start = staticmethod(lambda s, u, c, h: start(s, u, c, folder.encode(), h))
services.FOLDER = folder
def ask(name, *words):
    if name == "bare":  # past what we look at before
        asked = PamAuthenticator()
        asked.pam_authenticate = lambda handle, flags: 0
        asked.authenticate(words[0], "", service=accounts.ACCOUNTS, resetcreds=False)
        return int(asked.code)
    try:
        return getattr(accounts, name)(*words)
    except accounts.NoPam as error:
        return str(error)
print(json.dumps([ask(*question) for question in questions]))
"""


@pytest.fixture
def user() -> Iterator[User]:
    """Somebody with a password."""
    needs.root()
    name = f"sppam{os.getpid() % 100000}"
    subprocess.run(["useradd", "-M", "-s", "/bin/sh", name], check=True)
    subprocess.run(["chpasswd"], input=f"{name}:{PASSWORD}", text=True, check=True)
    yield User(name)
    subprocess.run(["userdel", "-f", name], check=True, capture_output=True)


Ask = Callable[..., list[int]]


@pytest.fixture
def ask(folder: Path, request: pytest.FixtureRequest) -> Ask:
    """Ask PAM questions, with the shipped services or lines of the test's own."""
    auth = host.account(AUTH)
    place = folder / f"pam-{abs(hash(request.node.name)) % 10**8}"
    (place / "faillock").mkdir(parents=True)
    place.chmod(0o755)

    os.chown(place / "faillock", auth.pw_uid, auth.pw_gid)
    for file in CONFIG.iterdir():
        text = file.read_text().replace("/var/lib/sockproxy/faillock", str(place / "faillock"))
        text = text.replace("@include common-account", "account required pam_unix.so")
        (place / file.name).write_text(text)

    def run(*questions: tuple[str, ...], account: str = "") -> list[int]:
        if account:
            (place / accounts.ACCOUNTS).write_text(account.replace("{place}", str(place)))
        command = ["setpriv", f"--reuid={auth.pw_uid}", f"--regid={auth.pw_gid}", "--groups=shadow"]
        command += ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", sys.executable, "-I", "-c", ASK]
        done = subprocess.run([*command, json.dumps([str(place), *questions])], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    run.place = place  # type: ignore[attr-defined]
    return run


def change(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def test_a_password(ask: Ask, user: User) -> None:
    questions = [(user.name, PASSWORD), (user.name, "wrong"), ("no-such-user", PASSWORD), (user.name, PASSWORD)]
    assert ask(*(("password", *words) for words in questions)) == [0, AUTH_ERROR, UNKNOWN, 0]


def test_wrong_passwords_lock_nobody_out_for_all(ask: Ask, user: User) -> None:
    wrong, right = ("password", user.name, "wrong"), ("password", user.name, PASSWORD)
    assert ask(*[wrong] * 6, right) == [AUTH_ERROR] * 6 + [0]


def test_accounts_that_may_not_be_used(ask: Ask, user: User) -> None:
    question = ("account", user.name)
    assert ask(question, ("account", "no-such-user"), ("account", "root")) == [0, UNKNOWN, 0]
    change("usermod", "-L", user.name)  # locks the password alone: who is known by the kernel needs none
    assert ask(question, ("password", user.name, PASSWORD)) == [0, AUTH_ERROR]
    change("usermod", "-U", user.name)
    change("chage", "-E", "0", user.name)
    assert ask(question, ("password", user.name, PASSWORD)) == [EXPIRED, EXPIRED]
    change("chage", "-E", "-1", "-d", "0", user.name)
    assert ask(question) == [MUST_CHANGE]
    change("chage", "-d", "20000", user.name)
    assert ask(question) == [0]


RULES = {
    "access": ("account required pam_access.so accessfile={place}/rules", "-:{user}:ALL\n", "+:ALL:ALL\n", DENIED),
    "listfile": (
        "account required pam_listfile.so item=user sense=deny file={place}/rules onerr=fail",
        "{user}\n",
        "other\n",
        AUTH_ERROR,
    ),
    "time": (
        "account required pam_time.so conffile={place}/rules",
        "*;*;{user};!Al0000-2400\n",
        "*;*;x;Al0000-2400\n",
        DENIED,
    ),
    "nologin": ("account required pam_nologin.so file={place}/rules", "closed\n", None, AUTH_ERROR),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_of_the_host(ask: Ask, user: User, name: str) -> None:
    line, closed, opened, code = RULES[name]
    rules = ask.place / "rules"  # type: ignore[attr-defined]
    line += "\naccount required pam_unix.so\n"
    rules.write_text(closed.format(user=user.name))
    assert ask(("account", user.name), account=line) == [code]
    rules.unlink() if opened is None else rules.write_text(opened)
    assert ask(("account", user.name)) == [0]


def test_what_is_shipped_has_these_rules() -> None:
    for file in CONFIG.iterdir():
        words = file.read_text().split()
        assert {"pam_nologin.so", "pam_access.so", "pam_time.so", "common-account"} <= set(words)
        assert not any("pam_faillock" in line for line in file.read_text().splitlines() if not line.startswith("#"))


def test_a_service_that_is_missing_is_never_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "FOLDER", str(tmp_path))
    for question in (lambda: accounts.account("root"), lambda: accounts.password("root", "x"), accounts.prepare):
        with pytest.raises(accounts.NoPam, match="there is no"):
            question()


def test_a_service_without_a_line_for_it_is_never_another(ask: Ask, user: User) -> None:
    """libpam itself goes to `other` then."""
    permits = "auth required pam_permit.so\naccount required pam_permit.so\n"
    (ask.place / "other").write_text(permits)  # type: ignore[attr-defined]
    change("chage", "-E", "0", user.name)
    let_in, refused = ask(("bare", user.name), ("account", user.name), account="# nothing\n")
    assert (let_in, "would go by" in str(refused)) == (0, True)
    (ask.place / accounts.PASSWORDS).write_text("auth required pam_permit.so\n")  # type: ignore[attr-defined]
    assert "has no account line" in str(ask(("password", user.name, "x"))[0])


def test_services_are_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pam, "PAM", str(tmp_path))
    (tmp_path / accounts.PASSWORDS).write_text("mine\n")
    pam.install(str(CONFIG))
    assert (tmp_path / accounts.PASSWORDS).read_text() == "mine\n"
    assert (tmp_path / accounts.ACCOUNTS).read_bytes() == (CONFIG / accounts.ACCOUNTS).read_bytes()
    monkeypatch.setattr(pam, "PAM", str(tmp_path / "nowhere"))
    with pytest.raises(host.UpError, match=r"cannot install .*accounts: none"):
        pam.install(str(CONFIG))
