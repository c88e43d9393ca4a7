"""Linux's own means to shut a process in, for `inside`: namespaces, mounts, capabilities, limits and a filter of calls.

Only the standard library, and nothing of this package: it is loaded in the sandbox, where the package is not on disk.
Every function raises OSError, with what was refused in words, if the kernel does not let it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import struct
import sys
from collections.abc import Iterator

NOBODY = 65534
MACHINES = ("x86_64", "aarch64")  # those whose numbers of system calls stand below

_NEW_NAMESPACES = {"mount": 0x00020000, "ipc": 0x08000000, "user": 0x10000000, "process": 0x20000000}
_NEW_MOUNTS = _NEW_NAMESPACES["mount"]
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_PROGRAMS, _RECURSIVE, _PRIVATE = 1, 2, 4, 8, 0x4000, 0x40000
_PDEATHSIG, _DUMPABLE, _SECCOMP, _DROP_BOUND, _NO_NEW_PRIVILEGES, _AMBIENT = 1, 4, 22, 24, 38, 47
_PERTURB = -6


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(what: str, name: str, *arguments: object) -> None:
    ctypes.set_errno(0)
    if getattr(_libc(), name)(*(ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(what: str, *arguments: int) -> None:
    _call(what, "prctl", *(*arguments, 0, 0, 0, 0)[:5])


# ---------------------------------------------------------------------------------------------------------- namespaces


def become_nobody() -> None:
    """Root gives its rights up for good; everybody else has none to give."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        _prctl("to keep /proc/self", _DUMPABLE, 1)  # which changing the user has taken away, and `own_namespaces` needs


