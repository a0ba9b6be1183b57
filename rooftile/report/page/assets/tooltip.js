// One small panel that says more about what the pointer or the focus is on.

const tooltip = el("div", { class: "tooltip", hidden: true, role: "status" });
document.body.append(tooltip);

function showTooltip(content, x, y) {
  tooltip.replaceChildren(...[content].flat());
  tooltip.hidden = false;
  const { width, height } = tooltip.getBoundingClientRect();
  const left = x + 14 + width > innerWidth - 8 ? x - width - 14 : x + 14;
  const top = y + 14 + height > innerHeight - 8 ? y - height - 14 : y + 14;
  tooltip.style.left = Math.max(8, left) + "px";
  tooltip.style.top = Math.max(8, top) + "px";
}
const hideTooltip = () => {
  tooltip.hidden = true;
};

function explains(node, content) {
  node.addEventListener("pointermove", (event) => showTooltip(content(), event.clientX, event.clientY));
  node.addEventListener("pointerleave", hideTooltip);
  node.addEventListener("focus", () => {
    if (!node.matches(":focus-visible")) return;
    const box = node.getBoundingClientRect();
    showTooltip(content(), box.right, box.bottom);
  });
  node.addEventListener("blur", hideTooltip);
  return node;
}

const facts = (rows) =>
  el(
    "dl",
    { class: "facts" },
    rows
      .filter((row) => row && row[1] !== "" && row[1] !== null)
      .map(([name, value]) => [el("dt", null, name), el("dd", null, value)]),
  );

function kernelFacts(kernel) {
  const at = kernel.roofline;
  return [
    el("b", null, kernel.name),
    facts([
      ["moves", amount(kernel.bytes, "B")],
      ["computes", amount(kernel.flops, "FLOP")],
      at && ["intensity", `${number(at.intensity)} FLOP/B`],
      at && ["bound by", BOUNDS[at.bound]],
      ["floor", time(kernel.floor_us)],
      [kernel.time_us === null ? "expected" : "measured", time(spent(kernel))],
      ["times its floor", ratio(timesFloor(kernel))],
    ]),
  ];
}
