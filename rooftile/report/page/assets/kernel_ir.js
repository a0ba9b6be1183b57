// Where a kernel is in the IR after each pass: its region from `fuse` on, the ops of its lines before.

function regionOf(lines, name) {
  const quotedName = `name="${name}"`;
  const start = lines.findIndex((line) => line.includes(" = region(") && line.includes(quotedName));
  if (start < 0) return null;
  const indent = indentOf(lines[start]);
  let end = start + 1;
  while (end < lines.length && indentOf(lines[end]) > indent) end++;
  return lines.slice(start, end).map((text, i) => ({ text: text.slice(indent), no: start + i + 1 }));
}

// The regions of a kernel: those that share its launch, else its own; none before `fuse`.
const regionsOf = (lines, kernel) =>
  (kernel.members.length ? kernel.members : [kernel])
    .map(({ name }) => regionOf(lines, name))
    .filter((region) => region !== null);

function linesOfKernel(lines, kernel) {
  const regions = regionsOf(lines, kernel);
  if (regions.length) return { rows: regions.flat(), whole: true };
  const wanted = new Set(kernel.lines.map((line) => `${line.module} ${line.source}`));
  const rows = [];
  lines.forEach((text, i) => {
    const found = text.match(IR_LOC);
    if (found && wanted.has(`${found[1] ?? ""} ${found[2]}:${found[3]}`))
      rows.push({ text: text.trimStart(), no: i + 1 });
  });
  return { rows, whole: false };
}

// The ops of the regions' graphs, as the last pass left them, each with its line of the model.
const opsOfKernel = (lines, kernel) => regionsOf(lines, kernel).flatMap((region) => opsOfRegion(region));

function opsOfRegion(region) {
  const start = region.findIndex((row) => /^\s*graph /.test(row.text));
  const end = region.findIndex((row, i) => i > start && /^\s*}/.test(row.text));
  return region
    .slice(start + 1, end)
    .filter((row) => !/^\s*(return|with) /.test(row.text))
    .map((row) => ({ text: row.text.trim(), source: sourceOf(row.text) }));
}
