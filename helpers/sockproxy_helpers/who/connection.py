"""Make sure that a socket is a client's.

SECURITY: the front hands the clients' sockets to the root helpers, and identity comes from whoever is at the other end.
So a helper first makes sure that the socket is a connection accepted from our own listener: other sockets have "peers"
too, and root is the peer of many.
"""

from __future__ import annotations

import socket

from sockproxy_helpers.errors import Refused
from sockproxy_helpers.system import peer

_verified: dict[int, str] = {}  # by the socket's cookie, the listener's path


def verify_client(sock: socket.socket, listen_path: str) -> None:
    """Check that an untrusted front's socket is a connection that was accepted from our listener.

    Each line closes one way to show somebody else's credentials. What the lines can not tell apart is a stream
    socketpair of root's making that the front binds to the same path in a mount namespace of its own: so the front is
    never given one, and Landlock keeps it from mounting and from making sockets in the file system (`confine`).

    What was found holds for as long as there is the socket: neither kind nor own name of a connected one change, and a
    name that its peer takes later makes it nobody else.

    Args:
        listen_path: the path that users connect to, as it was bound.

    Raises:
        Refused: it is something else.
    """
    cookie = peer.cookie_of(sock)
    if _verified.get(cookie) == listen_path:
        return
    try:
        if _option(sock, socket.SO_DOMAIN) != socket.AF_UNIX:
            raise _refused("not an AF_UNIX socket")
        if _option(sock, socket.SO_TYPE) != socket.SOCK_STREAM:
            raise _refused("not a stream socket")
        if _option(sock, socket.SO_ACCEPTCONN):
            raise _refused("a listening socket")  # its "peer" is whoever called listen(): root
        if sock.getsockname() != listen_path:
            raise _refused("not accepted from our listener")  # a socketpair, or another service's connection
        # A client's end can be bound to the same text in another mount namespace; then the peer is the service it
        # connected to, perhaps root's. A service has a name. People's clients do not bind theirs.
        if sock.getpeername() != "":
            raise _refused("not the accepting end, or a client with an address of its own")
    except OSError as error:  # getpeername of one that was never connected
        raise _refused(f"not a connected socket: {error.strerror}") from error
    if len(_verified) >= peer.REMEMBERED:
        del _verified[next(iter(_verified))]
    _verified[cookie] = listen_path


def _option(sock: socket.socket, option: int) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, option)


def _refused(why: str) -> Refused:
    return Refused("", f"the connection handed over is no client's: {why}")
