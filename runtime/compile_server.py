"""The process that compiles kernels for another one: it has loaded Triton once, and forks a child for each kernel.

So compilers run on all cores, where threads of one process would wait for one another in what Triton does with the
interpreter's lock held; and what breaks a compiler breaks nothing else.

``python -m rooftile.runtime.compile_server FD`` takes sockets that come over the one numbered ``FD``, until the other
end closes it or long asks for nothing. Over each comes one request, and its answer goes back; ``compile_client`` is
the other end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any

from rooftile.codegen.kernel import Blocks, Kernel, KernelParam
from rooftile.runtime.archive import pack, unpack
from rooftile.runtime.binary import Binary
from rooftile.runtime.build import CompileError, compile_kernel

IDLE = 120.0  # seconds without a request after which the process ends; the next request starts another one
READ_BY_COMPILERS = ("TRITON_", "MLIR_", "LLVM_", "DISABLE_")  # how variables begin that have a say in a binary
_NOT_COMPILED = frozenset({"params", "grid", "notes"})  # of a kernel's fields: params go in another form
_BINARY, _REFUSED = b"B", b"R"

_FIRST = """\
import triton
import triton.language as tl


@triton.jit
def first(x_ptr):
    i = tl.arange(0, 128)
    tl.store(x_ptr + i, tl.load(x_ptr + i) + 1.0)
"""


def request_of(kernel: Kernel, arch: int, environ: Mapping[str, str] = os.environ) -> bytes:
    """What is sent for a kernel: what its binary depends on."""
    params = [asdict(p) | {"blocks": None if p.blocks is None else p.blocks.tile} for p in kernel.params]
    environ = {name: value for name, value in environ.items() if name.startswith(READ_BY_COMPILERS)}
    told = {f.name: getattr(kernel, f.name) for f in fields(kernel) if f.name not in _NOT_COMPILED} | {"params": params}
    return json.dumps({"kernel": told, "arch": arch, "environ": environ}).encode()


def binary_in(answer: bytes) -> Binary | None:
    """The binary in an answer; None where it is empty, as it is after a compiler's end.

    Raises CompileError where the kernel was refused.
    """
    if answer.startswith(_REFUSED):
        raise CompileError(answer[1:].decode())
    return unpack(answer[1:]) if answer else None


def serve(requests: socket.socket) -> None:
    """Fork a child for each socket that comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asks is interrupted, and closes
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    first = Kernel("first", _FIRST, (KernelParam("x_ptr", "buffer", "f32"),), (1,))
    with suppress(CompileError):  # who asks will be told what is the matter
        compile_kernel(first, 80)  # loads what all need
    requests.settimeout(IDLE)
    while True:
        try:
            _, numbers, _, _ = socket.recv_fds(requests, 1, 1)
        except TimeoutError:
            return
        if not numbers:
            return
        with socket.socket(fileno=numbers[0]) as connection:
            if os.fork() == 0:
                _child(connection)


def _child(connection: socket.socket) -> None:
    """Answer one request, and end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ptxas is waited for
    with suppress(OSError):  # nobody wants the answer any more
        connection.settimeout(None)
        connection.sendall(_answer(_received(connection)))
    os._exit(0)


def _answer(request: bytes) -> bytes:
    told = json.loads(request)
    for name in [name for name in os.environ if name.startswith(READ_BY_COMPILERS)]:
        del os.environ[name]
    os.environ.update(told["environ"])
    try:
        return _BINARY + pack(compile_kernel(_kernel(told["kernel"]), told["arch"]), "", {})
    except CompileError as error:
        return _REFUSED + error.what.encode()


def _kernel(told: Mapping[str, Any]) -> Kernel:
    params = tuple(
        KernelParam(**{**p, "blocks": None if p["blocks"] is None else Blocks("", 0, (), (), tuple(p["blocks"]))})
        for p in told["params"]
    )
    return Kernel(**{**told, "params": params}, grid=(1,))


def _received(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(2**16):
        parts.append(part)
    return b"".join(parts)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
