"""Trials in processes of their own, so that one failure, or one that never ends, loses nothing else.

A trial may have two parts: it prepares (compiles, checks), says so, and measures when told to. Several prepare side by
side; measured is one at a time, with nothing beside it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import IO, Any

ROOT = Path(__file__).parent.parent
_FINDINGS = "findings: "  # before the JSON, since libraries print too
_PREPARED = "prepared"

Findings = dict[str, Any]


def tell(findings: Mapping[str, Any]) -> None:
    """In a trial: hand the findings to whoever started it."""
    print(_FINDINGS + json.dumps(findings), flush=True)


def wait_for_turn() -> None:
    """In a trial: say that all is prepared, and wait until nothing else runs."""
    print(_PREPARED, flush=True)
    sys.stdin.readline()


def run(arguments: Sequence[str], limit: float, environment: Mapping[str, str] | None = None) -> Findings:
    """The findings of ``python -m ARGUMENTS``, or its ``failure``; ``limit`` is in seconds."""
    with closing(_Trial(arguments, limit, environment or {})) as trial:
        return trial.findings()


def run_in_turn(
    trials: Sequence[Sequence[str]], limit: float, environments: Sequence[Mapping[str, str]]
) -> Iterator[Findings]:
    """The findings of trials that ``wait_for_turn``, in order, each with variables of its own; ``limit`` holds for each
    of their two parts."""
    with ExitStack() as stack:
        pairs = zip(trials, environments, strict=True)
        running = [stack.enter_context(closing(_Trial(each, limit, own))) for each, own in pairs]
        for trial in running:
            trial.prepare()
        for trial in running:
            yield trial.measure()


def run_side_by_side(
    trials: Mapping[str, Sequence[str]],
    together: int,
    limit: float,
    environment: Mapping[str, str] | None = None,
    *,
    fresh: bool = False,
) -> Iterator[tuple[str, Findings]]:
    """The findings of trials that ``wait_for_turn``, by name and in order; ``together`` of them prepare at once. With
    ``fresh``, each has empty caches of its own."""
    names = list(trials)
    for start in range(0, len(names), together):
        group = names[start : start + together]
        print(f"preparing {', '.join(group)}", flush=True)
        with ExitStack() as stack:
            own = [stack.enter_context(empty_caches()) if fresh else {} for _ in group]
            environments = [{**(environment or {}), **variables} for variables in own]
            yield from zip(group, run_in_turn([trials[name] for name in group], limit, environments), strict=True)


@contextmanager
def empty_caches() -> Iterator[dict[str, str]]:
    """The variables by which a process finds empty caches of Rooftile's, Inductor's and Triton's."""
    with tempfile.TemporaryDirectory() as folder:
        caches = {"ROOFTILE_CACHE_DIR": "rooftile", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
        yield {variable: f"{folder}/{name}" for variable, name in caches.items()}


class _Trial:
    """A process and what it has said."""

    def __init__(self, arguments: Sequence[str], limit: float, environment: Mapping[str, str]) -> None:
        self.limit = limit
        self.errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close())
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            start_new_session=True,
        )
        self.said: list[str] = []
        self.late = False
        self.timer = self._timer()

    def prepare(self) -> None:
        """Until it is prepared, or has ended."""
        self._listen(_PREPARED)
        self.timer.cancel()

    def measure(self) -> Findings:
        """Let it measure."""
        assert self.process.stdin is not None
        if self.process.poll() is None:
            self.timer = self._timer()
            with suppress(BrokenPipeError):  # it has ended meanwhile; what it found says how
                self.process.stdin.write("\n")
                self.process.stdin.flush()
        return self.findings()

    def findings(self) -> Findings:
        """What it found, when it has ended."""
        self._listen(None)
        code = self.process.wait()
        self.timer.cancel()
        found = [line for line in self.said if line.startswith(_FINDINGS)]
        if self.late:
            self._last_words()
            return {"failure": f"more than {self.limit:.0f} s"}
        if code or not found:
            return {"failure": self._last_words()}
        result: Findings = json.loads(found[-1].removeprefix(_FINDINGS))
        return result

    def close(self) -> None:
        """Leave nothing behind, however far it came."""
        self.timer.cancel()
        self._kill()
        self.process.communicate()
        self.errors.close()

    def _listen(self, until: str | None) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if self.said[-1] == until:
                return

    def _timer(self) -> Timer:
        timer = Timer(self.limit, self._stop)
        timer.daemon = True
        timer.start()
        return timer

    def _stop(self) -> None:
        self.late = True
        self._kill()

    def _kill(self) -> None:
        # With the processes that it started: as long as one of them lives, what it prints has no end.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        self.errors.seek(0)
        words = self.errors.read()
        print(words[-4000:], file=sys.stderr)
        return (words.strip().splitlines() or ["no output"])[-1]
