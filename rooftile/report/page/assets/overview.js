// The first view: what was compiled, the kernels with their floors, and the model with the kernels that serve each line.

const order = { key: null, down: false };

function overview() {
  const { report } = data;
  return el(
    "div",
    { class: "page" },
    el(
      "section",
      null,
      el(
        "p",
        { class: "soft" },
        report.device,
        " · ",
        Object.entries(report.versions)
          .map(([name, version]) => `${name} ${version}`)
          .join(" · "),
      ),
      el("div", { style: "height: 16px" }),
      figures(),
      traffic(),
      furthest(),
    ),
    el(
      "section",
      null,
      el(
        "div",
        { class: "section-head" },
        el("h2", null, "Kernels"),
        el(
          "span",
          { class: "soft" },
          measured() ? "in order, as measured" : "in order; times are what the cost model expects",
        ),
      ),
      el("div", { class: "scroll" }, kernelTable()),
    ),
    el(
      "section",
      null,
      el(
        "div",
        { class: "section-head" },
        el("h2", null, "Model"),
        el("span", { class: "soft" }, "its modules and lines, and the kernels that serve each"),
      ),
      modelTree(),
    ),
    packed(),
    report.notes.length
      ? el(
          "section",
          null,
          el("div", { class: "section-head" }, el("h2", null, "Computed not quite as written")),
          notes(),
        )
      : null,
  );
}

// What depends on weights alone is no part of a call.
function packed() {
  const kernels = data.report.packed ?? [];
  if (!kernels.length) return null;
  const rows = kernels.map((kernel) =>
    el(
      "tr",
      null,
      el("td", { class: "mono" }, kernel.name),
      el("td", { class: "soft" }, counted(kernel.ops)),
      amountCell(kernel.bytes, "B"),
      el("td", { class: "mono soft" }, places(kernel.sources)),
    ),
  );
  const head = el("div", { class: "section-head" }, el("h2", null, "Computed once, from weights alone"));
  return el("section", null, head, el("div", { class: "scroll" }, el("table", null, el("tbody", null, rows))));
}

function figures() {
  const { totals, graphs, uncompiled } = data.report;
  const figure = (value, unit, what) =>
    el(
      "div",
      { class: "figure" },
      el("div", { class: "value" }, value, unit ? el("small", null, unit) : null),
      el("div", { class: "what" }, what),
    );
  const floor = data.kernels.reduce((sum, kernel) => sum + (kernel.floor_us ?? 0), 0);
  const all = data.kernels.reduce((sum, kernel) => sum + (spent(kernel) ?? 0), 0);
  const more = (graphs > 1 ? ` in ${graphs} graphs` : "") + (uncompiled ? `, ${uncompiled} not compiled` : "");
  return el(
    "div",
    { class: "figures" },
    figure(totals.kernels, "", (totals.kernels === 1 ? "kernel" : "kernels") + more),
    figure(...quantity(totals.bytes, "B"), "moved"),
    figure(...quantity(totals.flops, "FLOP"), "computed"),
    figure(...quantity(totals.peak_bytes, "B"), "at the peak, beside inputs"),
    floor ? figure(...time(floor).split(" "), "floor of all kernels") : null,
    all
      ? figure(...time(all).split(" "), measured() ? "measured, kernel by kernel" : "expected by the cost model")
      : null,
  );
}

function traffic() {
  const { bytes, eager_bytes: eager } = data.report.totals;
  if (typeof bytes !== "number" || typeof eager !== "number" || !eager) return null;
  const row = (name, value, kind) => [
    el("span", { class: "soft" }, name),
    el(
      "div",
      { class: "track" },
      el("div", { class: `fill ${kind}`, style: `width: ${((100 * value) / Math.max(eager, bytes)).toFixed(2)}%` }),
    ),
    el("span", { class: "amount" }, amount(value, "B")),
  ];
  return el(
    "div",
    { class: "compare", role: "img", "aria-label": `${amount(bytes, "B")} moved, ${amount(eager, "B")} op by op` },
    row("moved", bytes, ""),
    row("op by op", eager, "old"),
    el("span"),
    el(
      "span",
      { class: "soft" },
      `${(eager / bytes).toFixed(1)} times less memory traffic than running each op by itself`,
    ),
    el("span"),
  );
}

function ranked() {
  return data.kernels.filter((kernel) => timesFloor(kernel) !== null).sort((a, b) => timesFloor(b) - timesFloor(a));
}
// A kernel that takes no longer than its launch is far from its floor whatever is done, so time lost decides.
const lost = (kernel) => spent(kernel) - kernel.floor_us;
const worstOf = () => ranked().sort((a, b) => lost(b) - lost(a))[0];

