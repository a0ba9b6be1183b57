// Memory over time: steps from left to right, addresses upwards, the arena's and then the results'; buffers that are never
// needed together share places.

function memory() {
  const { memory: found } = program();
  if (!found)
    return empty(
      "Sizes are known only at run time, so places in memory are too. Run the model once, or explain it with --static.",
    );
  const buffers = found.buffers.filter((buffer) => buffer.bytes > 0);
  const whole = buffers.filter((b) => b.home === "arena").reduce((sum, b) => sum + b.bytes, 0);
  const saved = whole > found.arena ? `, ${amount(whole, "B")} if each had a place of its own` : "";
  return page(
    section(
      "Memory",
      `arena ${amount(found.arena, "B")}${saved}; peak with results ${amount(found.peak, "B")}`,
      addresses(found, buffers),
      el(
        "div",
        { class: "legend", style: "margin-top: 10px" },
        legendEntry({ style: "background: var(--memory-soft); border-color: var(--memory)" }, "needed in between"),
        legendEntry({ style: "background: var(--accent-soft); border-color: var(--accent)" }, "a result"),
        buffers.some((b) => b.home === "aten") ? legendEntry(null, "held by ATen") : null,
      ),
    ),
    section(
      "Buffers",
      "weights and inputs belong to the caller and are not among them",
      scrolled(bufferTable(buffers)),
    ),
  );
}

function addresses(found, buffers) {
  const width = narrow() ? 480 : 1100,
    left = 76,
    top = 14,
    high = 380,
    steps = found.steps;
  const outside = buffers.filter((b) => b.offset === null);
  const lane = 24,
    bottom = top + high + (outside.length ? 14 + outside.length * (lane + 3) : 0);
  const x = (step) => left + (Math.min(step, steps) / steps) * (width - left - 8),
    across = (width - left - 8) / steps;
  const most = Math.max(1, ...buffers.filter((b) => b.offset !== null).map((b) => b.offset + b.bytes)),
    y = (bytes) => top + high - (bytes / most) * high;
  const node = svg("svg", {
    class: "plot",
    viewBox: `0 0 ${width} ${bottom + 40}`,
    role: "group",
    "aria-label": "Memory over time",
  });
  for (let i = 0; i <= 4; i++) {
    const bytes = (most * i) / 4;
    node.append(
      svg("line", { class: "grid", x1: left, x2: width - 8, y1: y(bytes), y2: y(bytes) }),
      svg(
        "text",
        { class: "tick", x: left - 8, y: y(bytes) + 4, "text-anchor": "end" },
        amount(Math.round(bytes), "B"),
      ),
    );
  }
  node.append(
    ...columns(steps, x, across, top, bottom),
    ...buffers
      .filter((b) => b.offset !== null)
      .map((b) => slab(b, x(b.first), y(b.offset + b.bytes), x(b.last + 1) - x(b.first), (b.bytes / most) * high)),
  );
  outside.forEach((b, n) =>
    node.append(
      slab(b, x(b.first), top + high + 14 + n * (lane + 3), x(Math.max(b.first + 1, b.last + 1)) - x(b.first), lane),
    ),
  );
  node.append(svg("text", { class: "label", x: (left + width) / 2, y: bottom + 36, "text-anchor": "middle" }, "step"));
  return node;
}

function columns(steps, x, across, top, bottom) {
  const every = Math.ceil(steps / (narrow() ? 12 : 32));
  return Array.from({ length: steps }, (_, step) => {
    const kernel = kernelAt(step);
    const column = svg("rect", { x: x(step), y: top, width: across, height: bottom - top, fill: "transparent" });
    column.addEventListener("click", () => go({ kernel: kernel.index }));
    explains(column, () => [
      el("b", null, `${step} ${kernel.name}`),
      facts([
        ["reads", kernel.reads.map(withoutPrefix).join(", ")],
        ["writes", kernel.writes.map(withoutPrefix).join(", ")],
      ]),
    ]);
    const label =
      step % every
        ? null
        : svg("text", { class: "tick", x: x(step) + across / 2, y: bottom + 16, "text-anchor": "middle" }, step);
    return [
      here.kernel === kernel.index
        ? svg("rect", { class: "now", x: x(step), y: top, width: across, height: bottom - top })
        : null,
      column,
      label,
    ];
  })
    .flat()
    .filter(Boolean);
}

function slab(buffer, x, y, width, height) {
  const shown = height > 13 && width > 40;
  const node = svg(
    "g",
    { class: `slab ${buffer.home}`, tabindex: "0", "aria-label": `${buffer.name}, ${amount(buffer.bytes, "B")}` },
    svg("rect", { x, y, width: Math.max(1, width - 1), height: Math.max(1.5, height), rx: 2 }),
    shown ? svg("text", { x: x + 7, y: y + Math.min(height / 2 + 4, 18) }, clip(buffer.name, width - 12, 6.7)) : null,
  );
  return explains(node, () => [
    el("b", null, "%" + buffer.name),
    facts([
      ["size", amount(buffer.bytes, "B")],
      ["needed", life(buffer)],
      ["written by", kernelAt(buffer.first)?.name ?? ""],
      ["place", buffer.offset === null ? "" : `at ${amount(buffer.offset, "B")}`],
    ]),
  ]);
}

const life = (buffer) =>
  buffer.last >= program().memory.steps ? `from step ${buffer.first} on` : `steps ${buffer.first} to ${buffer.last}`;

function bufferTable(buffers) {
  const described = new Map(data.report.buffers.map((b) => [withoutPrefix(b.name), b]));
  const rows = [...buffers]
    .sort((a, b) => b.bytes - a.bytes)
    .map((b) => {
      const row = described.get(b.name),
        writer = kernelAt(b.first);
      return el(
        "tr",
        null,
        el("td", { class: "mono" }, "%" + b.name),
        el("td", { class: "mono soft" }, row ? `${row.dtype}[${row.shape.join(", ")}]` : ""),
        amountCell(b.bytes, "B"),
        b.offset === null
          ? el("td", { class: "num soft" }, "ATen")
          : amountCell(b.offset, "B"),
        el("td", { class: "nowrap soft" }, life(b)),
        el("td", null, writer ? kernelLink(writer) : ""),
      );
    });
  return table(rows, ["buffer", "shape", "bytes", "at", "needed", "written by"], [2, 3]);
}
