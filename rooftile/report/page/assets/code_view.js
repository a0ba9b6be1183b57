// Long texts as lines in chunks: all are there for the browser's own search, and get their colours when they come into view.

const CHUNK = 120;
const LINE_HEIGHT = 18.6;

// `rows`: { text, no, kind, marked } with plain IR, or { html, no } ready made.
function codeView(rows, { wrap = false } = {}) {
  const view = el("div", { class: wrap ? "code wraps" : "code", tabindex: "0" });
  const colour = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((each) => each.isIntersecting)) {
        colour.unobserve(entry.target);
        fill(entry.target);
      }
    },
    { root: null, rootMargin: "600px" },
  );
  let chunk = [];
  const flush = () => {
    if (!chunk.length) return;
    const block = el("div", {
      class: "chunk",
      style: `contain-intrinsic-size: auto ${Math.round(chunk.length * LINE_HEIGHT)}px`,
    });
    block.rows = chunk;
    block.append(...chunk.map((row) => lineOf(row, row.html ?? escapeHtml(row.text))));
    view.append(block);
    if (chunk.some((row) => row.html === undefined)) colour.observe(block);
    chunk = [];
  };
  for (const row of rows) {
    if (row.kind === "fold") {
      flush();
      view.append(foldOf(row, wrap));
      continue;
    }
    chunk.push(row);
    if (chunk.length === CHUNK) flush();
  }
  flush();
  view.addEventListener("click", (event) => {
    if (event.target.classList.contains("v")) markValue(view, event.target.textContent);
  });
  return view;
}

const lineOf = (row, html) =>
  el(
    "div",
    { class: `ln ${row.kind ?? ""}${row.found ? " found" : ""}` },
    el("span", { class: "no" }, row.no ?? ""),
    el("span", { html }),
  );

function fill(block) {
  block.rows.forEach((row, i) => {
    if (row.html === undefined) block.children[i].lastChild.innerHTML = irHtml(row.text, row.marked);
  });
  const view = block.closest(".code");
  if (view?.dataset.value) markValue(block, view.dataset.value, true);
}

function foldOf(row, wrap) {
  const button = el("button", { class: "fold" }, `${row.rows.length} unchanged line${row.rows.length > 1 ? "s" : ""}`);
  button.holds = (text) => row.rows.some((each) => each.text.includes(text));
  button.addEventListener("click", () => button.replaceWith(...codeView(numbered(row.rows), { wrap }).childNodes));
  return button;
}

const numbered = (rows) => rows.map((row) => (row.kind === "fold" ? row : { ...row, no: (row.b ?? row.a) + 1 }));
const plainRows = (lines) => lines.map((text, i) => ({ text, no: i + 1 }));

// All occurrences of one value.
function markValue(root, name, keep = false) {
  const view = root.closest(".code") ?? root;
  const off = !keep && view.dataset.value === name;
  if (!keep) view.dataset.value = off ? "" : name;
  for (const each of root.querySelectorAll(".v")) each.classList.toggle("hit", !off && each.textContent === name);
}

const scrollToFound = (view) => view.querySelector(".found")?.scrollIntoView({ block: "center" });
