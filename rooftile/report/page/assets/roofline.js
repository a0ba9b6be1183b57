// The roofline: FLOP per byte against FLOP per second, each kernel where it is and where it could be.

const PLOT = { width: 900, height: 560, left: 64, right: 24, top: 22, bottom: 48 };
const narrow = () => byId("view").clientWidth < 640; // drawings that scale with the page keep their letters readable

function roofline() {
  const { target } = data.report;
  const points = called().filter(
    (kernel) => kernel.roofline && spent(kernel) && typeof kernel.flops === "number" && kernel.flops > 0,
  );
  Object.assign(PLOT, narrow() ? { width: 460, height: 420 } : { width: 900, height: 560 });
  if (!target || !points.length)
    return empty("No kernel has a known size, so that none has a place under the roofline.");
  return page(
    section(
      `Roofline of ${target.name}`,
      [
        `${rate(target.bandwidth)}B/s of memory; `,
        measured() ? "full points are measured" : "full points are what the cost model expects",
        ", hollow ones the floor",
      ],
      el("div", { class: "spread" }, rooflinePlot(points, target), ranking()),
    ),
  );
}

function rooflinePlot(points, target) {
  const dtypes = [...new Set(points.filter((k) => k.roofline.contractions_us > 0).map((k) => k.roofline.dtype))];
  const roofs = joined([
    ...dtypes.map((dtype) => [`${dtype} contractions`, peakOf(points, dtype, target)]),
    ["other arithmetic", target.scalar_flops],
  ]);
  const reached = (kernel) => kernel.flops / (spent(kernel) * 1e-6);
  const x = scale(
    points.map((k) => k.roofline.intensity).concat(roofs[0][1] / target.bandwidth),
    PLOT.left,
    PLOT.width - PLOT.right,
    4,
  );
  const y = scale(points.map(reached).concat(roofs[0][1]), PLOT.height - PLOT.bottom, PLOT.top, 2);
  const node = svg(
    "svg",
    { class: "plot", viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "group", "aria-label": "Roofline plot" },
    ticks(x, y),
  );
  node.append(
    svg(
      "text",
      { class: "label", x: (PLOT.left + PLOT.width - PLOT.right) / 2, y: PLOT.height - 8, "text-anchor": "middle" },
      "FLOP per byte moved",
    ),
    svg(
      "text",
      { class: "label", transform: `translate(14 ${PLOT.height / 2}) rotate(-90)`, "text-anchor": "middle" },
      "FLOP per second",
    ),
  );
  node.append(
    ...roofLines(roofs, target, x, y),
    ...together(points, (kernel) => [x(kernel.roofline.intensity), y(reached(kernel))]).map(([found, at]) =>
      pointOf(found, at, y),
    ),
  );
  return node;
}

const peakOf = (points, dtype, target) => {
  const at = points.find((k) => k.roofline.dtype === dtype).roofline;
  return at.ridge * target.bandwidth;
};

// A logarithmic scale over `values`, a little wider.
function scale(values, from, to, spare) {
  const low = Math.log10(Math.min(...values) / spare),
    high = Math.log10(Math.max(...values) * spare);
  const at = (value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from);
  const powers = [];
  for (let power = Math.ceil(low); power <= high; power++) powers.push(power);
  return Object.assign(at, { low: 10 ** low, high: 10 ** high, powers });
}

const TINY = { "-3": "0.001", "-2": "0.01", "-1": "0.1", 0: "1", 1: "10", 2: "100", 3: "1 k", 4: "10 k" };
function ticks(x, y) {
  const bottom = PLOT.height - PLOT.bottom,
    right = PLOT.width - PLOT.right;
  return [
    x.powers.map((p) => [
      svg("line", { class: "grid", x1: x(10 ** p), x2: x(10 ** p), y1: PLOT.top, y2: bottom }),
      svg("text", { class: "tick", x: x(10 ** p), y: bottom + 17, "text-anchor": "middle" }, TINY[p] ?? `10^${p}`),
    ]),
    y.powers.map((p) => [
      svg("line", { class: "grid", x1: PLOT.left, x2: right, y1: y(10 ** p), y2: y(10 ** p) }),
      svg(
        "text",
        { class: "tick", x: PLOT.left - 8, y: y(10 ** p) + 4, "text-anchor": "end" },
        rate(10 ** p).replace(".0", ""),
      ),
    ]),
    svg("path", { class: "axis", fill: "none", d: `M${PLOT.left} ${PLOT.top}V${bottom}H${right}` }),
  ].flat(Infinity);
}

