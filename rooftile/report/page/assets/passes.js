// The IR after each pass, and what each changed, along a slider.

async function passes() {
  const { stages } = program();
  here.stage = Math.min(here.stage ?? firstChange(stages), stages.length - 1);
  const body = el("div", { class: "passes" });
  const slider = el("input", {
    class: "slider",
    type: "range",
    min: 0,
    max: stages.length - 1,
    value: here.stage,
    id: "slider",
    "aria-label": "Pass",
  });
  slider.addEventListener("input", () => showStage(Number(slider.value)));
  const search = el("input", {
    type: "search",
    placeholder: "Find in this text",
    "aria-label": "Find in the IR",
    id: "search",
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") findInCode(search.value, event.shiftKey);
  });
  const bar = el(
    "div",
    { class: "bar" },
    el("b", { id: "stage-name", class: "nowrap" }),
    slider,
    el("span", { id: "modes" }),
    el("span", { id: "wrapping" }),
    search,
    el("span", { class: "soft nowrap", id: "found" }),
  );
  const list = el(
    "div",
    { class: "pass-list", id: "pass-list" },
    stages.map((stage, n) =>
      el(
        "button",
        { class: stage.changed ? "changed" : "", "data-stage": n, onclick: () => showStage(n) },
        el("i"),
        stage.name,
        el("small", null, passTime(n)),
      ),
    ),
  );
  body.append(list, el("div", { class: "code", id: "ir" }));
  queueMicrotask(() => showStage(here.stage));
  return [bar, body];
}

const firstChange = (stages) =>
  Math.max(
    0,
    stages.findIndex((stage) => stage.name === "fuse"),
  );
function passTime(n) {
  const before = data.programs.slice(0, here.program).reduce((sum, other) => sum + other.stages.length, 0);
  const row = data.report.passes[before + n];
  return row && n
    ? row.seconds >= 0.1
      ? `${row.seconds.toFixed(1)} s`
      : `${(row.seconds * 1e3).toFixed(row.seconds < 0.01 ? 1 : 0)} ms`
    : "";
}

let shown = 0; // a text that comes late must not overwrite a later one
async function showStage(n) {
  const { stages } = program();
  here.stage = Math.max(0, Math.min(n, stages.length - 1));
  const ticket = ++shown;
  const stage = stages[here.stage],
    before = stages[here.stage - 1];
  const [text, old] = [await textOf(stage.text), before ? await textOf(before.text) : null];
  if (ticket !== shown || here.view !== "passes" || !byId("ir")) return;
  const asDiff = here.mode === "diff" && before && stage.changed;
  const rows = asDiff ? numbered(folded(difference(old, text))) : plainRows(text);
  const view = codeView(rows, { wrap: here.wrap });
  view.id = "ir";
  byId("ir").replaceWith(view);
  byId("slider").value = here.stage;
  byId("stage-name").textContent = `${here.stage}  ${stage.name}`;
  const quiet = before && !stage.changed;
  byId("found").textContent = quiet ? "changed nothing" : asDiff ? changes(rows) : `${text.length} lines`;
  byId("modes").replaceChildren(
    segments(
      [
        ["diff", "Changes"],
        ["ir", "All of it"],
      ],
      here.mode,
      (mode) => {
        here.mode = mode;
        showStage(here.stage);
      },
      "What is shown",
    ),
  );
  byId("wrapping").replaceChildren(
    el(
      "button",
      {
        class: "chip",
        "aria-pressed": String(here.wrap),
        onclick: () => {
          here.wrap = !here.wrap;
          showStage(here.stage);
        },
      },
      "Wrap",
    ),
  );
  for (const button of byId("pass-list").children)
    button.setAttribute("aria-current", String(Number(button.dataset.stage) === here.stage));
  remember();
}

function changes(rows) {
  const count = (kind) => rows.filter((row) => row.kind === kind).length;
  return `+${count("add")} −${count("del")}`;
}

// The next line with this text, and how many there are; what is folded away is unfolded for it.
let foundLine = -1;
function findInCode(text, backwards) {
  const view = byId("ir");
  if (text) for (const fold of view.querySelectorAll(".fold")) if (fold.holds(text)) fold.click();
  const lines = [...view.querySelectorAll(".ln")];
  for (const line of lines) line.classList.remove("found");
  const matching = text
    ? lines
        .map((line, n) => [line.textContent, n])
        .filter(([content]) => content.includes(text))
        .map(([, n]) => n)
    : [];
  byId("found").textContent = `${matching.length} line${matching.length === 1 ? "" : "s"}`;
  if (!matching.length) return;
  const later = backwards
    ? (matching.filter((n) => n < foundLine).pop() ?? matching[matching.length - 1])
    : (matching.find((n) => n > foundLine) ?? matching[0]);
  foundLine = later;
  lines[later].classList.add("found");
  scrollToFound(view);
}
