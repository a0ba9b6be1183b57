// The first view: what was compiled, the kernels with their floors, and the model with the kernels that serve each line.

const order = { key: null, down: false };

function overview() {
  const { report } = data;
  const versions = Object.entries(report.versions).map(([name, version]) => `${name} ${version}`);
  return page(
    el(
      "section",
      null,
      el("p", { class: "soft", style: "margin-bottom: 16px" }, report.device, " · ", versions.join(" · ")),
      figures(),
      traffic(),
      furthest(),
    ),
    section(
      "Kernels",
      measured() ? "in order, as measured" : "in order; times are what the cost model expects",
      scrolled(kernelTable()),
    ),
    section("Model", "its modules and lines, and the kernels that serve each", modelTree()),
    packed(),
    report.notes.length ? section("Computed not quite as written", null, notes()) : null,
  );
}

// What depends on weights alone is no part of a call.
function packed() {
  const rows = once().map((kernel) =>
    el(
      "tr",
      { class: "go", onclick: () => go({ kernel: kernel.index }) },
      el("td", { class: "num faint" }, kernel.index),
      el("td", { class: "nowrap" }, kernelLink(kernel)),
      el("td", { class: "soft" }, computedBy(kernel)),
      amountCell(kernel.bytes, "B"),
      el("td", { class: "mono soft" }, places(kernel.sources)),
    ),
  );
  const says = "again only when a weight has changed; no part of a call, nor of the figures above";
  return rows.length
    ? section("Computed once, from weights alone", says, scrolled(table(rows, [], [], { id: "packed" })))
    : null;
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
  const floor = called().reduce((sum, kernel) => sum + (kernel.floor_us ?? 0), 0);
  const all = called().reduce((sum, kernel) => sum + (spent(kernel) ?? 0), 0);
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
  const row = (name, value, kind) => bar(name, value / Math.max(eager, bytes), kind, amount(value, "B"));
  const times = `${(eager / bytes).toFixed(1)} times less memory traffic than running each op by itself`;
  return el(
    "div",
    { class: "compare", role: "img", "aria-label": `${amount(bytes, "B")} moved, ${amount(eager, "B")} op by op` },
    row("moved", bytes, ""),
    row("op by op", eager, "old"),
    [el("span"), el("span", { class: "soft" }, times), el("span")],
  );
}

function ranked() {
  return called().filter((kernel) => timesFloor(kernel) !== null).sort((a, b) => timesFloor(b) - timesFloor(a));
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
    ` takes ${ratio(timesFloor(far))} its floor`,
    far.roofline?.bound === "launch" ? ", for its launch takes longer than what it does. " : ". ",
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
  const shown = el("table", { id: "kernels" });
  const value = order.key === null ? null : COLUMNS[order.key][1];
  const rows = called();
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a ?? "").localeCompare(String(b ?? ""));
  if (value) rows.sort((a, b) => compare(value(a), value(b)) * (order.down ? -1 : 1));
  const sort = (key) => {
    order.down = order.key === key ? !order.down : key > 2;
    order.key = key;
    shown.replaceWith(kernelTable());
  };
  shown.append(
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
  return shown;
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
        : (kernel.kind === "library" ? "a library's: " : "") + computedBy(kernel),
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
  const names = (found) => found.slice(0, 6).map((note) => "%" + note.value);
  const rows = [...alike].map(([text, found]) =>
    el(
      "tr",
      null,
      el("td", null, text),
      el("td", { class: "mono soft" }, names(found).join(", "), found.length > 6 ? ` and ${found.length - 6} more` : ""),
      el("td", { class: "mono soft" }, places(found.map((note) => note.source).filter(Boolean))),
    ),
  );
  return scrolled(table(rows));
}
