// The program as a graph: a box for each kernel with its ops inside; what is out of sight or too small is not drawn.

const READABLE = 0.42; // the scale from which the ops of a box are drawn
let graphView = null;

function graph() {
  const { diagram } = program();
  if (!diagram) return empty("The pipeline was stopped before there were kernels: the passes are all there is to see.");
  const group = svg("g");
  const canvas = el(
    "div",
    {
      class: "canvas",
      tabindex: "0",
      role: "application",
      "aria-label": "Graph of kernels: arrows move, + and - zoom, tab leads from kernel to kernel",
    },
    svg("svg", null, group),
    legend(),
  );
  graphView = new GraphView(canvas, group, diagram);
  const search = el("input", {
    type: "search",
    placeholder: "Kernel, op, value or line",
    "aria-label": "Find in the graph",
    value: here.query,
    id: "search",
  });
  search.addEventListener("input", () => {
    here.query = search.value;
    graphView.find(search.value, false);
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") graphView.find(search.value, true);
  });
  const count = el("span", { class: "soft", id: "found" });
  const tools = el(
    "div",
    { class: "bar" },
    search,
    count,
    el("span", { class: "rest" }),
    el(
      "button",
      { class: "plain", title: "Smaller (-)", "aria-label": "Smaller", onclick: () => graphView.port.zoom(0.8) },
      "−",
    ),
    el(
      "button",
      { class: "plain", title: "Larger (+)", "aria-label": "Larger", onclick: () => graphView.port.zoom(1.25) },
      "+",
    ),
    el("button", { class: "plain", title: "All of it (0)", onclick: () => graphView.port.fit() }, "Fit"),
  );
  const view = graphView;
  requestAnimationFrame(() => {
    if (view === graphView) view.begin();
  });
  return [tools, canvas];
}

const legend = () =>
  el(
    "div",
    { class: "legend" },
    legendEntry({ class: "heavy" }, "contraction or reduction"),
    legendEntry(null, "elementwise"),
    legendEntry({ class: "stored" }, "stored"),
    legendEntry({ class: "weight" }, "read"),
  );

class GraphView {
  constructor(canvas, group, diagram) {
    Object.assign(this, { diagram, canvas, matches: [], match: -1, inside: new Map() });
    this.flows = diagram.flows.map((flow) => this.flow(flow));
    this.boxes = diagram.boxes.map((box) => this.box(box));
    group.append(...this.flows, ...this.boxes);
    this.port = new Viewport(canvas, group, diagram, () => this.redraw());
  }
  flow(flow) {
    const path = curve(flow.points);
    const node = svg("g", { class: "flow" }, svg("path", { class: "hold", d: path }), svg("path", { d: path }));
    node.addEventListener("click", () => this.open(flow));
    return explains(node, () => flowFacts(flow, this.diagram));
  }
  // The kernel that stores the value, whose summary says why.
  open(flow) {
    const [start, end] = [flow.start, flow.end].map((at) => this.diagram.boxes[at].step);
    const step = start >= 0 ? start : end;
    if (step >= 0) go({ kernel: kernelAt(step).index, tab: "summary" });
  }
  begin() {
    this.port.start();
    if (stepHere() !== null) this.reveal(stepHere());
    this.choose();
    if (here.query) this.find(here.query, false);
  }
  box(box) {
    const kernel = box.step >= 0 ? kernelAt(box.step) : null;
    const node = svg(
      "g",
      { class: `box ${kernel ? box.kind : "plain-end"}`, transform: `translate(${box.x} ${box.y})` },
      svg("rect", { width: box.width, height: box.height, rx: kernel ? 8 : 12 }),
    );
    if (!kernel) {
      node.append(svg("text", { class: "end", x: box.width / 2, y: 16 }, clip(box.name, box.width - 14, 7.3)));
      return explains(node, () => [
        el("b", null, box.name),
        facts([["", box.kind === "input" ? "input of the program" : "result of the program"]]),
      ]);
    }
    node.setAttribute("tabindex", "0");
    node.setAttribute("role", "button");
    node.setAttribute("aria-label", `kernel ${box.name}`);
    node.dataset.step = box.step;
    node.append(
      svg("text", { class: "name", x: 12, y: 19 }, clip(box.name, box.width - 22, 7.9)),
      svg("text", { class: "about", x: 12, y: 34 }, aboutBox(kernel)),
    );
    explains(node, () => kernelFacts(kernel));
    return pressable(node, () => go({ kernel: kernel.index }));
  }
  redraw() {
    const sight = this.port.sight(),
      scale = this.port.scale;
    this.diagram.boxes.forEach((box, number) => {
      if (box.step < 0) return;
      const seen =
        scale >= READABLE &&
        box.x < sight.right &&
        box.x + box.width > sight.left &&
        box.y < sight.bottom &&
        box.y + box.height > sight.top;
      if (seen && !this.inside.has(number)) {
        const inner = insideOf(this.diagram.insides[box.inside], box);
        this.inside.set(number, inner);
        this.boxes[number].append(inner);
      } else if (!seen && this.inside.has(number)) {
        this.inside.get(number).remove();
        this.inside.delete(number);
      }
      this.label(box, this.boxes[number], scale);
    });
  }
  // Far away, a box shows its name alone, as large as it fits.
  label(box, node, scale) {
    const [, name, about] = node.children;
    const far = scale < READABLE;
    const size = far
      ? Math.min(13 / scale, box.height / 2.4, (box.width - 20) / (0.61 * Math.min(box.name.length, 28)))
      : 13;
    name.style.fontSize = size + "px";
    name.setAttribute("y", far ? box.height / 2 + size / 3 : 19);
    name.textContent = far ? clip(box.name, box.width - 12, size * 0.61) : clip(box.name, box.width - 22, 7.9);
    about.style.display = far ? "none" : "";
  }
  placeOf(step) {
    return this.diagram.boxes.findIndex((box) => box.step === step);
  }
  reveal(step) {
    this.port.center(this.diagram.boxes[this.placeOf(step)]);
  }
  choose() {
    const chosen = stepHere();
    this.diagram.boxes.forEach((box, n) => this.boxes[n].classList.toggle("chosen", box.step === chosen));
    this.diagram.flows.forEach((flow, n) =>
      this.flows[n].classList.toggle(
        "lit",
        [flow.start, flow.end].some((end) => this.diagram.boxes[end].step === chosen),
      ),
    );
  }
  find(text, next) {
    const wanted = text.trim().toLowerCase();
    this.matches = wanted
      ? this.diagram.boxes
          .map((box, n) => [box, n])
          .filter(([box]) => box.step >= 0 && kernelSays(kernelAt(box.step), wanted))
          .map(([, n]) => n)
      : [];
    this.boxes.forEach((node, n) => node.classList.toggle("found", this.matches.includes(n)));
    byId("found").textContent = wanted ? `${this.matches.length} of ${program().kernels.length}` : "";
    if (!next || !this.matches.length) return;
    this.match = (this.match + 1) % this.matches.length;
    this.port.center(this.diagram.boxes[this.matches[this.match]]);
  }
}

