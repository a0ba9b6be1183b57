// Views, the address that names them, and keys.

const VIEWS = [
  ["overview", "Overview", overview],
  ["graph", "Graph", graph],
  ["passes", "Passes", passes],
  ["roofline", "Roofline", roofline],
  ["memory", "Memory", memory],
  ["masks", "Masks", masks],
  ["decisions", "Decisions", decisions],
];
const FILLING = new Set(["graph", "passes", "decisions"]);
const OF_ONE_GRAPH = new Set(["graph", "passes", "memory", "masks"]);
const nothing = () => empty("No graph was compiled: the model computes nothing, or nothing that could be imported.");

// Go somewhere: whatever is not named stays.
function go(change) {
  const before = { ...here };
  if ("kernel" in change && change.kernel !== null) {
    const kernel = data.kernels[change.kernel];
    change.program = kernel.program;
    if (change.kernel !== here.kernel && !("op" in change)) change.op = null;
  }
  Object.assign(here, change);
  remember();
  if (here.view !== before.view || here.program !== before.program) render();
  else if (here.kernel !== before.kernel) followKernel(before.kernel === null || here.kernel === null);
  kernelPanel();
}

function followKernel(resized) {
  if (here.view === "graph" && graphView) {
    graphView.choose();
    if (here.kernel !== null)
      requestAnimationFrame(() => {
        if (graphView && stepHere() !== null) graphView.reveal(stepHere());
      });
    else if (resized) graphView.port.apply();
  } else if (here.view === "overview")
    for (const row of byId("kernels").querySelectorAll("tbody tr"))
      row.classList.toggle("here", Number(row.cells[0].textContent) === here.kernel);
  else if (here.view === "roofline")
    for (const point of document.querySelectorAll(".point"))
      point.classList.toggle("chosen", point.dataset.kernels.split(" ").includes(String(here.kernel)));
  else if (here.view === "memory") render();
}

