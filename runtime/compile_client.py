"""Compiling kernels in other processes: the end that asks. ``compile_server`` is the one that answers."""

from __future__ import annotations

import atexit
import logging
import os
import socket
import subprocess
import sys
import sysconfig
import threading
from contextlib import suppress
from functools import cache

from rooftile.codegen.kernel import Kernel
from rooftile.runtime.binary import Binary
from rooftile.runtime.build import CompileError, compile_kernel
from rooftile.runtime.compile_server import binary_in, request_of

log = logging.getLogger(__name__)

ENDING = 1.0  # seconds that the process may take to end once it has stopped to answer


class CompileClient:
    """Compiles kernels in children of a process of its own, which is started when it is first needed, or before.

    For any number of threads at once: a thread that waits for its kernel holds no lock. Where there can be no such
    process, kernels are compiled in this one.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._owner = 0
        self._impossible = False

    def start(self) -> None:
        """Begin to load Triton there, if that has not begun; returns at once."""
        with self._guard:
            if not self._impossible and not self._is_up():
                self._start()

    def compile(self, kernel: Kernel, arch: int) -> Binary:
        """As ``compile_kernel``, without Triton in this process. Raises CompileError also where a compiler crashed."""
        for _ in range(2):  # once more if the process was just about to end, having long had nothing to do
            self.start()
            connection = self._connected()
            if connection is None:
                break
            with connection:
                binary = _asked(connection, kernel, arch)
            if binary is not None:
                return binary
            if self._server is not None and not _ends(self._server):
                raise CompileError(f"kernel `{kernel.name}` for sm_{arch}: Triton's compiler crashed")
        return compile_kernel(kernel, arch)

    def close(self) -> None:
        """End the process; the next kernel starts another one."""
        with self._guard:
            if self._requests is not None:
                self._requests.close()
            if self._server is not None and self._owner == os.getpid():
                self._server.wait()
            self._server = self._requests = None

    def _connected(self) -> socket.socket | None:
        """A socket to a new child of the process; None where there is no process."""
        requests = self._requests
        if requests is None:
            return None
        mine, theirs = socket.socketpair()
        with theirs, suppress(OSError):  # it has ended, and nothing will come
            socket.send_fds(requests, [b"k"], [theirs.fileno()])
        return mine

    def _is_up(self) -> bool:
        return self._server is not None and self._owner == os.getpid() and self._server.poll() is None

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "rooftile.runtime.compile_server", str(theirs.fileno())]
            environ = os.environ | {"PYTHONPATH": _search_path()}
            try:
                self._server = subprocess.Popen(
                    command,
                    env=environ,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for this process, which closes
                )
            except OSError as error:
                log.warning("kernels are compiled in this process, since none can be started for it: %s", error)
                self._impossible = True
                ours.close()
                return
        self._requests, self._owner = ours, os.getpid()


def _ends(server: subprocess.Popen[bytes]) -> bool:
    """Whether it was the process that ended, not a child of it."""
    try:
        server.wait(ENDING)
    except subprocess.TimeoutExpired:
        return False
    return True


def _search_path() -> str:
    """Where the process finds modules: as this one does, but in Python's own library first. A folder of the user's may
    hold a ``copy.py``, which matters to no process that has loaded Python's, and to one that starts."""
    library, platform = sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")
    return os.pathsep.join([library, platform, os.path.join(platform, "lib-dynload"), *sys.path])


def _asked(connection: socket.socket, kernel: Kernel, arch: int) -> Binary | None:
    parts = []
    try:
        connection.sendall(request_of(kernel, arch))
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(2**16):
            parts.append(part)
    except OSError:
        return None
    return binary_in(b"".join(parts))


@cache
def compile_client() -> CompileClient:
    """The process's one client."""
    client = CompileClient()
    atexit.register(client.close)
    return client
