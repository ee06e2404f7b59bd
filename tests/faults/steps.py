"""Follow a process from one step to the next, and kill it between two of them: by ptrace(2), so that nothing in the
product knows of it.

A step is a system call by which something outside of the process changes or comes in: a message is taken, a request
sent, a file written, a descriptor passed, a mount moved. What lies between two of them nobody else can see, so that
being killed before each of them is being killed everywhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator

STEPS = {  # by their numbers on x86_64 and aarch64; what only looks (openat, read) is no step
    "write": (1, 64), "writev": (20, 66), "close": (3, 57), "recvfrom": (45, 207), "recvmsg": (47, 212),
    "sendto": (44, 206), "sendmsg": (46, 211), "sendfile": (40, 71), "connect": (42, 203), "accept4": (288, 242),
    "shutdown": (48, 210), "splice": (275, 76), "fdatasync": (75, 83), "fsync": (74, 82), "rename": (82, -1),
    "renameat": (264, 38), "unlink": (87, -1), "unlinkat": (263, 35), "mkdir": (83, -1), "mkdirat": (258, 34),
    "rmdir": (84, -1), "fork": (57, -1), "clone": (56, 220), "clone3": (435, 435), "setfsuid": (122, 151),
    "setresuid": (117, 147), "open_tree": (428, 428), "mount_setattr": (442, 442), "move_mount": (429, 429),
    "umount2": (166, 39), "exit_group": (231, 94),
}  # fmt: skip
_NAMES = {numbers[os.uname().machine == "aarch64"]: name for name, numbers in STEPS.items()}
_AGAIN = -11  # -EAGAIN: nothing was there, nothing has happened
_SYSCALL, _SEIZE, _INTERRUPT, _DETACH, _EVENT, _INFO = 24, 0x4206, 0x4207, 17, 0x4201, 0x420E
_GOOD, _FORK, _VFORK, _CLONE = 1, 2, 4, 8  # PTRACE_O_TRACESYSGOOD and so on
_ENTRY, _EXIT = 1, 2
_WALL = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class _Info(ctypes.Structure):
    """Hold a struct ptrace_syscall_info, of an entry or of an exit."""

    _fields_ = (
        ("op", ctypes.c_uint8), ("pad", ctypes.c_uint8 * 3), ("arch", ctypes.c_uint32), ("ip", ctypes.c_uint64),
        ("sp", ctypes.c_uint64), ("value", ctypes.c_int64), ("more", ctypes.c_uint64 * 7),
    )  # fmt: skip


def _ptrace(request: int, tid: int, address: int = 0, data: object = None) -> int:
    found = int(_libc.ptrace(request, tid, address, data))
    if found < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")
    return found


class Stepper(threading.Thread):
    """Follow a process, its threads and what it forks, in a thread of one's own, until `end`.

    Attributes:
        taken: the steps, by their names, in their order.
        killed: it was killed before the next step.
    """

    def __init__(self, pid: int, limit: int | str | None = None, along: int = 0) -> None:
        """Begin.

        Args:
            limit: so many steps are let be, or those up to the first of this name; None for all.
            along: a process that is killed together with it; 0 for none.
        """
        super().__init__(daemon=True)
        self.taken: list[str] = []
        self.killed = False
        self._pid, self._limit, self._along = pid, limit, along
        self._followed: set[int] = set()
        self._inside: dict[int, str] = {}
        self._began, self._ending = threading.Event(), threading.Event()
        self._trouble: OSError | None = None
        self.start()
        self._began.wait()
        if self._trouble:
            raise self._trouble

    def end(self) -> None:
        """Let go of the process."""
        self._ending.set()
        self.join()

    def run(self) -> None:
        """See the class."""
        try:
            for tid in map(int, os.listdir(f"/proc/{self._pid}/task")):
                _ptrace(_SEIZE, tid, 0, _GOOD | _FORK | _VFORK | _CLONE)
                self._followed.add(tid)
                _ptrace(_INTERRUPT, tid)
        except OSError as error:
            self._trouble = error
        waiting = {*self._followed}  # until all have stopped once nobody is told that it has begun
        while self._followed and not self._ending.is_set():
            if not self._turn(waiting):
                time.sleep(0.0002)
            if not waiting:
                self._began.set()
        self._began.set()
        self._let_go()

    def _turn(self, waiting: set[int]) -> bool:
        """Look at each that is followed; tell whether one has stopped."""
        moved = False
        for tid in list(self._followed):
            try:
                found, status = os.waitpid(tid, os.WNOHANG | _WALL)
            except ChildProcessError:
                found, status = tid, 0
            if not found:
                continue
            moved = True
            waiting.discard(tid)
            if os.WIFSTOPPED(status):
                with contextlib.suppress(OSError):  # it is gone
                    self._stopped(tid, status)
            else:
                self._followed.discard(tid)
        return moved

    def _stopped(self, tid: int, status: int) -> None:
        number, event, passed = os.WSTOPSIG(status), status >> 16, 0
        if number == signal.SIGTRAP | 0x80:
            if self._step(tid):
                return
        elif event in (1, 2, 3):  # fork, vfork, clone
            child = ctypes.c_ulong()
            _ptrace(_EVENT, tid, 0, ctypes.addressof(child))
            self._followed.add(child.value)
        elif not event:
            passed = number  # a signal for it
        _ptrace(_SYSCALL, tid, 0, passed)

    def _step(self, tid: int) -> bool:
        """Count what was done; tell whether the process was killed before the next."""
        info = _Info()
        _ptrace(_INFO, tid, ctypes.sizeof(info), ctypes.addressof(info))
        if info.op == _ENTRY:
            name = _NAMES.get(info.value)
            self._inside.pop(tid, None)
            if name:
                self._inside[tid] = name
                if self._over():
                    self.killed = True
                    os.kill(tid, signal.SIGKILL)
                    if self._along:
                        os.kill(self._along, signal.SIGKILL)
                    return True
        elif info.op == _EXIT and (name := self._inside.pop(tid, None)) and info.value != _AGAIN:
            self.taken.append(name)
        return False

    def _over(self) -> bool:
        """Tell whether it has taken the steps that it may."""
        if isinstance(self._limit, str):
            return self._limit in self.taken
        return self._limit is not None and len(self.taken) >= self._limit

    def _let_go(self) -> None:
        """Detach from those that are left: each must stop for that; a leader ends after its threads."""
        for tid in self._followed:
            with contextlib.suppress(OSError):
                _ptrace(_INTERRUPT, tid)
        while self._followed:
            for tid in list(self._followed):
                try:
                    if not os.waitpid(tid, os.WNOHANG | _WALL)[0]:
                        continue
                    self._followed.discard(tid)
                    _ptrace(_DETACH, tid)
                except OSError:  # it has ended
                    self._followed.discard(tid)
            time.sleep(0.0002)


@contextlib.contextmanager
def stepping(pid: int, limit: int | str | None = None, along: int = 0) -> Iterator[Stepper]:
    """Follow a process meanwhile."""
    one = Stepper(pid, limit, along)
    try:
        yield one
    finally:
        one.end()


__all__ = ["STEPS", "Stepper", "stepping"]
