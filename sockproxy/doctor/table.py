"""The checks of `sockproxy doctor`: one row each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from sockproxy.doctor import host, kernel, networks, pam, ways
from sockproxy.doctor.machine import Finding, Machine


class Check(NamedTuple):
    """Hold one row: a name, what holds when nothing is found, and how it is found."""

    name: str
    good: str
    find: Callable[[Machine], Iterator[Finding]]


CHECKS = (
    Check("daemon", "the Docker daemon answers", host.daemon),
    Check("daemon-socket", "only root can open the daemon's socket", ways.daemon_socket),
    Check("tcp", "the daemon listens on no TCP port", ways.tcp),
    Check("other-sockets", "no other socket makes who opens it root", ways.other_sockets),
    Check("containers", "no container has the daemon's socket", ways.containers),
    Check("networks", "no network takes the host's own traffic", networks.taken),
    Check("serving", "sockproxy answers", host.serving),
    Check("code", "only root can change what root runs", host.code),
    Check("accounts", "the unprivileged processes' users are in no further groups", host.accounts),
    Check("uids", "no uid has come to be another account's", host.uids),
    Check("pam", "PAM is asked by services of its own, which lock nobody out", pam.asked),
    Check("policy", "the policy is right and has no dangers", host.policy),
    Check("landlock", "processes can be confined", kernel.landlock),
    Check("mounts", "the kernel can idmap binds", kernel.mounts),
    Check("file-systems", "all places that roles may bind can be idmapped", kernel.file_systems),
    Check("pidfd", "the kernel hands out the caller's process", kernel.pidfd),
    Check("confinement", "the daemon confines and bounds containers", host.confinement),
    Check("audit-disk", "there is room for the record", host.audit_disk),
    Check("clock", "the clock is kept", host.clock),
    Check("limits", "there are descriptors enough", host.limits),
)
