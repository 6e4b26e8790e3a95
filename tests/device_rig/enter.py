"""Enter a board: run one shell command in it, under proot as BOARD.json says. Standard library only; a script.

    python enter.py BOARD.json [COMMAND]      without COMMAND: what an SSH server was asked for, or a shell

proot 5.1 does not know the system calls that came after it and would let them see the machine's own files. They are answered
with "not implemented" here; qemu and the C library then use the older ones, which proot translates.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys

_UNKNOWN_TO_PROOT = {"renameat2": 316, "execveat": 322, "statx": 332, "openat2": 437, "faccessat2": 439, "fchmodat2": 452}
_X86_64 = 0xC000003E
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF: load a word of the call, compare, decide
_ALLOW, _ENOSYS = 0x7FFF0000, 0x00050000 | 38
_STATUS = 9  # the shell in the board says here how the command ended
# nothing on the board is to see what is meant for proot
_RUN = f'unset LD_LIBRARY_PATH PROOT_TMP_DIR EDGEGEN_DEVICE_RIG; (eval "$1") {_STATUS}>&-; echo $? >&{_STATUS}'
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2


def main(arguments: list[str]) -> int:
    """Return the exit code of the command as soon as it ends, whatever it left running: proot itself would wait for that."""
    with open(arguments[0], encoding="utf-8") as file:
        board = json.load(file)
    command = " ".join(arguments[1:]) or os.environ.get("SSH_ORIGINAL_COMMAND") or "exec sh -l"
    refuse_unknown_calls()
    said, saying = os.pipe()
    line = [*board["proot"], "/bin/sh", "-c", _RUN, "sh", command]
    proot = os.fork()
    if proot == 0:
        os.dup2(saying, _STATUS)
        os.execve(line[0], line, board["environment"])
    os.close(saying)
    code = os.read(said, 16).strip()  # nothing if proot cannot start
    return int(code) if code else os.waitstatus_to_exitcode(os.waitpid(proot, 0)[1]) or 1


def refuse_unknown_calls() -> None:
    """Let the kernel answer the calls that proot does not know, for this process and all that come of it."""
    calls = list(_UNKNOWN_TO_PROOT.values())
    steps = [(_LOAD, 0, 0, 4), (_JUMP_IF_EQUAL, 0, len(calls) + 1, _X86_64), (_LOAD, 0, 0, 0)]
    steps += [(_JUMP_IF_EQUAL, len(calls) - index, 0, call) for index, call in enumerate(calls)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ENOSYS)]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(held)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, ctypes.addressof(program), 0, 0)):
        if libc.prctl(call[0], *map(ctypes.c_ulong, call[1:])) != 0:
            sys.exit(f"enter.py: the kernel refuses a filter of system calls: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
