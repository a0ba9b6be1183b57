"""Takes docs/images/: the report on the demo's block, for an H100, in a headless Chromium.

python docs/make_screenshots.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from rooftile.config import CompileOptions  # noqa: E402
from rooftile.report.explaining import explain_with  # noqa: E402
from rooftile.textbook import ON_GPU, block_and_input  # noqa: E402
from tests.browser import Browser  # noqa: E402

FOLDER = ROOT / "docs" / "images"


@dataclass(frozen=True)
class Picture:
    """A view of the report: what stands behind the page's address, the window, and keys pressed first."""

    name: str
    address: str
    size: tuple[int, int] = (1280, 800)
    theme: str = "light"
    phone: bool = False
    keys: str = ""


PICTURES = (
    Picture("report-graph", "#graph?kernel={attention}"),
    Picture("report-overview", "#overview", (1280, 860)),
    Picture("report-passes", "#passes?pass={fuse}", (1180, 620)),
    Picture("report-source", "#graph?kernel={attention}&tab=triton", theme="dark"),
    Picture("report-roofline", "#roofline", (1280, 720), theme="dark"),
    Picture("report-memory", "#memory", (1280, 700)),
    Picture("report-masks", "#masks", (900, 610)),
    Picture("report-decisions", "#decisions", (1180, 700)),
    Picture("report-phone", "#graph?kernel={attention}", (390, 800), phone=True),
)


def main() -> None:
    """Compile the block on shapes alone, and take every picture."""
    FOLDER.mkdir(exist_ok=True)
    block, x = block_and_input(ON_GPU, torch.device("meta"))
    with torch.no_grad():
        report = explain_with(block, (x,), {}, CompileOptions(target="h100"))
    attention = next(number for number, kernel in enumerate(report.kernels) if "reduce.max" in kernel.ops)
    fuse = [stage.name for stage in report.compilations[0].stages].index("fuse")
    browser = Browser()
    with tempfile.TemporaryDirectory() as folder:
        page = report.save(Path(folder) / "report.html")
        for picture in PICTURES:
            browser.window(*picture.size, phone=picture.phone, scale=1.5 if picture.phone else 1)
            browser.prefer(picture.theme)
            browser.open(page, picture.address.format(attention=attention, fuse=fuse))
            for key in picture.keys:
                browser.key(key)
            time.sleep(0.6)  # what is coloured when it comes into sight
            browser.screenshot(FOLDER / f"{picture.name}.png")
            print(f"{picture.name}.png: {(FOLDER / f'{picture.name}.png').stat().st_size / 1e3:.0f} kB")
    browser.close()
    assert browser.errors == [], browser.errors


if __name__ == "__main__":
    main()