function furthest() {
  const [far, worst] = [ranked()[0], worstOf()];
  if (!far) return null;
  const how = measured() ? "" : " by the model's estimate";
  const named = (kernel) => kernelLink(kernel);
  return el(
    "p",
    { class: "notice" },
    "Furthest from its floor",
    how,
    ": ",
    named(far),
    ` takes ${ratio(timesFloor(far))} its floor. `,
    far === worst
      ? `It is also where most time is lost: ${time(lost(worst))}.`
      : ["Most time is lost in ", named(worst), `: ${time(lost(worst))} above its floor.`],
  );
}

const kernelLink = (kernel) =>
  el(
    "button",
    {
      class: "link mono",
      onclick: (event) => {
        event.stopPropagation();
        go({ kernel: kernel.index });
      },
    },
    kernel.name,
  );

const COLUMNS = [
  ["", (k) => k.index, "num"],
  ["kernel", (k) => k.name, ""],
  ["computes", (k) => counted(k.ops), "wide"],
  ["moves", (k) => k.bytes, "num"],
  ["FLOP", (k) => k.flops, "num"],
  ["FLOP / B", (k) => k.roofline?.intensity ?? null, "num"],
  ["bound by", (k) => k.roofline?.bound ?? "", ""],
  ["floor", (k) => k.floor_us, "num"],
  ["time", spent, "num"],
  ["× floor", timesFloor, "num"],
];

function kernelTable() {
  const table = el("table", { id: "kernels" });
  const value = order.key === null ? null : COLUMNS[order.key][1];
  const rows = [...data.kernels];
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a ?? "").localeCompare(String(b ?? ""));
  if (value) rows.sort((a, b) => compare(value(a), value(b)) * (order.down ? -1 : 1));
  const sort = (key) => {
    order.down = order.key === key ? !order.down : key > 2;
    order.key = key;
    table.replaceWith(kernelTable());
  };
  table.append(
    el(
      "thead",
      null,
      el(
        "tr",
        null,
        COLUMNS.map(([name, , kind], key) =>
          el(
            "th",
            {
              class: kind,
              scope: "col",
              "aria-sort": order.key === key ? (order.down ? "descending" : "ascending") : null,
            },
            el("button", { onclick: () => sort(key) }, name || "#"),
          ),
        ),
      ),
    ),
    el(
      "tbody",
      null,
      rows.map((kernel) => kernelRow(kernel)),
    ),
  );
  return table;
}

function kernelRow(kernel) {
  const at = kernel.roofline,
    times = timesFloor(kernel);
  return el(
    "tr",
    { class: kernel.index === here.kernel ? "go here" : "go", onclick: () => go({ kernel: kernel.index }) },
    el("td", { class: "num faint" }, kernel.index),
    el(
      "td",
      { class: "nowrap" },
      kernelLink(kernel),
      el("div", { class: "soft" }, modulesOf(kernel).slice(0, 2).join(", ")),
    ),
    el(
      "td",
      { class: "soft", style: "min-width: 180px" },
      kernel.kind === "extern"
        ? "an ATen call"
        : (kernel.kind === "library" ? "a library's: " : "") + counted(kernel.ops),
    ),
    amountCell(kernel.bytes, "B"),
    kernel.flops === null ? el("td") : amountCell(kernel.flops, ""),
    el("td", { class: "num" }, at ? number(at.intensity) : ""),
    el("td", { class: "bound" }, at ? [el("i", { class: `dot ${at.bound}` }), BOUNDS[at.bound]] : ""),
    el("td", { class: "num" }, time(kernel.floor_us)),
    el("td", { class: "num" }, time(spent(kernel))),
    el(
      "td",
      { class: "num" },
      times === null
        ? ""
        : el(
            "span",
            {
              class: times > 2 ? "ratio far" : "ratio",
              title: `the floor is ${(100 / times).toFixed(0)}% of the time`,
            },
            el("i", null, el("b", { style: `width: ${Math.min(100, 100 / times).toFixed(1)}%` })),
            ratio(times),
          ),
    ),
  );
}

function notes() {
  const alike = new Map();
  for (const note of data.report.notes) (alike.get(note.text) ?? alike.set(note.text, []).get(note.text)).push(note);
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      null,
      el(
        "tbody",
        null,
        [...alike].map(([text, found]) =>
          el(
            "tr",
            null,
            el("td", null, text),
            el(
              "td",
              { class: "mono soft" },
              found
                .slice(0, 6)
                .map((n) => "%" + n.value)
                .join(", "),
              found.length > 6 ? ` and ${found.length - 6} more` : "",
            ),
            el("td", { class: "mono soft" }, places(found.map((n) => n.source).filter(Boolean))),
          ),
        ),
      ),
    ),
  );
}