def own_namespaces() -> None:
    """Users, mounts, shared memory and (for children) process numbers of its own.

    There is no network in here already.
    """
    user, group = os.getuid(), os.getgid()
    flags = sum(_NEW_NAMESPACES.values())
    _call("a sandbox inside the sandbox (user namespaces)", "unshare", flags)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def hide_processes() -> None:
    """No /proc: nothing of another process, nor of the kernel, can be read there."""
    _call("a private copy of the mounts", "mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)
    _tmpfs("/proc", "size=4k,nr_inodes=1,mode=555", _READ_ONLY)


def own_temporary_files(size: int) -> None:
    """An empty /tmp of this size in bytes, gone with the last process that sees it."""
    _call("mounts of its own", "unshare", _NEW_MOUNTS)
    _tmpfs("/tmp", f"size={size},nr_inodes=4096,mode=1777")
    os.chdir("/tmp")


def _tmpfs(place: str, options: str, flags: int = 0) -> None:
    flags |= _NO_SUID | _NO_DEVICES | _NO_PROGRAMS
    _call(f"an empty {place}", "mount", b"tmpfs", place.encode(), b"tmpfs", flags, options.encode())


def die_with_parent() -> None:
    """To be said anew after a fork. Where there is no Linux there are no walls either, and it is left out."""
    if sys.platform == "linux":
        _prctl("to end with its parent", _PDEATHSIG, 9)


def wipe_freed_memory(on: bool) -> None:
    """Overwrite whatever is freed from now on, so that nothing of it is found again: of code that was read, say.

    It is the C library that does so, with which Python must work in place of its own stores (`bwrap.environment`).
    """
    if sys.platform == "linux":
        _libc().mallopt(_PERTURB, 0xA5 if on else 0)


def hide_memory() -> None:
    """Nobody may trace this process or look into it."""
    _prctl("to hide its memory", _DUMPABLE, 0)


# --------------------------------------------------------------------------------------------------------------- rights


def drop_rights() -> None:
    """No capabilities, none to be had again, and no system calls that an answer to a quiz never needs."""
    for capability in range(64):
        if _libc().prctl(ctypes.c_ulong(_DROP_BOUND), ctypes.c_ulong(capability), 0, 0, 0) < 0:
            break  # past the last one that this kernel knows
    _prctl("to drop ambient capabilities", _AMBIENT, 4)
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    _call("to drop capabilities", "capset", header, ctypes.create_string_buffer(24))
    _prctl("to renounce new rights", _NO_NEW_PRIVILEGES, 1)
    _filter_calls()


# Numbers on x86_64 and on aarch64; None where there is no such call.
_REFUSED = {
    # other ways to mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "process_madvise": (440, 440),
    # memory that no limit counts
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # what widens the kernel's surface
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
_CLONE, _CLONE3, _SOCKET, _PRLIMIT = (56, 220), (435, 435), (41, 198), (302, 261)
_ARCHITECTURES = (0xC000003E, 0xC00000B7)
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38
_ANY_NAMESPACE = 0x7E020000  # every CLONE_NEW… flag
_UNIX = 1


def _filter_calls() -> None:
    machine = MACHINES.index(platform.machine())
    program = b"".join(_program(machine))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

    filled = Program(len(program) // 8, program)
    _call("a filter of system calls", "prctl", _SECCOMP, 2, ctypes.byref(filled), 0, 0)


def _program(machine: int) -> Iterator[bytes]:
    """Classic BPF, one instruction at a time."""

    def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    number, architecture, first_argument = 0, 4, 16
    refuse = step(give, _ERROR | _EPERM)
    yield step(load, architecture)
    yield step(equal, _ARCHITECTURES[machine], yes=1)
    yield step(give, _KILL)
    yield step(load, number)
    yield step(at_least, 0x40000000, no=1)  # x86's other table of calls
    yield refuse
    for numbers in _REFUSED.values():
        yield step(equal, numbers[machine], no=1)
        yield refuse
    yield step(equal, _CLONE3[machine], no=1)  # its flags cannot be seen from here; libraries fall back to clone
    yield step(give, _ERROR | _ENOSYS)
    for call, test, value, refused_if in (
        (_CLONE, any_bit, _ANY_NAMESPACE, True),
        (_SOCKET, equal, _UNIX, False),
        (_PRLIMIT, equal, 0, False),  # its own limits only
    ):
        yield step(equal, call[machine], no=4)
        yield step(load, first_argument)
        yield step(test, value, yes=0 if refused_if else 1, no=1 if refused_if else 0)
        yield refuse
        yield step(load, number)
    yield step(give, _ALLOW)


# --------------------------------------------------------------------------------------------------------------- limits


def limit(memory: int, cpu: int, processes: int, file: int) -> None:
    """Hard limits of this process and of those that it starts.

    memory: bytes that may come on top of what it has mapped now;  cpu: seconds;  processes: with threads;
    file: bytes of one file.
    """
    import resource

    bounds = {
        resource.RLIMIT_AS: mapped() + memory,
        resource.RLIMIT_NPROC: processes,
        resource.RLIMIT_FSIZE: file,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for which, bound in bounds.items():
        resource.setrlimit(which, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))  # first a signal that says why, then the end


_mapped_at_start = 0


def mapped() -> int:
    """Bytes of address space in use, as of the last `remember_mapped`: later there is no /proc."""
    return _mapped_at_start


def remember_mapped() -> None:
    global _mapped_at_start
    with open("/proc/self/statm") as file:
        _mapped_at_start = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


class Watch:
    """How much memory the processes of one submission hold: all that came after it was made.

    It keeps the sandbox's own /proc, which shows every process, before `hide_processes` takes it away.
    """

    def __init__(self) -> None:
        self.folder = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.before = set(os.listdir(self.folder))

    def memory(self) -> int:
        """Bytes that are no file's, of all of them together; pages shared after a fork count for each."""
        return sum(self._of(name) for name in os.listdir(self.folder) if name.isdigit() and name not in self.before)

    def _of(self, process: str) -> int:
        try:
            file = os.open(f"{process}/status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.folder)
        except OSError:
            return 0  # it has just ended
        try:
            lines = os.read(file, 8192).split(b"\n")
        except OSError:
            return 0
        finally:
            os.close(file)
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith((b"RssAnon:", b"RssShmem:")))
