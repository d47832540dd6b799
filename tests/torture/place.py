"""Where a round takes place: a directory, servers, file systems; all of it undone at the end."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.helpers.server import STOP_LIMIT_S, ServerError, ServerProcess

_CLONE_NEWNS: Final = 0x20000
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000
_PR_SET_CHILD_SUBREAPER: Final = 36
_EXT4_IOC_SHUTDOWN: Final = 0x8004587D
_COMMAND_LIMIT_S: Final = 60.0
_UMOUNT_TRIES: Final = 50

_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str) -> str:
    """Run a program and return what it prints.

    Raises:
        ServerError: It failed.
    """
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_COMMAND_LIMIT_S, check=False
    )
    if done.returncode:
        raise ServerError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def private_mounts() -> None:
    """Keep this process's mounts to itself: they go when it goes, however it goes.

    Only of use to root; to be called while there is one thread.
    """
    if os.geteuid() == 0 and _libc.unshare(_CLONE_NEWNS) == 0:
        _libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None)


def adopt_orphans() -> None:
    """Become the parent of what detaches itself from its own, so that it can be reaped."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


# ---- What may be in the way ---------------------------------------------------


def needs(*tools: str, root: bool = False) -> Callable[[], str | None]:
    """An obstacle: a tool is missing, or the rights of root are."""

    def obstacle() -> str | None:
        if root and os.geteuid() != 0:
            return "needs root"
        missing = [tool for tool in tools if shutil.which(tool) is None]
        return f"needs {', '.join(missing)}" if missing else None

    return obstacle


def needs_mounts(*, loop: bool = False) -> Callable[[], str | None]:
    """An obstacle: nothing can be mounted here."""

    def obstacle() -> str | None:
        tools = ("mount", "umount", *(("mkfs.ext4", "losetup") if loop else ()))
        reason = needs(*tools, root=True)()
        if reason is None and loop and not Path("/dev/loop-control").exists():
            reason = "needs loop devices"
        if reason is None:
            with contextlib.ExitStack() as stack:
                point = Path(stack.enter_context(_scratch()))
                try:
                    run("mount", "-t", "tmpfs", "mq-torture", str(point))
                except ServerError as error:
                    return f"can't mount: {error}"
                stack.callback(run, "umount", str(point))
        return reason

    return obstacle


def memory_controller() -> Path:
    """The directory of the control groups that limit memory, of either version.

    Raises:
        ServerError: There is none, or it is not to be changed by us.
    """
    root = Path("/sys/fs/cgroup")
    second = root / "cgroup.subtree_control"
    for path in (root / "memory", root):
        has = path != root or (second.exists() and "memory" in second.read_text().split())
        if has and path.is_dir() and os.access(path, os.W_OK):
            return path
    raise ServerError("no control group can limit memory here")


def _remove_group(path: Path) -> None:
    for _ in range(_UMOUNT_TRIES):
        try:
            path.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    path = Path(f"/tmp/mq-torture-probe-{os.getpid()}")
    path.mkdir(mode=0o700)
    try:
        yield str(path)
    finally:
        path.rmdir()


# ---- Servers ------------------------------------------------------------------


class TortureServer(ServerProcess):
    """A server that may run under another program, and that dies with this process."""

    def __init__(
        self,
        data_dir: Path,
        *args: str,
        prefix: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        listen: str = "127.0.0.1:0",
    ) -> None:
        """Prepare; ``prefix`` is a program that turns into the one it is given."""
        super().__init__(data_dir, *args, listen=listen, env=env)
        self.prefix = prefix
        self._tracer = 0

    def command(self) -> list[str]:
        """See `ServerProcess`."""
        dies_with_us = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        return [*dies_with_us, *self.prefix, *super().command()]

    def traced(self, *options: str) -> None:
        """Run it under strace from its next start on; with no options, not any more."""
        # -D: the server is our child, and strace the grandchild that detaches itself.
        self.prefix = ("strace", "-D", "-f", "-qq", "-o", "/dev/null", *options) if options else ()

    def started(self, limit_s: float = 30.0) -> bool:
        """Start it; False if it died before it listened.

        Raises:
            ServerError: It neither listens nor ends.
        """
        self.spawn()
        if self.prefix[:1] == ("strace",):
            self._note_tracer()
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            try:
                # Ends early if the process does.
                found = self.wait_for("listening", 0.5)
            except ServerError:
                if not self.running:
                    self.wait()
                    return False
            else:
                self.address = self._listen = str(found["address"])
                return True
        raise ServerError(f"it does not start within {limit_s:g} s")

    def _note_tracer(self) -> None:
        """Find the strace that traces it, to be reaped when it ends."""
        deadline = time.monotonic() + STOP_LIMIT_S
        while self.running and time.monotonic() < deadline:
            with contextlib.suppress(OSError, StopIteration):
                lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
                line = next(line for line in lines if line.startswith("TracerPid:"))
                self._tracer = int(line.split()[1])
                if self._tracer:
                    return
            time.sleep(0.01)

    def wait(self, limit_s: float = STOP_LIMIT_S) -> int:
        """See `ServerProcess`."""
        code = super().wait(limit_s)
        if self._tracer:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._tracer, 0)
            self._tracer = 0
        return code

    def wait_dead(self, limit_s: float) -> bool:
        """Wait for it to die; False at the limit."""
        deadline = time.monotonic() + limit_s
        while self.running:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        self.wait()
        return True

    def complaints(self) -> list[str]:
        """What it has logged that only a bug can be the reason of."""
        return [
            str(entry.get("raw") or entry)[:500]
            for entry in self.log
            if "raw" in entry or entry.get("event") in ("handler failed", "thread_failed")
        ]


