"""The lock file: its text, what it says of damage, several writers, and a writer that is killed."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rooftile.errors import OptionError
from rooftile.ir.schedule import AxisRole, Schedule
from rooftile.runtime.tuning.lock import Entry, lock_text, read_lock, update_lock
from rooftile.runtime.tuning.locked import Locked, Misfit, schedule_of
from rooftile.target import H100

DEVICE = "h100, sm_90, 132 processors"
ENTRY = Entry(
    name="up_contract",
    region="0123456789abcdef",
    device=DEVICE,
    axes=("i: grid 64", "k: loop 32"),
    grid=("i",),
    group=("i", 8),
    options={"num_warps": 8, "num_stages": 3, "descriptors": True},
    microseconds=12.345,
    first_choice=20.0,
    made_with="rooftile 0.1.0, triton 3.6.0",
)
WHOLE = "format = 1\n[[kernel]]\nname = 'x'\nregion = 'r'\ndevice = 'd'\n"
FIRST = Schedule((AxisRole("m", 512, "grid", 128), AxisRole("c", 512, "loop", 64)), {}, ("m",), None, 4, 2)


def test_the_text_is_for_reading(snapshot: object) -> None:
    assert lock_text([ENTRY, replace(ENTRY, region="fedcba9876543210", sizes={"n": 2048}, group=None)]) == snapshot


def test_it_reads_back_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rooftile.lock"
    others = [replace(ENTRY, sizes={"n": n}, microseconds=12.34) for n in (1024, 2048)]
    update_lock(path, others)
    assert read_lock(path) == others


def test_order_does_not_depend_on_when_something_was_written(tmp_path: Path) -> None:
    entries = [replace(ENTRY, name=name, region=name * 16) for name in "cab"]
    for number, order in enumerate((entries, entries[::-1])):
        for entry in order:
            update_lock(tmp_path / f"{number}.lock", [entry])
    assert (tmp_path / "0.lock").read_bytes() == (tmp_path / "1.lock").read_bytes()


def test_a_new_entry_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "rooftile.lock"
    update_lock(path, [ENTRY, replace(ENTRY, device="cpu")])
    update_lock(path, [replace(ENTRY, microseconds=1.0)])
    assert [(e.device, e.microseconds) for e in read_lock(path)] == [("cpu", 12.35), (DEVICE, 1.0)]
    assert [p.name for p in tmp_path.iterdir()] == ["rooftile.lock"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    link, file = tmp_path / "link.lock", tmp_path / "elsewhere" / "rooftile.lock"
    file.parent.mkdir()
    link.symlink_to(file)
    for number in (1, 2):
        update_lock(link, [replace(ENTRY, parts=number, axes=(), grid=(), group=None, options={})])
        assert link.is_symlink() and read_lock(file)[0].parts == number


def test_a_disk_that_is_full_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str, **_: object) -> None:
        with path.open("w") as file:
            file.write(text[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "rooftile.lock"
    update_lock(path, [ENTRY])
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OptionError, match="cannot be written: No space left"):
        update_lock(path, [replace(ENTRY, device="cpu")])
    assert read_lock(path) == [replace(ENTRY, microseconds=12.35)] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kernel = 3 3", "is no lock file: .*line 1"),
        ("format = 99", "is of format 99, this version reads 1"),
        ("[[kernel]]\nname = 'x'", "is of format None"),
        ("format = 1\n[[kernel]]\nname = 'x'\n", "the kernel 'x' of a lock file has no 'region'"),
        ("format = 1\n[kernel]\nname = 'x'\n", "'kernel' is no list of tables"),
        ("format = 1\nkernel = [1]", "'kernel' is no list of tables"),
        ("format = 1\nkernel = 'x'", "'kernel' is no list of tables"),
        (
            f"{WHOLE}axes = 3\ngrid = []\noptions = {{}}",
            "'x' of a lock file has axes = 3\n  at: .*rooftile.lock:2\n  fix: .* a list of texts",
        ),
        (f"{WHOLE}axes = []\ngrid = 'i'\noptions = {{}}", "has grid = 'i'"),
        (f"{WHOLE}axes = []\ngrid = []\noptions = [['num_warps', 4]]", "has options = "),
        (f"{WHOLE}axes = []\ngrid = []\noptions = {{ num_warps = 0 }}", "has options = "),
        (f"{WHOLE}parts = 0", "has parts = 0"),
        (f"{WHOLE}library = 'aten.mm.default'", "has library = 'aten.mm.default'"),
        (f"{WHOLE}parts = 2\nsizes = {{ n = 0 }}", "has sizes = "),
        (f"{WHOLE}parts = 2\nsizes = {{ n = 'many' }}", "has sizes = "),
        (f"{WHOLE}parts = 2\nmicroseconds = 'few'", "has microseconds = 'few'"),
        (f"{WHOLE}parts = 2\nfirst_choice = nan", "has first_choice = nan"),
        (f"{WHOLE}axes = []\ngrid = []\noptions = {{}}\ngruop = ['i', 8]", "'gruop', .*\n.*\n.* did you mean 'group'"),
        (f"{WHOLE}axes = []\ngrid = []\noptions = {{}}\ngroup = ['i']", "has group = "),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rooftile.lock"
    path.write_text(text)
    with pytest.raises(OptionError, match=message):
        read_lock(path)
    with pytest.raises(OptionError):
        update_lock(path, [ENTRY])
    assert path.read_text() == text


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read: No such file"):
        read_lock(tmp_path / "rooftile.lock")


def test_an_entry_becomes_a_schedule_whatever_the_axes_are_called() -> None:
    schedule = schedule_of(ENTRY, FIRST)
    assert [(a.name, a.role, a.tile) for a in schedule.axes] == [("m", "grid", 64), ("c", "loop", 32)]
    assert (schedule.grid, schedule.group, schedule.num_warps, schedule.descriptors) == (("m",), ("m", 8), 8, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": ("i: grid 64",)}, "it has 1 axes, the region 2"),
        ({"axes": ("i: grid 64", "k: whole 32")}, "'k: whole 32' is no role of c, which is loop there"),
        ({"axes": ("i: grid 65", "k: loop 32")}, "'i: grid 65' is no role of m"),
        ({"axes": ("i: grid 1024", "k: loop 32")}, "'i: grid 1024' is no role of m"),
        ({"axes": ("i: grid 0", "k: loop 32")}, "'i: grid 0' is no role of m"),
        ({"axes": ("i: grid ٢", "k: loop 32")}, "'i: grid ٢' is no role of m"),
        ({"options": {"num_warps": 3}}, "num_warps = 3 is no power of two"),
        ({"options": {"num_warps": 64}}, "at most 32 warps"),
        ({"options": {"epilogue": 3}}, "epilogue = 3 is no power of two"),
        ({"group": ("k", 8)}, "it groups tiles of c, which is not on the grid"),
        ({"options": {"num_warps": 8, "warp_speed": 9}}, "there is no option warp_speed = 9"),
        ({"options": {"num_warps": True}}, "there is no option num_warps = True"),
        ({"grid": ("j",)}, "it has no axis j"),
        ({"grid": ("k",)}, "its grid is c, the region's m"),
    ],
)
def test_an_entry_that_does_not_fit_says_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(Misfit, match=message):
        schedule_of(replace(ENTRY, **changes), FIRST)  # type: ignore[arg-type]


@pytest.mark.parametrize("tile", [8, 32])
def test_what_is_whole_has_no_choice(tile: int) -> None:
    first = Schedule((AxisRole("m", 512, "grid", 128), AxisRole("d", 16, "whole", 16)), {}, ("m",))
    schedule_of(replace(ENTRY, axes=("i: grid 64", "k: whole 16")), first)
    with pytest.raises(Misfit, match=f"'k: whole {tile}' is no role of d"):
        schedule_of(replace(ENTRY, axes=("i: grid 64", f"k: whole {tile}")), first)


def test_only_entries_for_the_device_count() -> None:
    entries = [replace(ENTRY, device="cpu"), ENTRY, replace(ENTRY, sizes={"n": 16})]
    assert Locked.of(entries, H100).entries == {ENTRY.region: (ENTRY, replace(ENTRY, sizes={"n": 16}))}


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from rooftile.runtime.tuning.lock import update_lock
from tests.runtime.tuning.test_lock import ENTRY
for number in range(10_000):
    update_lock(Path(sys.argv[1]), [replace(ENTRY, region=f"{sys.argv[2]}{number % 50:015}", microseconds=number / 1)])
    print(number, flush=True)
"""


def test_killed_writers_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "rooftile.lock"
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, name], stdout=subprocess.PIPE) for name in "ab"]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline()  # it has begun
    time.sleep(0.3)
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        writer.wait(timeout=30)
        assert writer.stdout is not None
        writer.stdout.close()
    update_lock(path, [ENTRY])  # neither damage nor a lock is left
    names = {entry.region[0] for entry in read_lock(path)}
    assert names == {"0", "a", "b"}
