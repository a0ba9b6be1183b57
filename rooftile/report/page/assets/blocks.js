// What views are built of: pages of sections, tables, bars.

const page = (...sections) => el("div", { class: "page" }, sections);
const empty = (text) => el("p", { class: "empty" }, text);

// A section under a title, with what the title leaves to be said beside it.
const section = (title, says, ...content) =>
  el(
    "section",
    null,
    el(
      "div",
      { class: "section-head" },
      el("h2", null, title),
      says ? el("span", { class: "soft" }, [says].flat()) : null,
    ),
    content,
  );

// A table of rows, under the names of its columns where it has any; `numbers` are the columns of numbers, from 0.
function table(rows, columns = [], numbers = [], attributes = null) {
  const heads = columns.map((name, n) => el("th", { scope: "col", class: numbers.includes(n) ? "num" : "" }, name));
  const head = columns.length ? el("thead", null, el("tr", null, heads)) : null;
  return el("table", attributes, head, el("tbody", null, rows));
}
const scrolled = (...content) => el("div", { class: "scroll" }, content);

// A bar of `share`, from 0 to 1, between its name and what it stands for.
const bar = (name, share, kind, said) => [
  el("span", { class: "soft" }, name),
  el("div", { class: "track" }, el("div", { class: `fill ${kind}`, style: `width: ${(100 * share).toFixed(2)}%` })),
  el("span", { class: "num" }, said),
];

// An entry of a legend: a swatch of a kind or a style, and what it means.
const legendEntry = (swatch, text) => el("span", null, el("i", swatch), text);
