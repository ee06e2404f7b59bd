"""Ask PAM whether an account may be used, and whether a password is right.

Two services. `sockproxy-account` has an account stack only and is asked about users whom the kernel identified; it must
not hold pam_faillock, which would clear the count of wrong passwords. `sockproxy` is asked about passwords. A service
whose file is missing would fall to /etc/pam.d/other, which lets everybody in on Debian; so a missing file is looked for
before each question.
"""

from __future__ import annotations

import os

from pam.__internals import PAM_SUCCESS, PamAuthenticator

FOLDER = "/etc/pam.d"
PASSWORDS, ACCOUNTS = "sockproxy", "sockproxy-account"
# pam_acct_mgmt(3), in words for the person; all else is told by its number.
WORDS = {
    6: "the host's rules do not allow it now (pam_access, pam_time, or another rule of PAM's)",
    7: "it has expired or is locked, or a rule of PAM's refuses it",
    10: "there is no such account",
    12: "its password must be changed first",
    13: "it has expired",
}


class NoPam(Exception):
    """Say in a sentence why PAM can't be asked."""


def prepare() -> None:
    """Load the library, which may start a program to find it: before the process is confined.

    Raises:
        NoPam: it isn't there, or a service's file is not.
    """
    try:
        PamAuthenticator()
    except (AttributeError, OSError) as error:
        raise NoPam(f"libpam can't be loaded: {error}") from error
    _find_services()


def _find_services() -> None:
    for service in (PASSWORDS, ACCOUNTS):
        if not os.path.isfile(f"{FOLDER}/{service}"):
            raise NoPam(f"there is no {FOLDER}/{service}: `sockproxy up` installs it when it is started")


def account(user: str) -> int:
    """Tell whether an account may be used now: 0, or PAM's number for why not.

    Raises:
        NoPam: nobody can tell.
    """
    asked = PamAuthenticator()
    asked.pam_authenticate = lambda handle, flags: PAM_SUCCESS  # who it is, the kernel has told already
    return _ask(asked, ACCOUNTS, user, "")


def password(user: str, secret: str) -> int:
    """Tell whether a password is right and the account may be used: 0, or PAM's number for why not.

    Raises:
        NoPam: nobody can tell.
    """
    return _ask(PamAuthenticator(), PASSWORDS, user, secret)


def _ask(asked: PamAuthenticator, service: str, user: str, secret: str) -> int:
    _find_services()
    asked.authenticate(user, secret, service=service, resetcreds=False)
    return int(asked.code)


def words(code: int) -> str:
    """Say why an account may not be used."""
    return WORDS.get(code, f"PAM says {code}")
