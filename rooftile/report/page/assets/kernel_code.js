// What a kernel computes, as text: the lines of the model, its ops, its IR after each pass, its Triton source.

function kernelLines(kernel) {
  const files = new Map();
  for (const line of kernel.lines.filter((each) => each.source)) {
    const [file, n] = splitPlace(line.source);
    const found = files.get(file) ?? files.set(file, new Map()).get(file);
    found.set(Number(n), [...(found.get(Number(n)) ?? []), ...line.ops]);
  }
  if (!files.size) return part(null, el("p", { class: "soft" }, "The graph names no lines of a model."));
  return part(
    null,
    el(
      "div",
      { class: "source" },
      [...files].map(([file, wanted]) => [el("div", { class: "file", title: file }, file), sourceRows(file, wanted)]),
    ),
  );
}

function sourceRows(file, wanted) {
  const known = data.sources[file] ?? {};
  const numbers = [
    ...new Set([
      ...Object.keys(known)
        .map(Number)
        .filter((n) => [...wanted.keys()].some((w) => Math.abs(w - n) <= 2)),
      ...wanted.keys(),
    ]),
  ].sort((a, b) => a - b);
  const indent = Math.min(...numbers.filter((n) => known[n]?.trim()).map((n) => indentOf(known[n])));
  return numbers.map((n, i) => [
    i && numbers[i - 1] !== n - 1 ? el("div", { class: "gap" }, "⋯") : null,
    el(
      "div",
      { class: wanted.has(n) ? "row on" : "row", title: wanted.has(n) ? counted(wanted.get(n)) : null },
      el("span", { class: "no" }, n),
      el(
        "span",
        null,
        known[n]?.slice(indent) ?? "(the file is not here)",
        wanted.get(n)?.length ? el("span", { class: "computed" }, counted(wanted.get(n))) : null,
      ),
    ),
  ]);
}

async function kernelOps(kernel) {
  const { stages } = data.programs[kernel.program];
  const ops = opsOfKernel(await textOf(stages[stages.length - 1].text), kernel);
  const rows = ops.map((op, n) =>
    el(
      "tr",
      { class: n === here.op ? "here op-here" : "" },
      el("td", { class: "mono", style: "overflow-wrap: anywhere", html: irHtml(op.text.replace(IR_LOC, "").trim()) }),
      el("td", { class: "mono soft nowrap", title: op.source }, op.source ? places([op.source]) : ""),
    ),
  );
  const says = kernel.members.length
    ? "The graphs of the regions that share the launch, one behind another, as the last pass left them."
    : "The region's graph as the last pass left it; the kernel computes its results.";
  return part(null, el("p", { class: "soft", style: "margin-bottom: 8px" }, says), table(rows));
}

async function kernelIr(kernel) {
  const { stages } = data.programs[kernel.program];
  here.kernelStage = Math.min(here.kernelStage ?? stages.length - 1, stages.length - 1);
  const texts = await Promise.all(stages.map((stage) => textOf(stage.text)));
  const found = texts.map((lines) => linesOfKernel(lines, kernel));
  const differs = (n) =>
    n === 0 ||
    JSON.stringify(found[n].rows.map((r) => r.text)) !== JSON.stringify(found[n - 1].rows.map((r) => r.text));
  const choose = el(
    "select",
    {
      "aria-label": "Pass",
      id: "kernel-stage",
      onchange: (event) => {
        here.kernelStage = Number(event.target.value);
        kernelPanel();
      },
    },
    stages.map((stage, n) =>
      el(
        "option",
        { value: n, selected: n === here.kernelStage },
        `${n} ${stage.name}${differs(n) ? "" : " (the same)"}`,
      ),
    ),
  );
  const { rows, whole } = found[here.kernelStage];
  return [
    el(
      "div",
      { class: "bar" },
      "after",
      choose,
      el("span", { class: "soft" }, whole ? "its region" : "the ops of its lines: there are no regions yet"),
    ),
    codeView(rows),
  ];
}

async function kernelTriton(kernel) {
  const lines = await textOf(kernel.source);
  const copy = el(
    "button",
    {
      class: "chip",
      onclick: async () => {
        try {
          await navigator.clipboard.writeText(lines.join("\n") + "\n");
          copy.textContent = "Copied";
        } catch {
          copy.textContent = "The browser does not allow it";
        }
      },
    },
    "Copy",
  );
  const view = codeView(pythonHtml(lines).map((html, i) => ({ html, no: i + 1 })));
  const start = lines.findIndex((line) => line.startsWith(`def ${kernel.name}(`));
  if (start > 0)
    requestAnimationFrame(() => {
      const at = view.querySelectorAll(".ln")[Math.max(0, start - 1)];
      if (at) view.scrollTop = at.offsetTop - view.offsetTop;
    });
  return [
    el(
      "div",
      { class: "bar" },
      el("span", { class: "soft" }, `${lines.length} lines; the file runs and checks itself`),
      el("span", { class: "rest" }),
      copy,
    ),
    view,
  ];
}
