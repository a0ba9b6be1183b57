"""Compiled kernels on disk, addressed by what they are made from.

One file per kernel, named by its key. It is written under another name and renamed, so that no reader sees half of it;
a damaged one is thrown away and built again. What is read back needs no Triton: a second process launches without
importing it.
"""

from __future__ import annotations

import fcntl
import logging
import tempfile
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path

from rooftile.codegen.kernel import Kernel
from rooftile.runtime.archive import DamagedArchive, pack, unpack
from rooftile.runtime.binary import Binary
from rooftile.runtime.build import CompileError, compile_kernel
from rooftile.runtime.cache_key import cache_key, key_parts
from rooftile.runtime.whole_files import becoming
from rooftile.target import Target

Compile = Callable[[Kernel, int], Binary]
SUFFIX = ".kernel.zip"
PARTIAL = ".partial-"  # how the names of files begin that were not finished
GRAPHS = "graphs"  # the folder with an empty file for each graph whose kernels were compiled

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheStats:
    """What one cache did since it was opened: kernels found in memory, on disk, built; files damaged, unwritten."""

    memory_hits: int = 0
    disk_hits: int = 0
    built: int = 0
    damaged: int = 0
    unwritten: int = 0


class KernelCache:
    """The kernels under a folder, for any number of threads and processes at once.

    A folder that cannot be written costs the next process a compilation and gives one warning; it is never an error.
    """

    def __init__(self, path: Path, compile: Compile = compile_kernel) -> None:
        self.path = path
        self._compile = compile
        self._memory: dict[str, Binary] = {}
        self._building: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()
        self._stats = CacheStats()
        self._warned = False

    def get_or_build(self, kernel: Kernel, target: Target) -> Binary:
        """The kernel compiled for ``target``, once by all threads and processes.

        Raises CompileError where Triton refuses it, or a program of it does not fit on the target.
        """
        key = cache_key(kernel, target.arch)
        with self._guard:
            one_at_a_time = self._building[key]
        with one_at_a_time:
            if key in self._memory:
                self._count("memory_hits")
            else:
                self._memory[key] = self._from_disk(key) or self._built(key, kernel, target.arch)
            return _fitting(self._memory[key], target)

    def get_or_build_all(self, kernels: Sequence[Kernel], target: Target, workers: int) -> list[Binary]:
        """Several kernels, in order, which ``workers`` threads compile, or wait for the processes that do."""
        waiting = self.begin(kernels, target, workers)
        return [waiting[n].result() for n in range(len(kernels))]

    def begin(self, kernels: Sequence[Kernel], target: Target, workers: int) -> dict[int, Future[Binary]]:
        """Begin to build several kernels, by their numbers; who asks for one of them later waits for it."""
        pool = ThreadPoolExecutor(max(1, min(workers, len(kernels))))
        # The longest text first: it takes the longest, and all others are built beside it.
        order = sorted(range(len(kernels)), key=lambda n: -len(kernels[n].source))
        waiting = {n: pool.submit(self.get_or_build, kernels[n], target) for n in order}
        pool.shutdown(wait=False)
        return waiting

    def stats(self) -> CacheStats:
        """Counts since this object was made."""
        return self._stats

    def entries(self) -> list[Path]:
        """The files of the cache, one per kernel."""
        return self._files(f"*/*{SUFFIX}")

    def clear(self) -> int:
        """Delete every file of the cache, and what is held in memory; how many files there were.

        Raises:
            OSError: one of them cannot be deleted.
        """
        entries = self.entries()
        for entry in (*entries, *self._files(f"*/{PARTIAL}*"), *self._files(f"{GRAPHS}/*")):
            entry.unlink(missing_ok=True)
        self._memory.clear()
        return len(entries)

    def _files(self, pattern: str) -> list[Path]:
        """The files of a pattern, in order; folders that somebody deletes meanwhile have none."""
        return sorted(self.path / name for name in glob(pattern, root_dir=self.path))

    def file_of(self, key: str) -> Path:
        """Where the kernel with this key lies, in one of 256 folders."""
        return self.path / key[:2] / f"{key}{SUFFIX}"

    def _built(self, key: str, kernel: Kernel, arch: int) -> Binary:
        with self._alone_on_this_machine(key):
            if found := self._from_disk(key):  # another process built it while this one waited
                return found
            binary = self._compile(kernel, arch)
            self._count("built")
            try:
                self.write(key, pack(binary, kernel.source, key_parts(kernel, arch)))
            except OSError as error:
                self._cannot_write(error)
            return binary

    def _from_disk(self, key: str) -> Binary | None:
        path = self.file_of(key)
        try:
            binary = unpack(path.read_bytes())
        except OSError:
            return None
        except DamagedArchive as error:
            log.warning("the cached kernel %s is damaged (%s); it is built again", path, error)
            self._count("damaged")
            with suppress(OSError):
                path.unlink()
            return None
        self._count("disk_hits")
        return binary

    def write(self, key: str, content: bytes) -> None:
        """Put an entry into its place, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        path = self.file_of(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.NamedTemporaryFile(dir=path.parent, prefix=PARTIAL, delete=False) as file,
            becoming(path, Path(file.name)),
        ):
            file.write(content)
            file.flush()

    @contextmanager
    def _alone_on_this_machine(self, key: str) -> Iterator[None]:
        """Hold the lock file of the key's folder: other processes wait. Goes on without where there can be none."""
        folder = self.file_of(key).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / ".lock").open("w")
        except OSError as error:
            self._cannot_write(error)
            yield
            return
        with lock:
            with suppress(OSError):  # some network's folders know no locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _cannot_write(self, error: OSError) -> None:
        self._count("unwritten")
        with self._guard:
            first, self._warned = not self._warned, True
        if first:
            warnings.warn(
                f"compiled kernels cannot be kept in {self.path} ({error}); each process compiles its own. Set "
                "ROOFTILE_CACHE_DIR to a folder that can be written",
                stacklevel=2,
            )

    def _count(self, what: str) -> None:
        with self._guard:
            self._stats = replace(self._stats, **{what: getattr(self._stats, what) + 1})


def _fitting(binary: Binary, target: Target) -> Binary:
    if binary.shared_bytes > target.shared_memory:
        raise CompileError(
            f"kernel `{binary.symbol}` needs {binary.shared_bytes} bytes of shared memory, {target.name} has "
            f"{target.shared_memory}: its tiles are too large, or its loops have too many stages"
        )
    return binary
