// The panel of one kernel: its tabs, and the first of them, with what it moves, what bounds it, how it is scheduled.

const KERNEL_TABS = [
  ["summary", "Summary"],
  ["lines", "Lines"],
  ["ops", "Ops"],
  ["ir", "IR"],
  ["triton", "Triton"],
];

async function kernelPanel() {
  const panel = byId("detail");
  const kernel = here.kernel === null ? null : data.kernels[here.kernel];
  panel.hidden = !kernel;
  if (!kernel) return panel.replaceChildren();
  if (kernel.kind !== "triton" && here.tab !== "summary" && here.tab !== "lines") here.tab = "summary";
  const parts = { summary: kernelSummary, lines: kernelLines, ops: kernelOps, ir: kernelIr, triton: kernelTriton };
  const tabs = KERNEL_TABS.filter(([tab]) => kernel.kind === "triton" || tab === "summary" || tab === "lines");
  const ticket = ++asked;
  const content = await parts[here.tab](kernel);
  if (ticket !== asked) return undefined;
  const fills = here.tab === "ir" || here.tab === "triton";
  const body = el("div", { class: fills ? "detail-body fills" : "detail-body", role: "tabpanel" }, content);
  panel.replaceChildren(
    el(
      "div",
      { class: "detail-head" },
      el(
        "div",
        { class: "row" },
        el("span", { class: "faint" }, kernel.index),
        el("h2", { title: kernel.name }, kernel.name),
        el(
          "button",
          {
            class: "plain",
            title: "The one before (k)",
            "aria-label": "The kernel before",
            onclick: () => stepKernel(-1),
          },
          "↑",
        ),
        el(
          "button",
          { class: "plain", title: "The next one (j)", "aria-label": "The next kernel", onclick: () => stepKernel(1) },
          "↓",
        ),
        el(
          "button",
          { class: "plain", title: "Close (Esc)", "aria-label": "Close", onclick: () => go({ kernel: null }) },
          "✕",
        ),
      ),
      el("div", { class: "soft mono", style: "font-size: 12px" }, modulesOf(kernel).join(", ")),
      el(
        "div",
        { class: "tabs", role: "tablist" },
        tabs.map(([tab, name]) =>
          el(
            "button",
            { role: "tab", "aria-selected": String(tab === here.tab), "data-tab": tab, onclick: () => go({ tab }) },
            name,
          ),
        ),
      ),
    ),
    body,
  );
  body.querySelector(".op-here")?.scrollIntoView({ block: "center" });
  return undefined;
}
let asked = 0;

function stepKernel(by) {
  if (!data.kernels.length) return;
  const next = here.kernel === null ? (by > 0 ? 0 : data.kernels.length - 1) : here.kernel + by;
  go({ kernel: Math.max(0, Math.min(data.kernels.length - 1, next)) });
}

const part = (title, ...content) => el("div", { class: "part" }, title ? el("h3", null, title) : null, content);

function kernelSummary(kernel) {
  const at = kernel.roofline;
  return [
    isCalled(kernel) ? null : part(null, el("p", null, "Computed once from weights, and kept: no part of a call.")),
    part(
      null,
      el(
        "div",
        { class: "columns" },
        facts([
          ["moves", amount(kernel.bytes, "B")],
          ["computes", kernel.flops === null ? "" : amount(kernel.flops, "FLOP")],
          ["intensity", at ? `${number(at.intensity)} FLOP/B, ridge ${number(at.ridge)}` : ""],
        ]),
        facts([
          ["floor", time(kernel.floor_us)],
          [kernel.time_us === null ? "expected" : "measured", time(spent(kernel))],
          ["times its floor", ratio(timesFloor(kernel))],
        ]),
      ),
    ),
    at ? part("Time", timeBars(kernel, at)) : null,
    kernel.members.length
      ? kernel.members.map((member) => part(`Beside others: ${member.name}`, scheduleOf(member)))
      : kernel.schedule.axes
        ? part("Schedule", scheduleOf(kernel))
        : null,
    kernel.resources
      ? part(
          "Resources",
          facts([
            ["registers a thread", kernel.resources.registers],
            ["spilled a thread", amount(kernel.resources.spill_bytes, "B")],
            ["shared memory a program", amount(kernel.resources.shared_bytes, "B")],
          ]),
        )
      : null,
    kernel.notes.length
      ? part(
          "How tiles are moved",
          kernel.notes.map((note) => el("p", null, note)),
        )
      : null,
    part("Memory", bufferList("reads", kernel), bufferList("writes", kernel)),
    aboutKernel(kernel),
  ];
}

