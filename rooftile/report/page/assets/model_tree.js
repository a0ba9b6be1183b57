// Modules as a tree; the lines of each, and for each line the kernels that compute something of it.

function modelTree() {
  const root = { name: "", children: new Map(), lines: new Map(), kernels: new Set() };
  for (const kernel of data.kernels) {
    for (const { module, source, ops } of kernel.lines) {
      let node = root;
      node.kernels.add(kernel.index);
      for (const part of module ? module.split(".") : []) {
        node =
          node.children.get(part) ??
          node.children.set(part, { name: part, children: new Map(), lines: new Map(), kernels: new Set() }).get(part);
        node.kernels.add(kernel.index);
      }
      if (!source) continue;
      const found = node.lines.get(source) ?? node.lines.set(source, []).get(source);
      if (!found.some(([other]) => other === kernel)) found.push([kernel, ops]);
    }
  }
  return el("div", { class: "tree" }, branches(root, data.kernels.length <= 40));
}

function branches(node, open) {
  const lines = [...node.lines].sort(([a], [b]) => compareSources(a, b));
  return [
    lines.map(([source, serving]) => treeLine(source, serving)),
    [...node.children.values()].map((child) => {
      const inside = el("div", { class: "under" });
      const fillIn = () => {
        if (!inside.firstChild) inside.append(...branches(child, open).flat(Infinity));
      };
      if (open) fillIn();
      return el(
        "details",
        { open, ontoggle: fillIn },
        el(
          "summary",
          null,
          el("b", { class: "mono" }, child.name),
          el("span", { class: "faint" }, `${child.kernels.size} kernel${child.kernels.size > 1 ? "s" : ""}`),
        ),
        inside,
      );
    }),
  ];
}

function compareSources(a, b) {
  const [fileA, lineA] = splitPlace(a),
    [fileB, lineB] = splitPlace(b);
  return fileA.localeCompare(fileB) || lineA - lineB;
}

function treeLine(source, serving) {
  const [file, line] = splitPlace(source);
  return el(
    "div",
    { class: "line" },
    el("span", { class: "mono faint nowrap", title: source }, places([source])),
    el("pre", null, (data.sources[file]?.[line] ?? "").trim()),
    el(
      "span",
      { class: "serves" },
      serving.map(([kernel, ops]) => {
        const link = kernelLink(kernel);
        link.title = counted(ops);
        return link;
      }),
    ),
  );
}
