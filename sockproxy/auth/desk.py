"""Answer questions: may an account be used, is a password right, is a token good.

Failures all look the same and come after the same time, whatever the reason: else the answers would tell which accounts
there are. The true reason goes to the record alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import pwd
import re
import secrets
import socket
import time
from typing import NamedTuple

import trio

from sockproxy.auth import accounts
from sockproxy.auth.limits import Limit
from sockproxy.auth.tokens import Token, Tokens, digest_of
from sockproxy.auth.uids import Uids
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system import peer
from sockproxy_helpers.system.caller import NOBODY
from sockproxy_helpers.system.peer import Peer
from sockproxy_helpers.who import assertion

Reply = dict[str, object]
FLOOR = 2.0  # seconds for every failure; yescrypt takes 40 to 160 ms here, an account that isn't there 1 ms (measured)
REMEMBERED_SECONDS = 30.0  # for a right password: a docker command makes several connections
REMEMBERED = 1024
WAITING = 256  # passwords to be checked; more than that at once is no login
ACCOUNT_SECONDS = 8.0
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}")
LONGEST = 512  # bytes of a password; PAM takes no more
WRONG = "the user or the password is wrong, the token is not valid here (any more), or the account may not be used"
BUSY = "too many attempts to log in: wait two minutes"


class Credential(NamedTuple):
    """Hold what a client presents: a token, or a user and a password."""

    token: str
    user: str
    password: str


def read(untrusted: str) -> Credential | None:
    """Read an Authorization header (RFC 7617, RFC 6750); None for one that can be nobody's."""
    scheme, _, untrusted_word = untrusted.partition(" ")
    if scheme.lower() == "bearer":
        return Credential(untrusted_word.strip(" "), "", "")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(untrusted_word.strip(" "), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    if not colon or not _USER.fullmatch(user) or not 0 < len(password.encode()) < LONGEST or "\0" in password:
        return None
    return Credential("", user, password)


class Desk:
    """Be asked.

    Invariant: what is remembered of a right password is a digest under a key that never leaves this process.
    """

    def __init__(self, policy: Policy, tokens: Tokens, uids: Uids, key: bytes) -> None:
        self._policy, self._tokens, self._uids, self._key = policy, tokens, uids, key
        self._secret = secrets.token_bytes(32)
        self._right: dict[bytes, float] = {}
        # Half of the processors, so that many logins at once leave the others to everybody's calls.
        self._passwords = trio.CapacityLimiter(max(1, (os.cpu_count() or 1) // 2))
        self._accounts = trio.CapacityLimiter(8)
        # Guessing locks who guesses: a peer has fewer attempts at a name than there are of all peers' together.
        self._pairs, self._users, self._peers = Limit(5, 120), Limit(20, 30), Limit(60, 1)

    def load(self, policy: Policy) -> None:
        """Take a new policy."""
        self._policy = policy

    async def account(self, user: str) -> Reply:
        """Tell root's helper about an account."""
        code: int | None = None
        with trio.move_on_after(ACCOUNT_SECONDS):
            try:
                code = await trio.to_thread.run_sync(
                    accounts.account, user, limiter=self._accounts, abandon_on_cancel=True
                )
            except (accounts.NoPam, ValueError) as error:
                return {"code": -1, "why": str(error)}
        if code is None:
            if self._accounts.borrowed_tokens == self._accounts.total_tokens:
                os._exit(1)  # threads that hang in a module can't be ended otherwise; a new process begins anew
            return {"code": -1, "why": "the host's account database does not answer"}
        return {"code": code, "why": accounts.words(code)} if code else self._uid_of(user)

    def _uid_of(self, user: str) -> Reply:
        """See that an account has the name that its uid had when it was first seen: what is whose goes by uids."""
        uid = _uid(user)
        try:
            known = self._uids.of(uid, user) if uid else user
        except OSError as error:
            return {"code": -1, "why": f"whose its uid is can't be written down: {error}"}
        if known == user:
            return {"code": 0, "why": ""}
        why = f"its uid, {uid}, was {known}'s, and what is {known}'s here would be {user}'s"
        return {"code": 1, "why": f"{why} (allowed: when an administrator has said so: sockproxy accept {user})"}

    def accept(self, user: str) -> Reply:
        """Let an account have what is of the one that had its uid before."""
        uid = _uid(user)
        if not uid:
            return {"code": 1, "why": f"{user} is no account that can have anything here"}
        try:
            return {"code": 0, "uid": uid, "old": self._uids.set(uid, user)}
        except OSError as error:
            return {"code": 1, "why": f"it can't be written down: {error}"}

    def token(self, digest: str) -> Reply:
        """Tell root's helper whether a token is still good."""
        good = self._tokens.lives(digest, time.time())
        return {"code": 0, "why": ""} if good else {"code": 1, "why": "it was revoked, or has expired"}

    async def identify(self, untrusted: str, client: socket.socket) -> Reply:
        """Tell who presents a credential, and vouch for it on the client's connection."""
        began, process = trio.current_time(), peer.of(client)
        credential = read(untrusted)
        token = credential and credential.token and self._token(credential.token, process)
        if credential and token:
            uid, via, digest = token.uid, "token", digest_of(credential.token)
        else:
            found = await self._password(credential, process, began)
            if isinstance(found, dict):
                return found
            uid, via, digest = found, "password", ""
        text, until = assertion.sign(self._key, uid, via, peer.cookie_of(client), digest)
        return {"uid": uid, "via": via, "assertion": text, "until": until}

    async def login(self, untrusted: str, client: socket.socket) -> Reply:
        """Give a token for a password."""
        hours = self._policy.auth["token_hours"]
        if not hours:
            return {"error": 403, "message": "the policy gives no tokens (auth: token_hours)", "reason": "no tokens"}
        began, process = trio.current_time(), peer.of(client)
        credential = read(untrusted)
        if credential and credential.token:
            credential = None  # a token is not renewed by a token
        found = await self._password(credential, process, began)
        if isinstance(found, dict):
            return found
        token = Token(found, process.uid, _container(process), int(time.time()) + int(str(hours)) * 3600)
        try:
            word = self._tokens.issue(token, time.time())
        except OSError as error:
            return {"error": 503, "message": "tokens can't be kept now", "reason": str(error)}
        return {"uid": found, "token": word, "until": token.until}

    async def logout(self, untrusted: str, client: socket.socket, everything: bool) -> Reply:
        """Revoke the token that is presented, or all of its user's."""
        began, process = trio.current_time(), peer.of(client)
        credential = read(untrusted)
        token = credential and self._token(credential.token, process)
        if not token or not credential:
            return await self._fail(began, "no valid token")
        try:
            return {"uid": token.uid, "revoked": self._tokens.revoke(token.uid, "" if everything else credential.token)}
        except OSError as error:
            return {"error": 503, "message": "tokens can't be revoked now", "reason": str(error)}

    def _token(self, untrusted_word: str, process: Peer) -> Token | None:
        return self._tokens.find(untrusted_word, process.uid, _container(process), time.time())

    async def _password(self, credential: Credential | None, process: Peer, began: float) -> int | Reply:
        """Give the uid whose password it is, or the reply that refuses it."""
        now, by = trio.current_time(), f"{process.uid} {_container(process)}"
        user = credential.user if credential else ""
        if credential and user and self._right.get(self._digest(credential), 0.0) > now:
            return _uid(user) or await self._fail(began, "the account is gone")
        if not self._take(user, process, by, now):
            return {"error": 429, "message": BUSY, "reason": "rate limit"}
        if credential is None or not user:
            return await self._fail(began, "malformed, or no valid token")
        if self._passwords.statistics().tasks_waiting >= WAITING:
            return {"error": 429, "message": BUSY, "reason": "queue"}
        async with self._passwords:
            began = trio.current_time()
            try:
                code = await trio.to_thread.run_sync(
                    accounts.password, user, credential.password, limiter=trio.CapacityLimiter(1)
                )
            except accounts.NoPam as error:
                return {"error": 503, "message": "passwords can't be checked now", "reason": str(error)}
        uid = _uid(user)
        if code or not uid:
            return await self._fail(began, f"PAM {code}" if code else "root, or nobody")
        for limit, key in ((self._users, user), (self._pairs, f"{by} {user}"), (self._peers, by)):
            limit.give_back(key, now)
        if len(self._right) >= REMEMBERED:
            self._right.clear()
        self._right[self._digest(credential)] = trio.current_time() + REMEMBERED_SECONDS
        return uid

    def _take(self, user: str, process: Peer, by: str, now: float) -> bool:
        """Take an attempt of a peer's at a name, if there is one.

        Invariant: what others try never costs a person's own processes an attempt: they are not held to the name's.
        """
        if not self._peers.take(by, now):
            return False
        if not user:
            return True
        own = not process.containers and process.uid == _uid(user)
        return self._pairs.take(f"{by} {user}", now) and (own or self._users.take(user, now))

    async def _fail(self, began: float, reason: str) -> Reply:
        await trio.sleep_until(began + FLOOR)
        return {"error": 401, "message": WRONG, "reason": reason}

    def _digest(self, credential: Credential) -> bytes:
        return hmac.digest(self._secret, f"{credential.user}\0{credential.password}".encode(), hashlib.sha256)


def _container(process: Peer) -> str:
    return process.containers[0] if process.containers else ""


def _uid(user: str) -> int:
    """Give a user's uid; 0 for root and for who has none: neither logs in here."""
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        return 0
    return 0 if uid in NOBODY else uid
