// Which steps of its sweep each program runs: what a mask leaves out is not computed at all.

function masks() {
  const pictured = kernelsHere().flatMap((kernel) => kernel.masks.map((visits) => [kernel, visits]));
  const others = kernelsHere().filter((kernel) => kernel.unpictured);
  if (!pictured.length && !others.length)
    return empty(
      "No loop leaves out steps or runs in phases: no mask of positions was found in this graph, or it empties no whole tile.",
    );
  return page(
    section(
      "Visited tiles",
      "a row is a program, a column a step of its sweep",
      maskLegend(),
      el(
        "div",
        { class: "pictures", style: "margin-top: 18px" },
        pictured.map(([kernel, visits]) => picture(kernel, visits)),
      ),
      others.map((kernel) =>
        el(
          "p",
          { class: "soft", style: "margin-top: 20px" },
          "No picture of ",
          kernelLink(kernel),
          `: ${kernel.unpictured}.`,
        ),
      ),
    ),
  );
}

const maskLegend = () =>
  el(
    "div",
    { class: "legend" },
    legendEntry({ class: "bare" }, "run without the mask: it holds throughout"),
    legendEntry({ class: "masked" }, "run with the mask"),
    legendEntry({ class: "rest" }, "run only where a row has nothing else"),
    legendEntry({ class: "skipped" }, "left out"),
  );

function picture(kernel, visits) {
  const total = visits.steps * visits.rows.length;
  const run = visits.rows.reduce(
    (sum, [, runs]) => sum + runs.filter(([phase]) => phase !== "rest").reduce((n, [, a, b]) => n + b - a, 0),
    0,
  );
  const by = Object.keys(visits.rows[0]?.[0] ?? {});
  const sample = visits.rows.length < visits.count ? `, ${visits.rows.length} of ${visits.count} programs shown` : "";
  return el(
    "figure",
    null,
    el(
      "figcaption",
      null,
      kernelLink(kernel),
      el(
        "div",
        { class: "soft" },
        `${((100 * run) / Math.max(1, total)).toFixed(1)}% of the steps over ${visits.axis}, ${visits.tile} positions each${sample}`,
      ),
    ),
    tiles(kernel, visits, by),
  );
}

function tiles(kernel, visits, by) {
  const left = 46,
    top = 22,
    size = 420,
    rows = visits.rows.length;
  const w = size / visits.steps,
    h = Math.min(size / rows, Math.max(w, 18)),
    height = h * rows;
  const node = svg(
    "svg",
    {
      class: "plot",
      viewBox: `0 0 ${left + size + 4} ${top + height + 6}`,
      role: "img",
      "aria-label": `Visited tiles of ${kernel.name}`,
    },
    svg(
      "defs",
      null,
      svg(
        "pattern",
        { id: "rest", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        svg("rect", { width: 2, height: 6, fill: "var(--dots)" }),
      ),
    ),
    svg("text", { class: "tick", x: left, y: 12 }, `${visits.axis}: 0`),
    svg("text", { class: "tick", x: left + size, y: 12, "text-anchor": "end" }, `${visits.steps * visits.tile}`),
    svg("rect", { class: "tile skipped", x: left, y: top, width: size, height }),
  );
  visits.rows.forEach(([firsts, runs], row) => {
    const y = top + row * h;
    for (const [phase, first, stop] of runs)
      node.append(
        svg("rect", { class: `tile ${phase}`, x: left + first * w, y, width: (stop - first) * w, height: h }),
      );
    if (row % Math.ceil(rows / 8) === 0 && by.length)
      node.append(
        svg(
          "text",
          { class: "tick", x: left - 6, y: y + Math.min(h, 11), "text-anchor": "end" },
          by.map((name) => firsts[name]).join(","),
        ),
      );
  });
  if (w > 4)
    for (let step = 1; step < visits.steps; step++)
      node.append(
        svg("line", { class: "tile-grid", x1: left + step * w, x2: left + step * w, y1: top, y2: top + height }),
      );
  if (h > 4)
    for (let row = 1; row < rows; row++)
      node.append(svg("line", { class: "tile-grid", x1: left, x2: left + size, y1: top + row * h, y2: top + row * h }));
  if (by.length) node.append(svg("text", { class: "tick", x: 2, y: 12 }, by.join(",")));
  return explains(node, () => [
    el("b", null, kernel.name),
    facts([
      ["steps a program", visits.steps],
      ["programs apart by", by.join(", ") || "nothing"],
      ["phases", [...new Set(visits.rows.flatMap(([, runs]) => runs.map(([phase]) => phase)))].join(", ")],
    ]),
  ]);
}
