"""Ask PAM whether an account may be used, and whether a password is right.

Two services. `sockproxy-account` has an account stack only and is asked about users whom the kernel identified;
`sockproxy` is asked about passwords. Neither may hold pam_faillock: an account question would clear its count, and
anybody's wrong passwords would lock a person out; the desk counts, by who tries. What these files do not answer, PAM
would ask /etc/pam.d/other, which lets everybody in on Debian; so they are read before each question.
"""

from __future__ import annotations

from pam.__internals import PAM_SUCCESS, PamAuthenticator

from sockproxy.auth import services
from sockproxy.auth.services import ACCOUNTS, PASSWORDS

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
        NoPam: it isn't there, or a service's file is not, or does not answer.
    """
    try:
        PamAuthenticator()
    except (AttributeError, OSError) as error:
        raise NoPam(f"libpam can't be loaded (package libpam0g): {error}") from error
    for service in services.ASKED:
        _see(service)


def _see(service: str) -> None:
    try:
        services.lines(service, _text)
    except services.BadService as error:
        raise NoPam(f"{error} (`sockproxy up` and `sockproxy install` install what is missing)") from error


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


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
    _see(service)
    asked.authenticate(user, secret, service=service, resetcreds=False)
    return int(asked.code)


def words(code: int) -> str:
    """Say why an account may not be used."""
    return WORDS.get(code, f"PAM says {code}")
