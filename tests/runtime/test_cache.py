"""The kernel cache: what is kept, what invalidates it, and that threads, processes and damage end well."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rooftile.codegen.kernel import Kernel
from rooftile.runtime.archive import unpack
from rooftile.runtime.binary import Binary
from rooftile.runtime.build import CompileError, compile_kernel
from rooftile.runtime.cache import CacheStats, KernelCache
from rooftile.runtime.cache_key import cache_key
from rooftile.target import target_named
from tests.runtime import kernels

H100 = target_named("h100")
KERNEL = kernels.gather()


class Compiler:
    """Stands for Triton's compiler where a test is about the cache: slow enough to be overtaken, and counting."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, kernel: Kernel, arch: int) -> Binary:
        self.calls += 1
        time.sleep(0.05)
        return Binary(kernel.name, arch, ("ptr",), 4, 1024, 0, 1, kernel.source.encode() * 20, "module {}")


@pytest.fixture
def compiler() -> Compiler:
    return Compiler()


def test_a_kernel_is_compiled_once_and_then_found(tmp_path: Path, compiler: Compiler) -> None:
    first = KernelCache(tmp_path, compiler)
    binary = first.get_or_build(KERNEL, H100)
    assert first.get_or_build(KERNEL, H100) is binary
    assert first.stats() == CacheStats(memory_hits=1, built=1)
    second = KernelCache(tmp_path, compiler)
    assert second.get_or_build(KERNEL, H100) == binary
    assert second.stats() == CacheStats(disk_hits=1)
    assert compiler.calls == 1


def test_an_entry_can_be_read_by_people(tmp_path: Path, compiler: Compiler) -> None:
    cache = KernelCache(tmp_path, compiler)
    cache.get_or_build(KERNEL, H100)
    (entry,) = cache.entries()
    with zipfile.ZipFile(entry) as archive:
        assert archive.read("kernel.py").decode() == KERNEL.source
        assert '"num_warps": 4' in archive.read("launch.json").decode()


def changed(**fields: object) -> Kernel:
    return replace(KERNEL, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        changed(num_warps=8),
        changed(num_stages=4),
        changed(source=KERNEL.source.replace("64", "128")),
        changed(params=(*KERNEL.params[:3], kernels.size("width", "i32"))),
        changed(params=(*KERNEL.params[:3], kernels.size("width", "i64", aligned=False))),
    ],
)
def test_what_changes_the_binary_changes_the_key(other: Kernel) -> None:
    assert cache_key(other, 90) != cache_key(KERNEL, 90)


def test_the_architecture_and_the_compilers_settings_are_in_the_key() -> None:
    key = cache_key(KERNEL, 90, {})
    assert key != cache_key(KERNEL, 80, {})
    assert key != cache_key(KERNEL, 90, {"DISABLE_PTXAS_OPT": "1"})
    assert key == cache_key(KERNEL, 90, {"HOME": "/elsewhere"})


def test_comments_and_the_self_check_are_not_in_the_key() -> None:
    told = f'"""From model.py:12."""\n# line 12\n{KERNEL.source}\n\nif __name__ == "__main__":\n    print("check")\n'
    assert cache_key(changed(source=told), 90) == cache_key(KERNEL, 90)
    commented = KERNEL.source.replace("    row = ", "    # the row\n\n    row = ")
    assert cache_key(changed(source=commented), 90) == cache_key(KERNEL, 90)


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:  # headers hold bytes that mean nothing
        info = archive.getinfo("kernel.cubin")
    middle = info.header_offset + len(info.FileHeader()) + info.compress_size // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def encrypted(content: bytes) -> bytes:
    """One bit says that the first member is."""
    at = content.index(b"PK\x01\x02") + 8
    return content[:at] + bytes([content[at] | 1]) + content[at + 1 :]


