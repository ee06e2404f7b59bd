"""Give up for ever all system calls but those on a list (seccomp(2)); what is not on it fails with EPERM."""

from __future__ import annotations

import ctypes
import os
import struct

from sockproxy_helpers.api.operations import read_table

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_ALLOW, _KILL, _EPERM = 0x7FFF0000, 0x80000000, 0x00050001
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # struct seccomp_data
_INSTRUCTION = struct.Struct("HBBI")


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def allow_only(*processes: str) -> bool:
    """Allow this process, from here on, the calls that tables/syscalls.txt gives to processes of these names.

    Returns:
        False where the table does not know the architecture: nothing was given up.
    """
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        return False
    column = 2 + list(_ARCHITECTURES).index(machine)
    rows = [row for row in read_table("syscalls", 6) if row[0] in processes and row[column] != "-"]
    code = assemble(_ARCHITECTURES[machine], [(int(row[column]), row[4], row[5]) for row in rows])
    program = _Program(len(code) // _INSTRUCTION.size, code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "seccomp")
    return True


def assemble(architecture: int, calls: list[tuple[int, str, str]]) -> bytes:
    """Form the filter.

    Args:
        calls: number, and which argument must have which value, "-" for any; a number may come again.
    """
    code = [(_LOAD, 0, 0, _ARCHITECTURE_AT), (_JUMP_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    code.append((_LOAD, 0, 0, _NUMBER_AT))
    for number, argument, value in calls:
        if argument == "-":
            code += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
        else:  # both halves of the argument, the lower one first; then what follows looks at the number again
            at = _ARGUMENTS_AT + 8 * int(argument)
            code += [(_JUMP_EQUAL, 0, 6, number), (_LOAD, 0, 0, at), (_JUMP_EQUAL, 0, 3, int(value))]
            code += [(_LOAD, 0, 0, at + 4), (_JUMP_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
            code.append((_LOAD, 0, 0, _NUMBER_AT))
    code.append((_RETURN, 0, 0, _EPERM))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)
