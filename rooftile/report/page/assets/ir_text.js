// IR text: its parts of speech, and what a line says about itself.

const IR_TOKEN = new RegExp(
  [
    String.raw`(?<loc>@ (?:"[^"]*" )?[^\s"]+:\d+$)`,
    String.raw`(?<value>%(?:\w+|"[^"]*"))`,
    String.raw`(?<text>"(?:[^"\\]|\\.)*")`,
    String.raw`(?<type>\b(?:f64|f32|f16|bf16|f8e4m3|f8e5m2|i64|i32|i16|i8|u8|b1)\b(?:(?=\[)|(?<==\w+)))`,
    String.raw`(?<word>\b(?:graph|kernel|body|axis|with|symbols|return|store)\b(?=[ (]))`,
    String.raw`(?<op>(?<== )[a-z_][\w.]*)`,
    String.raw`(?<number>\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b)`,
  ].join("|"),
  "g",
);
const IR_CLASS = { value: "v", text: "s-str", type: "t", word: "k-word", op: "o-op", number: "n-num" };
const IR_LOC = /@ (?:"([^"]*)" )?(\S+):(\d+)$/;

const escapeHtml = (text) => text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);

// The pieces of a line: [text, class]. A location is shown without its folders.
function irPieces(line) {
  const pieces = [];
  let end = 0;
  for (const match of line.matchAll(IR_TOKEN)) {
    if (match.index > end) pieces.push([line.slice(end, match.index), ""]);
    end = match.index + match[0].length;
    if (match.groups.loc) {
      const [, module, file, number] = match[0].match(IR_LOC);
      pieces.push([`@ ${module ? module + " " : ""}${baseName(file)}:${number}`, "c-loc", `${file}:${number}`]);
    } else {
      const kind = Object.keys(IR_CLASS).find((name) => match.groups[name] !== undefined);
      pieces.push([match[0], IR_CLASS[kind]]);
    }
  }
  if (end < line.length) pieces.push([line.slice(end), ""]);
  return pieces;
}

const span = (text, kind, title) =>
  kind
    ? `<span class="${kind}"${title ? ` title="${escapeHtml(title).replace(/"/g, "&quot;")}"` : ""}>${escapeHtml(text)}</span>`
    : escapeHtml(text);

// `marked` are the places of pieces that differ from another line's.
const irHtml = (line, marked) =>
  irPieces(line)
    .map(([text, kind, title], n) => (marked?.has(n) ? `<b>${span(text, kind, title)}</b>` : span(text, kind, title)))
    .join("");

const indentOf = (line) => line.length - line.trimStart().length;
const definedBy = (line) =>
  line.match(/^\s*(%[^=]*?) = /)?.[1] ?? line.match(/^\s*(?:graph|kernel|body) (\S+?)\(/)?.[1] ?? null;
const sourceOf = (line) => {
  const found = line.match(IR_LOC);
  return found ? `${found[2]}:${found[3]}` : null;
};