function roofLines(roofs, target, x, y) {
  const [, peak] = roofs[0];
  const ridge = peak / target.bandwidth,
    start = Math.max(x.low, y.low / target.bandwidth),
    bottom = PLOT.height - PLOT.bottom;
  const found = [
    svg("path", {
      class: "under",
      d: `M${x(start)} ${y(start * target.bandwidth)}L${x(ridge)} ${y(peak)}H${x(x.high)}V${bottom}H${x(start)}Z`,
    }),
    svg("path", {
      class: "roof",
      d: `M${x(start)} ${y(start * target.bandwidth)}L${x(ridge)} ${y(peak)}H${x(x.high)}`,
    }),
    svg("line", { class: "ridge", x1: x(ridge), x2: x(ridge), y1: y(peak), y2: bottom }),
    svg("text", { class: "roof-name", x: x(ridge) + 6, y: bottom - 8 }, `ridge ${number(ridge)} FLOP/B`),
    svg(
      "text",
      { class: "roof-name", x: x(x.high) - 4, y: y(peak) - 16, "text-anchor": "end" },
      `${rate(peak)}FLOP/s, ${roofs[0][0]}`,
    ),
  ];
  const middle = Math.sqrt(start * ridge);
  const angle =
    (Math.atan2(y(ridge * target.bandwidth) - y(start * target.bandwidth), x(ridge) - x(start)) * 180) / Math.PI;
  found.push(
    svg(
      "text",
      {
        class: "roof-name",
        "text-anchor": "middle",
        transform: `translate(${x(middle)} ${y(middle * target.bandwidth) - 8}) rotate(${angle})`,
      },
      `${rate(target.bandwidth)}B/s`,
    ),
  );
  for (const [name, flops] of roofs.slice(1)) {
    found.push(
      svg("path", {
        class: "roof minor",
        d: `M${x(Math.max(x.low, flops / target.bandwidth))} ${y(flops)}H${x(x.high)}`,
      }),
      svg(
        "text",
        { class: "roof-name", x: x(x.high) - 4, y: y(flops) - 6, "text-anchor": "end" },
        `${rate(flops)}FLOP/s, ${name}`,
      ),
    );
  }
  return found;
}

// Roofs of one height are one, the highest first.
function joined(roofs) {
  const heights = [...new Set(roofs.map(([, flops]) => flops))].sort((a, b) => b - a);
  return heights.map((height) => [
    roofs
      .filter(([, flops]) => flops === height)
      .map(([name]) => name)
      .join(" and "),
    height,
  ]);
}

// Kernels that would cover one another are one point.
function together(points, place) {
  const found = [];
  for (const kernel of points) {
    const [x, y] = place(kernel);
    const near = found.find(([, at]) => Math.hypot(at[0] - x, at[1] - y) < 9);
    if (near) near[0].push(kernel);
    else found.push([[kernel], [x, y]]);
  }
  return found;
}

function pointOf(kernels, [px, py], y) {
  const [kernel] = kernels,
    at = kernel.roofline,
    top = Math.max(PLOT.top, y(kernel.flops / (kernel.floor_us * 1e-6)));
  const label =
      kernels.length > 2 ? `${kernel.index} +${kernels.length - 1}` : kernels.map((each) => each.index).join(","),
    wide = Math.max(18, label.length * 6.2 + 8);
  const node = svg(
    "g",
    {
      class: `point ${at.bound}${kernels.some((each) => each.index === here.kernel) ? " chosen" : ""}`,
      tabindex: "0",
      role: "button",
      "aria-label": `kernel ${kernels.map((each) => each.name).join(", ")}, ${ratio(timesFloor(kernel))} its floor`,
      "data-kernels": kernels.map((each) => each.index).join(" "),
    },
    svg("line", { x1: px, x2: px, y1: py, y2: top }),
    svg("circle", { class: "floor", cx: px, cy: top, r: 3.5 }),
    svg("rect", { class: "spent", x: px - wide / 2, y: py - 9, width: wide, height: 18, rx: 9 }),
    svg("text", { x: px, y: py + 3.5 }, label),
  );
  explains(node, () => [
    ...kernelFacts(kernel),
    kernels.length > 1
      ? el(
          "div",
          { class: "soft" },
          `and ${kernels
            .slice(1, 8)
            .map((each) => each.name)
            .join(", ")}${kernels.length > 8 ? ", ..." : ""}`,
        )
      : "",
  ]);
  return pressable(node, () => go({ kernel: kernel.index }));
}

// Kernels of one kind that take equally long, as those of equal layers do, are shown as the first of them.
function alike(kernels) {
  const found = new Map();
  for (const kernel of kernels) {
    const key = JSON.stringify([kernel.ops, kernel.bytes, kernel.flops, ratio(timesFloor(kernel))]);
    const [first, count] = found.get(key) ?? [kernel, 0];
    found.set(key, [first, count + 1]);
  }
  return [...found.values()];
}

function ranking() {
  return el(
    "div",
    null,
    el("h3", { style: "margin-bottom: 8px" }, "Times their floor"),
    el(
      "div",
      { class: "ranking", id: "ranking" },
      alike(ranked()).map(([kernel, count]) =>
        el(
          "button",
          { onclick: () => go({ kernel: kernel.index }), title: kernel.name },
          el("span", { class: "faint num" }, kernel.index),
          el(
            "span",
            { class: "which" },
            el("i", { class: `dot ${kernel.roofline?.bound}` }),
            kernel.name,
            count > 1 ? el("span", { class: "faint" }, `  +${count - 1} alike`) : null,
          ),
          el("span", { class: "num" }, ratio(timesFloor(kernel))),
        ),
      ),
    ),
    el(
      "p",
      { class: "soft", style: "margin-top: 14px; font-size: 12.5px" },
      "The floor is the time that moving the bytes once or computing the contractions takes, whichever is longer, at what the device reaches. A short kernel is far from it for its launch alone.",
    ),
  );
}
