// Python source as lines of HTML. A string in triple quotes may go on over lines; all else ends with its line.

const PY_TOKEN = new RegExp(
  [
    String.raw`(?<comment>#.*$)`,
    String.raw`(?<open>"""|''')`,
    String.raw`(?<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')`,
    String.raw`(?<name>(?<=\b(?:def|class) )\w+|^\s*@[\w.]+)`,
    String.raw`(?<key>\b(?:and|as|assert|break|class|continue|def|elif|else|except|False|for|from|if|import|in|is|lambda|None|not|or|pass|raise|return|True|try|while|with|yield)\b)`,
    String.raw`(?<number>\b(?:0x[\da-f]+|\d+(?:\.\d*)?(?:e[+-]?\d+)?)\b)`,
    String.raw`(?<dtype>\btl\.(?:float|bfloat|int|uint)\w*)`,
  ].join("|"),
  "g",
);
const PY_CLASS = { comment: "c-loc", text: "s-str", name: "v-def", key: "k-word", number: "n-num", dtype: "t" };

function pythonHtml(lines) {
  let quotes = null; // those that a string over lines is to end with
  return lines.map((line) => {
    let html = "",
      at = 0;
    while (at <= line.length) {
      if (quotes) {
        const end = line.indexOf(quotes, at);
        const stop = end < 0 ? line.length : end + 3;
        html += span(line.slice(at, stop), "s-str");
        if (end < 0) return html;
        [at, quotes] = [stop, null];
        continue;
      }
      PY_TOKEN.lastIndex = at;
      const match = PY_TOKEN.exec(line);
      if (!match) return html + escapeHtml(line.slice(at));
      html += escapeHtml(line.slice(at, match.index));
      if (match.groups.open) {
        quotes = match[0];
        html += span(match[0], "s-str");
      } else html += span(match[0], PY_CLASS[Object.keys(PY_CLASS).find((kind) => match.groups[kind] !== undefined)]);
      at = match.index + match[0].length;
    }
    return html;
  });
}