# ---- File systems -------------------------------------------------------------


class Disk:
    """An ext4 file system in a file, on a loop device that goes with its mount.

    Args:
        image: The file, which is made.
        point: The directory to mount it on, which is made.
        size_bytes: Of the file, which takes no room until it is written to.
        page_requests: Write no more than a page at a time: of a longer write that
            runs out of room midway, Linux's loop driver says that it was whole.
    """

    def __init__(
        self, image: Path, point: Path, size_bytes: int, *, page_requests: bool = False
    ) -> None:
        self.image = image
        self.path = point
        self.mounted = False
        self._page_requests = page_requests
        with image.open("xb") as file:
            file.truncate(size_bytes)
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", str(image))
        point.mkdir(mode=0o700)

    def mount(self) -> None:
        """Mount it."""
        run("mount", "-o", "loop", str(self.image), str(self.path))
        self.mounted = True
        if self._page_requests:
            device = run("losetup", "-j", str(self.image), "-n", "-O", "NAME").strip()
            limit = Path("/sys/block") / Path(device).name / "queue/max_sectors_kb"
            limit.write_text("4")

    def unmount(self) -> None:
        """Unmount it, if it is mounted; nobody may be using it."""
        if self.mounted:
            unmount(self.path)
            self.mounted = False

    def shut_down(self, flag: int) -> None:
        """EXT4_IOC_SHUTDOWN: 0 writes everything back first, 1 the journal, 2 nothing."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _EXT4_IOC_SHUTDOWN, struct.pack("I", flag))
        finally:
            os.close(fd)


def unmount(path: Path) -> None:
    """Unmount a file system; a process that has just died may hold it for a moment."""
    for _ in range(_UMOUNT_TRIES):
        try:
            run("umount", str(path))
        except ServerError:
            time.sleep(0.1)
        else:
            return
    run("umount", "--lazy", str(path))


# ---- The place ----------------------------------------------------------------


class Place:
    """What one round may use.

    Attributes:
        path: An empty directory on a disk.
        number: Which round of its fault this is, from 0.
    """

    def __init__(self, path: Path, number: int, stack: contextlib.ExitStack) -> None:
        self.path = path
        self.number = number
        # Of what will be undone, last first.
        self.stack = stack
        self.servers: list[TortureServer] = []
        self._count = 0

    def _fresh(self, kind: str) -> Path:
        self._count += 1
        return self.path / f"{kind}-{self._count}"

    def server(
        self,
        *args: str,
        data_dir: Path | None = None,
        env: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        listen: str = "127.0.0.1:0",
    ) -> TortureServer:
        """A server, not started yet; killed at the end of the round."""
        where = data_dir or self._fresh("server") / "data"
        server = TortureServer(where, *args, env=env, prefix=prefix, listen=listen)
        self.servers.append(server)
        self.stack.callback(server.kill)
        return server

    def tmpfs(self, size_bytes: int) -> Path:
        """A file system in memory, of a limited size."""
        point = self._fresh("tmpfs")
        point.mkdir(mode=0o700)
        run("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "mq-torture", str(point))
        self.stack.callback(unmount, point)
        return point

    def memory_limit(self, limit_bytes: int) -> tuple[str, ...]:
        """A prefix that runs a server in a control group with so much memory."""
        group = memory_controller() / f"mq-torture-{os.getpid()}-{self.number}"
        group.mkdir()
        self.stack.callback(_remove_group, group)
        names = ("memory.max", "memory.limit_in_bytes")
        limit = next(group / name for name in names if (group / name).exists())
        limit.write_text(str(limit_bytes))
        return ("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group))

    def disk(
        self, size_bytes: int, image: Path | None = None, *, page_requests: bool = False
    ) -> Disk:
        """A mounted ext4 file system, by default in a file beside it; see `Disk`."""
        image = image or self._fresh("image")
        disk = Disk(image, self._fresh("disk"), size_bytes, page_requests=page_requests)
        self.stack.callback(disk.unmount)
        disk.mount()
        return disk
