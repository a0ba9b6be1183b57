// Numbers as the terminal's report writes them, and names of places.

function quantity(value, unit) {
  if (value === null || value === undefined) return ["unknown", ""];
  if (typeof value === "string") return [value, unit];
  for (const [power, prefix] of [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ]) {
    if (Math.abs(value) >= power) return [(value / power).toFixed(1), prefix + unit];
  }
  return [String(value), unit];
}
const amount = (value, unit) => quantity(value, unit).join(" ").trim();
const amountCell = (value, unit) => {
  const [number, name] = quantity(value, unit);
  return el("td", { class: "num" }, number, el("span", { class: "unit" }, " " + name));
};

function time(us) {
  if (us === null || us === undefined) return "";
  if (us >= 1e4) return (us / 1e3).toFixed(1) + " ms";
  return (us < 0.1 ? Number(us.toPrecision(1)) : us.toFixed(us < 1 ? 2 : 1)) + " µs";
}
const ratio = (value) => (value === null ? "" : value.toFixed(value < 10 ? 2 : 1) + "×");
const rate = (value) => {
  for (const [power, prefix] of [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
  ]) {
    if (value >= power) return (value / power).toFixed(value / power < 10 ? 1 : 0) + " " + prefix;
  }
  return value.toFixed(0) + " ";
};
const number = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

const splitPlace = (place) => {
  const colon = place.lastIndexOf(":");
  return [place.slice(0, colon), place.slice(colon + 1)];
};
const baseName = (path) => path.split(/[\\/]/).pop();

// "model.py:12,15 other.py:3": files without their folders, the lines of each together.
function places(sources) {
  const lines = new Map();
  for (const source of sources) {
    const [file, line] = splitPlace(source);
    const found = lines.get(baseName(file)) ?? lines.set(baseName(file), []).get(baseName(file));
    if (!found.includes(line)) found.push(line);
  }
  return [...lines].map(([file, numbers]) => `${file}:${numbers.join(",")}`).join(" ");
}

function counted(names) {
  const counts = new Map();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, n]) => (n > 1 ? `${name} ×${n}` : name)).join(", ");
}

// What a kernel computes; some only put elements into another order.
const computedBy = (kernel) => counted(kernel.ops) || "nothing: it moves elements";
const modulesOf = (kernel) => [...new Set(kernel.lines.map((line) => line.module).filter(Boolean))];
const BOUNDS = { memory: "memory", contractions: "contractions", arithmetic: "other arithmetic", launch: "launch" };
const roleText = (axis) => `${axis.axis}: ${axis.role}${axis.role === "whole" ? "" : `(${axis.tile})`}`;
