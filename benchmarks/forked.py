"""Trials in forked children of a process that has loaded what they need, so that each is a process of its own with a
time limit, and none pays for loading."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any

Findings = dict[str, Any]
Tell = Callable[[Findings], None]


def run_forked(trial: Callable[[str, Tell], None], name: str, limit: float) -> Findings:
    """What ``trial(name, tell)`` told, all together, and its ``failure`` where it did not come to its end in ``limit``
    seconds. What it told before that is kept."""
    context = get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(trial, name, there))
    process.start()
    there.close()
    found: Findings = {}
    end = monotonic() + limit
    try:
        while here.poll(max(0.0, end - monotonic())):
            found |= here.recv()
        found["failure"] = f"more than {limit:.0f} s"
    except EOFError:
        process.join()
        if process.exitcode and "failure" not in found:
            found["failure"] = f"the process ended with {process.exitcode}"
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        here.close()
    return found


def _child(trial: Callable[[str, Tell], None], name: str, pipe: Connection) -> None:
    os.setsid()  # whatever it starts ends with it
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        trial(name, pipe.send)
    except Exception as error:
        words = " ".join(str(error).split())
        pipe.send({"failure": f"{type(error).__name__}: {words}"})
