"""Be the auth process: `python -I -m sockproxy.auth.process`.

SECURITY: has the group shadow and no other privilege, and reads nothing from clients but a user name, a password and a
token, of bounded size. It answers the front (passwords, tokens, for the client's socket that comes along) and root: its
helpers and its command (accounts). What it says of a connection it signs for that connection alone. It knows the peer
from the kernel, not from the front, and never tells, prints or keeps a password.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import sys
from collections.abc import AsyncIterator

import trio

from sockproxy.accept import accept
from sockproxy.activation import sockets
from sockproxy.auth import accounts
from sockproxy.auth.desk import Desk, Reply
from sockproxy.auth.tokens import Tokens
from sockproxy.auth.uids import Uids
from sockproxy_helpers.channel import wire
from sockproxy_helpers.channel.notify import Watchdog, notify
from sockproxy_helpers.errors import Refused
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system import peer
from sockproxy_helpers.system.confine import confine
from sockproxy_helpers.who import assertion

FRONT = "sockproxy"


def load_policy() -> Policy:
    """Load the compiled policy that the environment names."""
    with open(os.environ["SOCKPROXY_POLICY"], "rb") as file:
        return Policy(file.read())


async def serve(listener: socket.socket, desk: Desk) -> None:
    """Accept channels for ever."""
    async with trio.open_nursery() as channels:
        while True:
            channels.start_soon(_channel, await accept(listener, "auth"), desk)


async def _channel(channel: socket.socket, desk: Desk) -> None:
    """Serve one channel, a question at a time; who breaks the framing is cut off."""
    with channel:
        uid = peer.PEERCRED.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, peer.PEERCRED.size))[1]
        try:
            while True:
                await trio.lowlevel.wait_readable(channel)
                try:
                    message, fds = wire.receive(channel)
                except BlockingIOError:
                    continue
                client = socket.socket(fileno=fds[0]) if fds else None
                if not message:
                    break
                try:
                    header, _ = wire.unpack(message)
                    wire.send(channel, wire.pack(await _answer(desk, uid, header, client)), [])
                finally:
                    if client:
                        client.close()
        except (OSError, wire.WireError):
            pass
        except Exception:
            sys.excepthook(*sys.exc_info())


async def _answer(desk: Desk, uid: int, header: dict[str, object], client: socket.socket | None) -> Reply:
    question, words = header.get("ask"), [header.get(name, "") for name in ("authorization", "account", "token")]
    authorization, account, token = (word if isinstance(word, str) else "" for word in words)
    if uid == 0 and question == "account":
        return await desk.account(account)
    if uid == 0 and question == "accept":
        return desk.accept(account)
    if uid == 0 and question == "token":
        return desk.token(token)
    if uid != pwd.getpwnam(FRONT).pw_uid or client is None:
        raise wire.WireError("not the front, or without a client")
    if question == "identify":
        return await desk.identify(authorization, client)
    if question == "login":
        return await desk.login(authorization, client)
    if question == "logout":
        return await desk.logout(authorization, client, header.get("all") is True)
    raise wire.WireError("no such question")


async def run() -> None:
    """Serve until SIGTERM; SIGHUP loads the policy again."""
    policy = load_policy()
    try:
        accounts.prepare()
    except accounts.NoPam as error:
        if policy.auth["accounts"] != "none":
            raise SystemExit(f"{error} (or, in the policy file: `auth: {{accounts: none}}`)") from error
        print(f"sockproxy auth: no passwords: {error}", file=sys.stderr)
    state, faillock = os.environ["SOCKPROXY_STATE"], os.environ["SOCKPROXY_FAILLOCK"]
    desk = Desk(policy, Tokens(state), Uids(state), assertion.read_key(os.environ["SOCKPROXY_ASSERTION_KEY"]))
    listener = sockets()["auth"]
    listener.setblocking(False)
    if not confine((state, faillock)):
        print("sockproxy auth: this kernel has no Landlock: the auth process is not confined", file=sys.stderr)
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGHUP, signal.SIGTERM, signal.SIGINT) as signals:
            nursery.start_soon(serve, listener, desk)
            nursery.start_soon(_say_alive)
            notify("READY=1")
            await _obey(signals, desk)
        nursery.cancel_scope.cancel()


async def _say_alive() -> None:
    watchdog = Watchdog()
    while watchdog.pause:
        await trio.sleep(watchdog.pause)
        watchdog.alive()


async def _obey(signals: AsyncIterator[int], desk: Desk) -> None:
    async for number in signals:
        if number != signal.SIGHUP:
            return
        try:
            desk.load(load_policy())
        except (Refused, OSError) as error:
            print(f"sockproxy auth: the old policy stays: {error}", file=sys.stderr)


if __name__ == "__main__":
    trio.run(run)
