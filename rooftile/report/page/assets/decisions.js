// The ledger: what was fused and what was not, why, at what price, and what would change it; then the derivations.

const filter = { kinds: new Set(), text: "", largest: false };

function decisions() {
  const kinds = [...new Set(data.report.ledger.map((row) => row.decision))];
  const list = el("div", { class: "decisions", id: "decisions" });
  const count = el("span", { class: "soft", id: "found" });
  const refresh = () => {
    const rows = wantedDecisions();
    list.replaceChildren(...rows.map((row) => decisionRow(row)));
    count.textContent = `${rows.length} of ${data.report.ledger.length}`;
  };
  const search = el("input", {
    type: "search",
    placeholder: "Value, rule, reason or line",
    "aria-label": "Find a decision",
    value: filter.text,
    id: "search",
  });
  search.addEventListener("input", () => {
    filter.text = search.value;
    refresh();
  });
  const chips = kinds.map((kind) =>
    el(
      "button",
      {
        class: "chip",
        "aria-pressed": String(filter.kinds.has(kind)),
        onclick: (event) => {
          if (!filter.kinds.delete(kind)) filter.kinds.add(kind);
          event.currentTarget.setAttribute("aria-pressed", String(filter.kinds.has(kind)));
          refresh();
        },
      },
      el("span", { class: `kind ${kind}` }, kind),
      data.report.ledger.filter((row) => row.decision === kind).length,
    ),
  );
  const ordering = segments(
    [
      [false, "In order"],
      [true, "By bytes"],
    ],
    filter.largest,
    (value) => {
      filter.largest = value;
      render();
    },
    "Order",
  );
  refresh();
  return [
    el("div", { class: "bar" }, search, chips, el("span", { class: "rest" }), count, ordering),
    el("div", { class: "view" }, page(el("section", null, list), derivations())),
  ];
}

function wantedDecisions() {
  const text = filter.text.trim().toLowerCase();
  const says = (row) =>
    [
      row.decision,
      row.rule,
      row.reason,
      row.change,
      places(row.sources),
      ...row.sources,
      ...row.values.map((v) => "%" + v),
    ].some((part) => part.toLowerCase().includes(text));
  const rows = data.report.ledger.filter(
    (row) => (!filter.kinds.size || filter.kinds.has(row.decision)) && (!text || says(row)),
  );
  return filter.largest ? rows.sort((a, b) => Math.abs(Number(b.bytes) || 0) - Math.abs(Number(a.bytes) || 0)) : rows;
}

function decisionRow(row) {
  const bytes =
    typeof row.bytes === "number"
      ? el(
          "span",
          { class: row.bytes < 0 ? "loss" : row.bytes > 0 ? "gain" : "faint" },
          (row.bytes > 0 ? "−" : "+") + amount(Math.abs(row.bytes), "B"),
        )
      : (row.bytes ?? "");
  return el(
    "div",
    { class: "decision" },
    el("span", { class: `kind ${row.decision}` }, row.decision),
    el("span", { class: "soft" }, row.rule),
    el(
      "span",
      { class: "why" },
      valuesIn(reasonOf(row)),
      row.change ? el("span", { class: "change" }, row.change) : null,
    ),
    el(
      "span",
      { class: "num saves", title: "memory traffic" },
      row.bytes === 0 ? el("span", { class: "faint" }, "0 B") : bytes,
    ),
    el("span", { class: "place", title: row.sources.join("\n") }, places(row.sources)),
  );
}

// A reason that does not name the value that it is about is told which.
const reasonOf = (row) =>
  row.values.length && !row.values.some((value) => mentions(row.reason, value))
    ? `%${row.values[0]}: ${row.reason}`
    : row.reason;
const mentions = (text, value) => text.split(/(%[\w]+)/).includes("%" + value);

// Values in a reason lead to the kernels that compute them.
function valuesIn(text) {
  return text.split(/(%[\w]+)/).map((part) => {
    if (!part.startsWith("%")) return part;
    const kernel = data.kernels.find((each) => each.values.includes(part.slice(1)));
    return kernel
      ? el(
          "button",
          { class: "link mono", title: `computed in ${kernel.name}`, onclick: () => go({ kernel: kernel.index }) },
          part,
        )
      : el("code", null, part);
  });
}

function derivations() {
  const { derivations: found } = data.report;
  if (!found.length) return null;
  return section(
    "Derivations",
    "how several reductions came to share one sweep",
    found.map((row) => [
      el(
        "h3",
        { style: "text-transform: none; letter-spacing: 0; font-size: 13px; margin-top: 14px" },
        valuesIn("%" + row.value),
      ),
      el(
        "div",
        { class: "steps" },
        row.steps.map((step) => [
          el("span", { class: "rule soft" }, step.rule),
          el("code", { class: "soft" }, step.before),
          el("code", null, step.after),
        ]),
      ),
    ]),
  );
}