function flowFacts(flow, diagram) {
  const why = whyStored(flow.value, here.program);
  const buffer = data.report.buffers.find((each) => withoutPrefix(each.name) === flow.value);
  return [
    el("b", null, "%" + flow.value),
    facts([
      ["type", buffer ? `${buffer.dtype}[${buffer.shape.join(", ")}]` : ""],
      ["size", buffer ? amount(buffer.bytes, "B") : ""],
      ["from", diagram.boxes[flow.start].name],
      ["to", diagram.boxes[flow.end].name],
    ]),
    why ? el("p", { class: "why-stored" }, why[0]) : "",
    why?.[1] ? el("p", { class: "soft" }, why[1]) : "",
  ];
}

const aboutBox = (kernel) =>
  [amount(kernel.bytes, "B"), spent(kernel) === null ? "" : time(spent(kernel))].filter(Boolean).join(" · ");
const clip = (text, width, letter) => {
  const most = Math.max(3, Math.floor(width / letter));
  return text.length <= most ? text : text.slice(0, most - 1) + "…";
};

function kernelSays(kernel, wanted) {
  const plain = wanted.replace(/^%/, "");
  return (
    kernel.name.toLowerCase().includes(plain) ||
    kernel.ops.some((op) => op.toLowerCase().includes(plain)) ||
    kernel.values.some((value) => value.toLowerCase() === plain) ||
    kernel.lines.some(
      (line) =>
        line.source.toLowerCase().endsWith(wanted) ||
        baseName(line.source).toLowerCase().includes(wanted) ||
        line.module.toLowerCase().includes(wanted),
    )
  );
}

// A path through points that leaves and arrives straight down.
function curve(points) {
  let [x, y] = points[0];
  let path = `M${x} ${y}`;
  for (const [nextX, nextY] of points.slice(1)) {
    const middle = (y + nextY) / 2;
    path += x === nextX ? `V${nextY}` : `C${x} ${middle} ${nextX} ${middle} ${nextX} ${nextY}`;
    [x, y] = [nextX, nextY];
  }
  return path;
}

function insideOf(inside, box) {
  let leaf = 0;
  const offset = (box.width - inside.width) / 2;
  return svg(
    "g",
    { transform: `translate(${offset} 0)` },
    inside.edges.map((points) => svg("path", { class: "inner-edge", d: curve(points) })),
    inside.nodes.map((node) => {
      const name = node.line < 0 && box.leaves.length ? box.leaves[leaf++] : node.label;
      const drawn = svg(
        "g",
        { class: `node ${node.role}`, transform: `translate(${node.x} ${node.y})` },
        svg("rect", { width: node.width, height: 24, rx: node.role === "weight" || node.role === "input" ? 12 : 4 }),
        svg("text", { x: node.width / 2, y: 16 }, clip(name, node.width - 8, 6.7)),
      );
      drawn.addEventListener("click", (event) => {
        if (node.line >= 0) {
          event.stopPropagation();
          go({ kernel: kernelAt(box.step).index, tab: "ops", op: node.line });
        }
      });
      return drawn;
    }),
  );
}
