"""Kernels that another process compiles: the same binaries, the same refusals, and crashes that stay there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from rooftile.runtime import compile_client
from rooftile.runtime.build import CompileError, compile_kernel
from rooftile.runtime.compile_client import CompileClient
from rooftile.runtime.compile_server import binary_in
from tests.runtime import kernels

ARCH = 90


@pytest.fixture(scope="module")
def client() -> Iterator[CompileClient]:
    client = CompileClient()
    yield client
    client.close()


@pytest.mark.parametrize("name", ["gather", "descriptor_matmul"])
def test_a_binary_is_what_it_is_in_this_process(name: str, client: CompileClient) -> None:
    kernel = kernels.ALL[name]
    assert client.compile(kernel, ARCH) == compile_kernel(kernel, ARCH)


def test_all_of_a_kernel_that_its_binary_has_gets_there(client: CompileClient) -> None:
    kernel = replace(kernels.gather(), waits=True, num_warps=2, num_stages=3, most_programs=7, notes=("a note",))
    binary = client.compile(kernel, ARCH)
    assert binary == compile_kernel(kernel, ARCH) and binary.waits and binary.num_warps == 2


def test_many_threads_get_each_its_own(client: CompileClient) -> None:
    wanted = [replace(kernels.gather(), num_warps=warps) for warps in (1, 2, 4, 8)]
    with ThreadPoolExecutor(4) as pool:
        assert [b.num_warps for b in pool.map(lambda kernel: client.compile(kernel, ARCH), wanted)] == [1, 2, 4, 8]


def test_a_refusal_has_the_compilers_words(client: CompileClient) -> None:
    kernel = kernels.gather()
    wrong = replace(kernel, source=kernel.source.replace("tl.load(", "tl.no_such_thing("))
    with pytest.raises(CompileError) as there:
        client.compile(wrong, ARCH)
    with pytest.raises(CompileError) as here:
        compile_kernel(wrong, ARCH)
    assert there.value.what == here.value.what and "no_such_thing" in here.value.what


def test_a_crash_of_the_compiler_is_an_error_and_no_more(client: CompileClient) -> None:
    kernel = kernels.gather()
    with pytest.raises(CompileError, match=r"`gather` for sm_90: Triton's compiler crashed"):
        client.compile(replace(kernel, source="import os\nos.abort()\n" + kernel.source), ARCH)
    assert client.compile(kernel, ARCH).symbol == "gather"


def test_variables_that_the_compiler_reads_are_those_of_now(
    client: CompileClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = client.compile(kernels.gather(), ARCH)
    monkeypatch.setenv("DISABLE_PTXAS_OPT", "1")
    assert client.compile(kernels.gather(), ARCH).cubin != usual.cubin
    monkeypatch.delenv("DISABLE_PTXAS_OPT")
    assert client.compile(kernels.gather(), ARCH) == usual


def test_a_process_that_has_ended_is_started_again() -> None:
    client = CompileClient()
    first = client.compile(kernels.gather(), ARCH)
    assert client._server is not None
    client._server.kill()
    client._server.wait()
    assert client.compile(kernels.gather(), ARCH) == first
    client.close()
    assert client.compile(kernels.gather(), ARCH) == first
    client.close()


def test_a_module_of_the_users_is_not_taken_for_pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("copy", "typing", "random"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('the model of a user')\n")
    monkeypatch.syspath_prepend(tmp_path)
    client = CompileClient()
    assert client.compile(kernels.gather(), ARCH).symbol == "gather"
    assert client._server is not None and client._server.poll() is None
    client.close()


def test_a_process_that_ends_at_once_is_no_crash_of_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise ImportError('nothing can start with this')\n")
    monkeypatch.setattr(compile_client, "_search_path", lambda: str(tmp_path))
    client = CompileClient()
    assert client.compile(kernels.gather(), ARCH).symbol == "gather"
    assert client._server is not None and client._server.returncode == 1
    client.close()


def test_where_no_process_can_be_started_this_one_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    client = CompileClient()
    assert client.compile(kernels.gather(), ARCH).symbol == "gather"
    assert client._server is None


def test_an_answer_that_did_not_come_is_none() -> None:
    assert binary_in(b"") is None


CODE = """
import os, sys
from rooftile.runtime.compile_client import compile_client
from tests.runtime import kernels
compile_client().compile(kernels.gather(), 90)
print(compile_client()._server.pid, "triton" in sys.modules, flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)"])
def test_it_ends_with_the_one_who_asked_who_has_not_loaded_triton(end: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = [sys.executable, "-c", CODE.format(end=end)]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False, timeout=60)
    server, loaded = done.stdout.split()
    assert done.returncode == (-signal.SIGKILL if end else 0) and loaded == "False"
    until = time.monotonic() + 10
    while _runs(int(server)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(int(server))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