def compressed_otherwise(content: bytes) -> bytes:
    at = content.index(b"PK\x01\x02") + 10
    return content[:at] + bytes([zipfile.ZIP_BZIP2]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage", [encrypted, compressed_otherwise, truncated, flipped, lambda _: b"", lambda _: b"PK garbage"]
)
def test_a_damaged_entry_is_rebuilt(
    tmp_path: Path, compiler: Compiler, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    binary = KernelCache(tmp_path, compiler).get_or_build(KERNEL, H100)
    cache = KernelCache(tmp_path, compiler)
    (entry,) = cache.entries()
    entry.write_bytes(damage(entry.read_bytes()))
    assert cache.get_or_build(KERNEL, H100) == binary
    assert cache.stats() == CacheStats(built=1, damaged=1)
    assert str(entry) in caplog.text
    assert unpack(entry.read_bytes()) == binary


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, compiler: Compiler) -> None:
    (tmp_path / "file").write_text("in the way")  # a file where a folder is needed: nobody may write, root included
    cache = KernelCache(tmp_path / "file", compiler)
    with pytest.warns(UserWarning, match="ROOFTILE_CACHE_DIR"):
        cache.get_or_build(KERNEL, H100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.get_or_build(changed(num_warps=8), H100)
    assert compiler.calls == 2 and cache.stats().unwritten > 0


def test_a_disk_that_is_full_keeps_no_part_of_an_entry(
    tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = KernelCache(tmp_path, compiler)
    monkeypatch.setattr("os.replace", full)
    with pytest.warns(UserWarning, match="No space left"):
        cache.get_or_build(KERNEL, H100)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == [".lock"]


def test_a_folder_that_is_deleted_meanwhile_has_no_entries(
    tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = KernelCache(tmp_path, compiler)
    cache.get_or_build(KERNEL, H100)
    (entry,) = cache.entries()
    look = os.scandir

    def deleted(path: Any) -> Any:
        if Path(path).name == entry.parent.name:
            raise FileNotFoundError(path)
        return look(path)

    monkeypatch.setattr(os, "scandir", deleted)
    assert cache.entries() == []


def test_a_folder_without_locks_is_used_all_the_same(
    tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("rooftile.runtime.cache.fcntl.flock", refuse)
    KernelCache(tmp_path, compiler).get_or_build(KERNEL, H100)
    assert len(KernelCache(tmp_path, compiler).entries()) == 1


def test_threads_compile_a_kernel_once(tmp_path: Path, compiler: Compiler) -> None:
    cache = KernelCache(tmp_path, compiler)
    start = threading.Barrier(8)

    def ask(_: int) -> Binary:
        start.wait()
        return cache.get_or_build(KERNEL, H100)

    with ThreadPoolExecutor(8) as pool:
        binaries = list(pool.map(ask, range(8)))
    assert compiler.calls == 1
    assert all(binary is binaries[0] for binary in binaries)


PROCESS = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from rooftile.runtime.cache import KernelCache
    from rooftile.target import target_named
    from tests.runtime import kernels
    from tests.runtime.test_cache import Compiler
    folder, start = Path(sys.argv[1]), float(sys.argv[2])
    cache = KernelCache(folder, Compiler())
    time.sleep(max(0.0, start - time.time()))
    cache.get_or_build(kernels.gather(), target_named("h100"))
    print(cache.stats().built)
""")


def test_processes_compile_a_kernel_once(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", PROCESS, str(tmp_path), str(time.time() + 4)]
    running = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    built = [int(process.communicate(timeout=60)[0]) for process in running]
    assert sum(built) == 1
    (entry,) = KernelCache(tmp_path).entries()
    assert unpack(entry.read_bytes()).symbol == "gather"
    assert [path.name for path in entry.parent.iterdir() if path.name.startswith(".partial")] == []


def test_a_failed_compilation_is_not_kept(tmp_path: Path) -> None:
    def refuse(kernel: Kernel, arch: int) -> Binary:
        raise CompileError("refused")

    cache = KernelCache(tmp_path, refuse)
    for _ in range(2):
        with pytest.raises(CompileError):
            cache.get_or_build(KERNEL, H100)
    assert cache.entries() == []


def test_a_kernel_that_does_not_fit_is_refused(tmp_path: Path, compiler: Compiler) -> None:
    small = replace(H100, shared_memory=1000)
    cache = KernelCache(tmp_path, compiler)
    with pytest.raises(CompileError, match="`gather` needs 1024 bytes of shared memory, h100 has 1000"):
        cache.get_or_build(KERNEL, small)
    assert cache.get_or_build(KERNEL, H100).shared_bytes == 1024


def test_clear_leaves_nothing(tmp_path: Path, compiler: Compiler) -> None:
    cache = KernelCache(tmp_path, compiler)
    cache.get_or_build_all([KERNEL, changed(num_warps=8)], H100, workers=2)
    assert cache.clear() == 2
    assert cache.entries() == []
    cache.get_or_build(KERNEL, H100)
    assert compiler.calls == 3


def test_several_kernels_come_back_in_order(tmp_path: Path) -> None:
    wanted = [kernels.vector_add(), kernels.gather(), kernels.row_softmax()]
    binaries = KernelCache(tmp_path).get_or_build_all(wanted, H100, workers=2)
    assert [binary.symbol for binary in binaries] == [kernel.name for kernel in wanted]
    assert binaries[1].cubin[:4] == b"\x7fELF"


def test_a_second_process_needs_no_triton(tmp_path: Path) -> None:
    KernelCache(tmp_path, compile_kernel).get_or_build(KERNEL, H100)
    program = textwrap.dedent("""
        import sys
        sys.modules["triton"] = None  # an import would fail
        from pathlib import Path
        from rooftile.runtime.cache import KernelCache
        from rooftile.target import target_named
        from tests.runtime import kernels
        binary = KernelCache(Path(sys.argv[1])).get_or_build(kernels.gather(), target_named("h100"))
        print(binary.resources.registers)
    """)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