async function render() {
  hideTooltip();
  const view = byId("view");
  view.className = FILLING.has(here.view) ? "view fills" : "view";
  for (const tab of byId("tabs").children) {
    tab.setAttribute("aria-selected", String(tab.dataset.view === here.view));
    if (tab.dataset.view === here.view) tab.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  byId("program").value = here.program;
  graphView = null;
  const show =
    OF_ONE_GRAPH.has(here.view) && !data.programs.length ? nothing : VIEWS.find(([name]) => name === here.view)[2];
  const content = await show();
  view.replaceChildren(...[content].flat());
  view.scrollTop = 0;
}

function remember() {
  const parts = new URLSearchParams();
  if (here.program) parts.set("graph", here.program);
  if (here.kernel !== null) {
    parts.set("kernel", here.kernel);
    if (here.tab !== "summary") parts.set("tab", here.tab);
  }
  if (here.view === "passes" && here.stage !== null) parts.set("pass", here.stage);
  const query = parts.toString();
  history.replaceState(null, "", `#${here.view}${query ? "?" + query : ""}`);
}

function recall() {
  const [view, query] = location.hash.slice(1).split("?");
  const parts = new URLSearchParams(query);
  const within = (name, count) => (parts.has(name) && Number(parts.get(name)) < count ? Number(parts.get(name)) : null);
  if (VIEWS.some(([name]) => name === view)) here.view = view;
  here.program = within("graph", data.programs.length) ?? 0;
  here.kernel = within("kernel", data.kernels.length);
  here.stage = parts.has("pass") ? Number(parts.get("pass")) || 0 : here.stage;
  here.tab = KERNEL_TABS.some(([tab]) => tab === parts.get("tab")) ? parts.get("tab") : "summary";
}

const KEYS = [
  ["1 … 7", "a view"],
  ["/", "find"],
  ["j  k", "the next kernel, the one before"],
  ["s  l  o  i  c", "of a kernel: summary, lines, ops, IR, code"],
  ["Esc", "close the kernel"],
  ["←  →", "passes: one back, one on"],
  ["d", "passes: what changed, or all of it"],
  ["+  −  0", "graph: larger, smaller, all of it"],
  ["n", "graph: the next that was found"],
  ["t", "light or dark"],
  ["?", "these keys"],
];

function onKey(event) {
  const field = event.target.matches("input[type=search], select");
  if (event.key === "Escape") {
    if (field) event.target.blur();
    else if (!byId("keys").open) go({ kernel: null });
    return;
  }
  if (field || event.ctrlKey || event.metaKey || event.altKey) return;
  const tabs = { s: "summary", l: "lines", o: "ops", i: "ir", c: "triton" };
  const view = VIEWS[Number(event.key) - 1];
  if (view) go({ view: view[0] });
  else if (event.key === "/" && byId("search")) byId("search").focus();
  else if (event.key === "j" || event.key === "k") stepKernel(event.key === "j" ? 1 : -1);
  else if (event.key === "t") switchTheme();
  else if (event.key === "?") byId("keys").showModal();
  else if (event.key === "n" && graphView) graphView.find(here.query, true);
  else if (tabs[event.key] && here.kernel !== null) go({ tab: tabs[event.key] });
  else if (here.view === "passes" && event.key === "d") {
    here.mode = here.mode === "diff" ? "ir" : "diff";
    showStage(here.stage);
  } else if (
    here.view === "passes" &&
    (event.key === "ArrowLeft" || event.key === "ArrowRight") &&
    !event.target.closest(".code")
  )
    showStage(here.stage + (event.key === "ArrowRight" ? 1 : -1));
  else return;
  event.preventDefault();
}

const stored = {
  get: () => {
    try {
      return localStorage.getItem("rooftile-theme");
    } catch {
      return null;
    }
  },
  set: (theme) => {
    try {
      localStorage.setItem("rooftile-theme", theme);
    } catch {
      /* not kept */
    }
  },
};
const dark = matchMedia("(prefers-color-scheme: dark)");
const setTheme = (theme) => {
  document.documentElement.dataset.theme = theme;
};
function switchTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  stored.set(theme);
  setTheme(theme);
}

function frame() {
  setTheme(stored.get() ?? (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", () => {
    if (!stored.get()) setTheme(dark.matches ? "dark" : "light");
  });
  byId("tabs").append(
    ...VIEWS.map(([name, title]) =>
      el("button", { role: "tab", "data-view": name, onclick: () => go({ view: name }) }, title),
    ),
  );
  byId("theme").addEventListener("click", switchTheme);
  byId("help").addEventListener("click", () => byId("keys").showModal());
  byId("keys").append(
    el("h2", null, "Keys"),
    el(
      "dl",
      null,
      KEYS.map(([keys, what]) => [
        el(
          "dt",
          null,
          keys.split("  ").map((key, n) => [n ? " " : "", el("kbd", null, key)]),
        ),
        el("dd", null, what),
      ]),
    ),
    el(
      "form",
      { method: "dialog", style: "margin-top: 14px; text-align: right" },
      el("button", { class: "chip" }, "Close"),
    ),
  );
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", () => {
    recall();
    render();
    kernelPanel();
  });
}

async function start() {
  frame();
  takeContent(await unpack("content"));
  recall();
  const { programs } = data;
  byId("model").textContent =
    `${programs.length === 1 ? programs[0].name : `${programs.length} graphs`} · ${data.report.target?.name ?? ""}`;
  byId("program").hidden = programs.length < 2;
  byId("program").append(...programs.map((each, n) => el("option", { value: n }, `graph ${n + 1}`)));
  byId("program").addEventListener("change", (event) =>
    go({ program: Number(event.target.value), kernel: null, stage: null }),
  );
  await render();
  await kernelPanel();
  document.documentElement.dataset.ready = "true";
}

start();