function timeBars(kernel, at) {
  const rows = [
    ["memory", at.memory_us],
    ["contractions", at.contractions_us],
    ["arithmetic", at.arithmetic_us],
    ["launch", at.launch_us],
  ];
  const most = Math.max(...rows.map(([, us]) => us), spent(kernel) ?? 0);
  const shown = (name, us, kind) => bar(name, us / most, kind, time(us));
  return el(
    "div",
    { class: "bars" },
    rows.map(([kind, us]) => shown(BOUNDS[kind], us, kind)),
    spent(kernel) === null ? null : shown(kernel.time_us === null ? "expected" : "measured", spent(kernel), "spent"),
  );
}

function stepsOf(loop) {
  if (!loop) return "";
  const steps =
    loop.visited === null
      ? "as the data say"
      : loop.visited === loop.total
        ? `${loop.total} steps`
        : `${loop.visited} of ${loop.total} steps`;
  return steps + (loop.phases.length > 1 ? `: ${loop.phases.join(", ")}` : "");
}

// The axes of a kernel, or of a member of a launch, and what else its schedule says.
function scheduleOf({ schedule, loops }) {
  const { axes, grid, group, num_warps: warps, num_stages: stages, ...options } = schedule;
  const steps = new Map(loops.map((loop) => [loop.axis, loop]));
  const rows = axes.map((axis) =>
    el(
      "tr",
      null,
      el("td", { class: "mono" }, axis.axis),
      el("td", { class: "num" }, axis.extent),
      el("td", null, axis.role),
      el("td", { class: "num" }, axis.role === "whole" ? "" : axis.tile),
      el("td", { class: "soft" }, stepsOf(steps.get(axis.axis))),
    ),
  );
  const more = Object.entries(options).map(([name, value]) => (value === true ? name : `${name} ${value}`));
  const says = [
    `grid ${grid.join(", ") || "of one"}`,
    `${warps} warps`,
    `${stages} stage${stages === 1 ? "" : "s"}`,
    group ? `${group[1]} tiles of ${group[0]} together` : "",
    ...more,
  ];
  return [
    table(rows, ["axis", "extent", "role", "tile", ""], [1, 3]),
    el("p", { class: "soft", style: "margin-top: 8px" }, says.filter(Boolean).join(" · ")),
  ];
}

function bufferList(what, kernel) {
  const rows = kernel[what].map((name, n) => {
    const buffer = bufferNamed(name);
    return [
      el(
        "tr",
        null,
        el("td", { class: "soft", style: "width: 56px" }, n ? "" : what),
        el("td", { class: "mono" }, "%" + withoutPrefix(name)),
        el("td", { class: "mono soft" }, buffer ? `${buffer.dtype}[${buffer.shape.join(", ")}]` : ""),
        buffer ? amountCell(buffer.bytes, "B") : el("td"),
      ),
      passedOn(what, name, kernel),
    ];
  });
  return rows.length ? table(rows.flat()) : null;
}

// Who is at the other end of a buffer, and why it passes through memory.
function passedOn(what, name, kernel) {
  const others = what === "reads" ? writersOf(name) : readersOf(name);
  const why = isCalled(kernel) ? whyStored(name, kernel.program) : null;
  if (!others.length && !why) return null;
  const links = others.slice(0, 6).map((other, n) => [n ? ", " : "", kernelLink(other)]);
  const more = others.length > 6 ? ` and ${others.length - 6} more` : "";
  return el(
    "tr",
    { class: "behind" },
    el("td"),
    el(
      "td",
      { colspan: 3, class: "soft" },
      others.length ? el("div", null, what === "reads" ? "from " : "to ", links, more) : null,
      why ? el("div", { class: "why-stored" }, valuesIn(why[0])) : null,
      why?.[1] ? el("div", { class: "change" }, why[1]) : null,
    ),
  );
}

function aboutKernel(kernel) {
  const values = new Set([...kernel.values, ...kernel.writes.map(withoutPrefix)]);
  const rows = data.report.ledger.filter((row) => row.values.some((value) => values.has(value)));
  return rows.length
    ? part(
        "Decisions about its values",
        rows.map((row) =>
          el(
            "p",
            { style: "padding: 4px 0" },
            el("span", { class: `kind ${row.decision}` }, row.decision),
            " ",
            el("span", { class: "faint" }, row.rule),
            " ",
            valuesIn(reasonOf(row)),
            row.change
              ? el("span", { class: "change soft", style: "display: block; font-size: 12.5px" }, row.change)
              : null,
          ),
        ),
      )
    : null;
}
