"""The report as a page, in a real browser: it loads from disk, complains about nothing, and each view responds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from rooftile.config import CompileOptions
from rooftile.ir.printer import print_graph
from rooftile.report import KernelRow, Report
from rooftile.report.explaining import explain_with
from rooftile.report.text import quantity
from rooftile.textbook import ON_GPU, block_and_input
from tests.browser import BROWSER, WHY_NONE, Browser

pytestmark = pytest.mark.skipif(BROWSER is None, reason=WHY_NONE)

VIEWS = ("overview", "graph", "passes", "roofline", "memory", "masks", "decisions")
META = torch.device("meta")


@pytest.fixture(scope="module")
def report() -> Report:
    """The demo's block as it is for an H100."""
    block, x = block_and_input(ON_GPU, META)
    with torch.no_grad():
        return explain_with(block, (x,), {}, CompileOptions(target="h100"))


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.save(tmp_path_factory.mktemp("page") / "r.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = Browser()
    yield found
    found.close()


@pytest.fixture
def opened(browser: Browser, page: Path) -> Iterator[Browser]:
    """The page at its first view, in a window of a usual size; what it complains about fails the test."""
    browser.errors.clear()
    browser.window(1280, 800)
    browser.prefer("light")
    browser.open(page)
    yield browser
    assert browser.errors == []


def attention(report: Report) -> KernelRow:
    """The kernel that takes the maximum of the scores."""
    (found,) = [kernel for kernel in report.kernels if "reduce.max" in kernel.ops]
    return found


def test_the_page_needs_nothing_else(page: Path) -> None:
    text = page.read_text()
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
    assert "<script src" not in text and '<link rel="stylesheet"' not in text


def test_one_report_always_gives_one_page(report: Report, page: Path, tmp_path: Path) -> None:
    assert report.save(tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_the_overview_shows_the_report_s_own_numbers(opened: Browser, report: Report) -> None:
    text = opened.text("#view")
    bytes, eager = report.totals.bytes, report.totals.eager_bytes
    assert isinstance(bytes, int) and isinstance(eager, int)
    assert quantity(bytes, "B").split()[0] in text and f"{eager / bytes:.1f} times less" in text
    assert opened.count("#kernels tbody tr") == len(report.kernels)
    for kernel in report.kernels:
        assert kernel.name in text


def test_it_says_which_kernel_is_furthest_from_its_floor(opened: Browser, report: Report) -> None:
    far = max(report.kernels, key=lambda kernel: kernel.times_floor or 0)
    lost = max(report.kernels, key=lambda kernel: (kernel.spent_us or 0) - (kernel.floor_us or 0))
    notice = opened.text(".notice")
    assert notice.index(far.name) <= notice.rindex(lost.name)
    assert far.times_floor and f"{far.times_floor:.2f}\N{MULTIPLICATION SIGN}" in notice


def test_kernels_are_sorted_by_a_column(opened: Browser, report: Report) -> None:
    opened.click("#kernels th:nth-child(10) button")
    first = opened.text("#kernels tbody tr td:nth-child(2) button")
    assert first == max(report.kernels, key=lambda kernel: kernel.times_floor or 0).name
    opened.click("#kernels th:nth-child(10) button")
    assert opened.run("document.querySelector('#kernels th:nth-child(10)').ariaSort") == "ascending"


def test_the_model_names_the_kernels_of_each_line(opened: Browser, report: Report) -> None:
    tree = opened.text(".tree")
    assert "weights = scores.masked_fill" in tree and attention(report).name in tree and "ffn" in tree


@pytest.mark.parametrize("view", VIEWS)
def test_a_key_leads_to_each_view(opened: Browser, view: str) -> None:
    opened.key(str(VIEWS.index(view) + 1))
    opened.until(f"document.querySelector('#tabs [data-view={view}]').ariaSelected === 'true'")
    opened.until("document.querySelector('#view').innerText.length > 20")
    assert opened.run("location.hash").startswith(f"#{view}")


def test_the_graph_has_a_box_for_every_kernel_and_shows_its_ops(opened: Browser, report: Report) -> None:
    opened.key("2")
    opened.until("document.querySelectorAll('.box .node').length > 0")
    assert opened.count(".box[data-step]") == len(report.kernels)
    step = next(number for number, kernel in enumerate(report.kernels) if "rsqrt" in kernel.ops)
    assert "rsqrt" in opened.run(f"document.querySelector('[data-step=\"{step}\"]').textContent")


def test_the_graph_moves_and_zooms(opened: Browser) -> None:
    opened.key("2")
    opened.until("document.querySelector('.canvas g').getAttribute('transform')?.includes('scale')")
    place = "document.querySelector('.canvas g').getAttribute('transform')"
    before = opened.run(place)
    opened.drag((600, 500), (500, 380))
    dragged = opened.run(place)
    assert dragged != before and dragged.split("scale")[1] == before.split("scale")[1]
    assert opened.count(".box.chosen") == 0  # what was dragged is not clicked
    opened.wheel(600, 500, -240)
    opened.until(f"{place} !== {json.dumps(dragged)}")
    opened.run("document.querySelector('.canvas').focus()")
    opened.key("0")
    opened.until("document.querySelectorAll('.box .node').length === 0")  # far away, ops are not drawn
    opened.key("ArrowRight")
    opened.key("+")


def test_the_graph_is_searched(opened: Browser, report: Report) -> None:
    opened.key("2")
    opened.until("document.querySelectorAll('.box').length > 0")
    opened.key("/")
    opened.type("rsqrt")
    expected = sum("rsqrt" in kernel.ops for kernel in report.kernels)
    assert opened.text("#found") == f"{expected} of {len(report.kernels)}"
    assert opened.count(".box.found") == expected
    opened.key("Enter")
    opened.key("Escape")


def test_a_click_on_a_box_opens_its_kernel(opened: Browser, report: Report) -> None:
    opened.key("2")
    opened.until("document.querySelectorAll('.box .node').length > 0")
    x, y = opened.run(
        "(b => [b.x + 30, b.y + 12])(document.querySelector('[data-step=\"0\"]').getBoundingClientRect())"
    )
    opened.click_at(x, y)
    opened.until("!document.querySelector('#detail').hidden")
    assert report.kernels[0].name in opened.text("#detail h2")
    assert opened.count(".box.chosen") == 1 and opened.count(".flow.lit") > 0
    opened.key("Escape")
    opened.until("document.querySelector('#detail').hidden")


def test_a_kernel_shows_lines_ops_ir_and_source(opened: Browser, report: Report) -> None:
    kernel = attention(report)
    step, (loop,) = report.kernels.index(kernel), kernel.loops
    opened.run(f"location.hash = '#graph?kernel={step}'")
    opened.until(f"document.querySelector('#detail h2')?.innerText === {json.dumps(kernel.name)}")
    summary = opened.text("#detail")
    assert f"{loop.visited} of {loop.total} steps: bare, masked" in summary and "stays on chip" in summary
    opened.key("l")
    opened.until("document.querySelectorAll('#detail .source .row.on').length > 0")
    lines = opened.run("[...document.querySelectorAll('.source .row.on .no')].map(e => e.innerText)")
    assert lines == sorted({s.rsplit(":", 1)[1] for s in report.kernels[step].sources}, key=int)
    assert "softmax" in opened.text("#detail .source")
    opened.key("o")
    opened.until("document.querySelector('#detail').innerText.includes('reduce.max')")
    opened.key("i")
    opened.until("document.querySelector('#kernel-stage')")
    assert f"kernel {kernel.name}" in opened.content("#detail .code")
    opened.run("(s => { s.value = 0; s.dispatchEvent(new Event('change')); })(document.querySelector('#kernel-stage'))")
    opened.until("document.querySelector('#detail').innerText.includes('no regions yet')")
    assert "softmax" not in opened.content("#detail .code") and "masked_fill" not in opened.content("#detail .code")
    assert "reduce.max" in opened.content("#detail .code")
    opened.key("c")
    opened.until("document.querySelector('#detail .code')?.textContent.includes('tl.dot')")
    assert opened.count("#detail .code .k-word") > 10


def test_j_and_k_walk_through_the_kernels(opened: Browser, report: Report) -> None:
    names = [kernel.name for kernel in report.kernels]
    for key, expected in (("j", names[0]), ("j", names[1]), ("k", names[0])):
        opened.key(key)
        opened.until(f"document.querySelector('#detail h2')?.innerText === {json.dumps(expected)}")


def test_a_shared_launch_shows_what_runs_in_it(opened: Browser, report: Report) -> None:
    (kernel,) = [each for each in report.kernels if each.members]
    opened.run(f"location.hash = '#roofline?kernel={report.kernels.index(kernel)}'")
    opened.until("document.querySelectorAll('.point.chosen').length === 1")
    summary = opened.text("#detail").lower()
    assert all(f"beside others: {member.name}" in summary for member in kernel.members)
    opened.key("o")
    opened.until("document.querySelector('#detail').innerText.includes('share the launch, one behind another')")
    contractions = sum(member.ops.count("contract") for member in kernel.members)
    assert opened.text("#detail").count("= contract") == contractions
    opened.key("i")
    opened.until("document.querySelector('#kernel-stage')")
    text = opened.content("#detail .code")
    assert all(f"kernel {member.name}(" in text for member in kernel.members)


def test_what_is_computed_once_has_a_panel_and_no_step(opened: Browser, report: Report) -> None:
    assert opened.count("#packed tbody tr") == len(report.packed) > 0
    opened.click("#packed tbody tr .link")
    opened.until(f"document.querySelector('#detail h2')?.innerText === {json.dumps(report.packed[0].name)}")
    assert "Computed once from weights" in opened.text("#detail")
    for key, sign in (("l", "angle.cos()"), ("o", "pointwise.cos"), ("i", "packed=true"), ("c", "tl.store")):
        opened.key(key)
        opened.until(f"document.querySelector('#detail').textContent.includes({json.dumps(sign)})")
    opened.key("2")
    opened.until("document.querySelectorAll('.box[data-step]').length > 0")
    assert opened.count(".box.chosen") == 0
    for key in "456":
        opened.key(key)
        opened.until("document.querySelector('#view').innerText.length > 5")


def test_the_slider_shows_each_pass_and_what_it_changed(opened: Browser, report: Report) -> None:
    opened.key("3")
    opened.until("document.querySelectorAll('#ir .ln').length > 0")
    fuse = [row.name for row in report.passes].index("fuse")
    assert opened.text("#stage-name").endswith("fuse") and opened.count("#ir .ln.add") > 10
    shown = [opened.text("#stage-name").split()[-1]]
    for row in report.passes[fuse + 1 :]:
        opened.key("ArrowRight")
        opened.until(f"document.querySelector('#stage-name').innerText.endsWith({json.dumps(row.name)})")
        shown.append(row.name)
        changed = opened.text("#found") != "changed nothing"
        assert changed == row.changed, row.name
    assert shown == [row.name for row in report.passes[fuse:]]
    opened.key("d")
    opened.until("document.querySelectorAll('#ir .ln.add').length === 0")
    opened.run("(s => { s.value = 0; s.dispatchEvent(new Event('input')); })(document.querySelector('#slider'))")
    opened.until("document.querySelector('#stage-name').innerText.endsWith('import')")
    assert opened.content("#ir").count("reduce.sum") >= 2


def test_the_changes_of_a_pass_give_the_next_text(opened: Browser, report: Report) -> None:
    """Kept and added lines are the text behind each pass, kept and removed ones that before it."""
    opened.key("3")
    opened.until("document.querySelectorAll('#ir .ln').length > 0")
    stages = [stage.graph for stage in report.compilations[0].stages]
    for number, (before, after) in enumerate(pairwise(stages), start=1):
        if before is after:
            continue
        opened.run(f"document.querySelector('[data-stage=\"{number}\"]').click()")
        opened.until(f"document.querySelector('#stage-name').innerText.startsWith('{number} ')")
        opened.run("document.querySelectorAll('#ir .fold').forEach(fold => fold.click())")
        rows = opened.run("[...document.querySelectorAll('#ir .ln')].map(e => [e.className, e.firstChild.textContent])")
        wanted = {" add": len(print_graph(after).splitlines()), " del": len(print_graph(before).splitlines())}
        for skipped, kind in ((" del", " add"), (" add", " del")):
            assert sum(skipped not in name for name, _ in rows) == wanted[kind], number


def test_text_is_found_in_the_ir(opened: Browser) -> None:
    opened.key("3")
    opened.until("document.querySelectorAll('#ir .ln').length > 0")
    opened.key("/")
    opened.type("%max")
    opened.key("Enter")
    opened.until("document.querySelectorAll('#ir .ln.found').length === 1")
    opened.key("Escape")


def test_the_roofline_has_a_place_for_every_kernel_with_a_time(opened: Browser, report: Report) -> None:
    opened.key("4")
    opened.until("document.querySelectorAll('.point').length > 0")
    shown = opened.run(
        "[...document.querySelectorAll('.point')].flatMap(p => p.dataset.kernels.split(' ').map(Number))"
    )
    assert sorted(shown) == [n for n, kernel in enumerate(report.kernels) if kernel.spent_us and kernel.flops]
    at = attention(report).roofline
    assert at is not None and f"ridge {at.ridge:.0f} FLOP/B" in opened.run(
        "document.querySelector('.plot').textContent"
    )
    opened.hover(".point .spent")
    opened.until("!document.querySelector('.tooltip').hidden")
    assert "FLOP/B" in opened.text(".tooltip")
    first = opened.text("#ranking button .which")
    assert first == max(report.kernels, key=lambda kernel: kernel.times_floor or 0).name
    opened.run("document.querySelector('.point').focus()")
    opened.key("Enter")
    opened.until("!document.querySelector('#detail').hidden")


def test_the_arena_shows_every_buffer(opened: Browser, report: Report) -> None:
    opened.key("5")
    opened.until("document.querySelectorAll('.slab').length > 0")
    kept = [b for b in report.buffers if b.role in ("intermediate", "output")]
    assert opened.count(".slab") == len(kept)
    assert quantity(report.totals.peak_bytes, "B") in opened.text("#view")
    opened.hover(".slab rect")
    opened.until("!document.querySelector('.tooltip').hidden")


def test_the_masks_are_pictures_of_the_visited_tiles(opened: Browser, report: Report) -> None:
    opened.key("6")
    opened.until("document.querySelectorAll('.tile').length > 2")
    (loop,) = attention(report).loops
    assert isinstance(loop.visited, int) and isinstance(loop.total, int)
    assert f"{100 * loop.visited / loop.total:.1f}% of the steps" in opened.text("#view")
    axes = {a["axis"]: a for a in attention(report).schedule["axes"]}
    rows = axes["j"]["extent"] // axes["j"]["tile"]
    assert opened.count(".tile.masked") == rows and rows - 2 <= opened.count(".tile.bare") < rows


def test_decisions_are_filtered(opened: Browser, report: Report) -> None:
    opened.key("7")
    opened.until("document.querySelectorAll('.decision').length > 0")
    assert opened.count(".decision") == len(report.ledger)
    cut = [row for row in report.ledger if row.decision == "cut"]
    opened.run("[...document.querySelectorAll('.chip')].find(c => c.innerText.startsWith('cut')).click()")
    assert opened.count(".decision") == len(cut)
    assert opened.count(".decision .change") == sum(bool(row.change) for row in cut)
    opened.key("/")
    opened.type("held whole")
    assert opened.count(".decision") == sum("held whole" in f"{row.reason}{row.change}" for row in cut)
    opened.key("Escape")
    opened.run("document.querySelector('.decision .link').click()")
    opened.until("!document.querySelector('#detail').hidden")


def test_light_and_dark(opened: Browser) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = opened.run(paper)
    opened.prefer("dark")
    opened.until(f"{paper} !== {json.dumps(light)}")
    opened.key("t")
    opened.until(f"{paper} === {json.dumps(light)}")
    opened.run("localStorage.removeItem('rooftile-theme')")


def test_the_keys_are_explained(opened: Browser) -> None:
    opened.key("?")
    opened.until("document.querySelector('#keys').open")
    opened.key("Escape")


@pytest.mark.parametrize("view", VIEWS)
def test_it_is_readable_on_a_phone(opened: Browser, view: str) -> None:
    opened.window(390, 844, phone=True)
    opened.key(str(VIEWS.index(view) + 1))
    opened.until("document.querySelector('#view').innerText.length > 20")
    assert opened.run("document.documentElement.scrollWidth") <= 390
    opened.key("j")
    opened.until("!document.querySelector('#detail').hidden")
    assert opened.run("document.querySelector('#detail').getBoundingClientRect().width") == 390


@pytest.mark.parametrize("tab", ["summary", "lines", "ops"])
def test_a_kernel_s_panel_is_as_wide_as_a_phone(opened: Browser, report: Report, tab: str) -> None:
    opened.window(390, 844, phone=True)
    for number, kernel in enumerate((*report.kernels, *report.packed)):
        opened.run(f"location.hash = '#overview?kernel={number}&tab={tab}'")
        opened.until(f"document.querySelector('#detail h2')?.innerText === {json.dumps(kernel.name)}")
        opened.until(f"document.querySelector('#detail [data-tab={tab}]')?.ariaSelected === 'true'")
        assert opened.run("(b => b.scrollWidth - b.clientWidth)(document.querySelector('.detail-body'))") <= 0


def test_the_panel_says_why_a_kernel_is_not_one_with_the_next(opened: Browser, report: Report) -> None:
    """By keys alone: from the graph to a kernel, and on to the one that reads what it stores."""
    opened.key("2")
    opened.until("document.querySelectorAll('.box[data-step]').length > 0")
    norm = report.kernels[0]
    opened.run("document.querySelector('.box[data-step=\"0\"]').focus()")
    opened.key("Enter")
    opened.until(f"document.querySelector('#detail h2')?.innerText === {json.dumps(norm.name)}")
    said = " ".join(opened.text("#detail").split())
    (cut,) = [row for row in report.ledger if row.decision == "cut" and row.values[0] == norm.writes[0]]
    assert f"did not fuse: {cut.reason}" in said and cut.change in said
    readers = [kernel.name for kernel in report.kernels if norm.writes[0] in kernel.reads]
    assert readers and all(f"{name}" in said.split(" to ", 1)[1] for name in readers)
    opened.run(
        f"[...document.querySelectorAll('#detail .behind .link')].find(e => e.innerText === '{readers[0]}').focus()"
    )
    opened.key("Enter")
    opened.until(f"document.querySelector('#detail h2')?.innerText === {json.dumps(readers[0])}")
    assert f"from {norm.name}" in " ".join(opened.text("#detail").split())


def test_an_edge_says_why_its_value_is_stored(opened: Browser, report: Report) -> None:
    opened.key("2")
    opened.until("document.querySelectorAll('.flow').length > 0")
    passed_on = {buffer for kernel in report.kernels for buffer in kernel.writes}
    cuts = {row.values[0]: row for row in report.ledger if row.decision == "cut" and row.values[0] in passed_on}
    cut = next(iter(cuts.values()))  # the last that was said of it
    for number in range(opened.count(".flow")):
        opened.run(f"document.querySelectorAll('.flow')[{number}].dispatchEvent(new PointerEvent('pointermove'))")
        said = opened.text(".tooltip")
        if f"%{cut.values[0]}\n" in said + "\n":
            assert cut.reason in " ".join(said.split())
            return
    pytest.fail(f"no edge is called %{cut.values[0]}")
