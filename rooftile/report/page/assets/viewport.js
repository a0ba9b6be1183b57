// Moving about in a drawing: drag, wheel, pinch, and keys.

class Viewport {
  constructor(canvas, group, size, redraw) {
    Object.assign(this, { canvas, group, size, redraw, x: 0, y: 0, scale: 1, pointers: new Map(), waiting: false });
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel", "pointerleave"])
      canvas.addEventListener(name, (event) => this.up(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    // What was dragged is not clicked.
    canvas.addEventListener(
      "click",
      (event) => {
        if (this.dragged) event.stopPropagation();
        this.dragged = false;
      },
      true,
    );
  }
  get box() {
    return this.canvas.getBoundingClientRect();
  }
  apply() {
    this.group.setAttribute("transform", `translate(${this.x} ${this.y}) scale(${this.scale})`);
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.redraw(this);
    });
  }
  // The part of the drawing that is in sight.
  sight() {
    const { width, height } = this.box;
    return {
      left: -this.x / this.scale,
      top: -this.y / this.scale,
      right: (width - this.x) / this.scale,
      bottom: (height - this.y) / this.scale,
    };
  }
  zoom(factor, x = this.box.width / 2, y = this.box.height / 2) {
    const scale = Math.min(3, Math.max(this.least, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.apply();
  }
  get least() {
    return Math.min(0.3, 0.5 * Math.min(this.box.width / this.size.width, this.box.height / this.size.height));
  }
  fit() {
    const { width, height } = this.box;
    this.scale = Math.max(0.04, Math.min(1, (width - 40) / this.size.width, (height - 40) / this.size.height));
    this.x = (width - this.size.width * this.scale) / 2;
    this.y = Math.max(20, (height - this.size.height * this.scale) / 2); // what is too tall is seen from its top
    this.apply();
  }
  // From the top, as wide as the drawing but large enough to be read.
  start() {
    const { width } = this.box;
    this.scale = Math.min(1, Math.max(0.5, (width - 48) / this.size.width));
    this.x = (width - this.size.width * this.scale) / 2;
    this.y = 24;
    this.apply();
  }
  center(box) {
    const { width, height } = this.box;
    this.scale = Math.max(this.scale, Math.min(1, (width - 60) / box.width, (height - 60) / box.height));
    this.x = width / 2 - (box.x + box.width / 2) * this.scale;
    this.y = height / 2 - (box.y + box.height / 2) * this.scale;
    this.apply();
  }
  wheel(event) {
    event.preventDefault();
    const { left, top } = this.box;
    if (event.ctrlKey || event.metaKey || Math.abs(event.deltaY) > 60)
      this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), event.clientX - left, event.clientY - top);
    else {
      this.x -= event.deltaX;
      this.y -= event.deltaY;
      this.apply();
    }
  }
  down(event) {
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.dragged = false;
    this.travelled = 0;
  }
  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    this.travelled += Math.abs(dx) + Math.abs(dy);
    if (this.travelled > 5 && !this.dragged) {
      this.dragged = true;
      this.canvas.setPointerCapture(event.pointerId);
      this.canvas.classList.add("dragging");
      hideTooltip();
    }
    if (this.pointers.size === 2) this.pinch(event, before);
    else if (this.dragged) {
      this.x += dx;
      this.y += dy;
      this.apply();
    }
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
  }
  pinch(event, before) {
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
    const span = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
    const { left, top } = this.box;
    const middle = [(event.clientX + other[0]) / 2 - left, (event.clientY + other[1]) / 2 - top];
    this.zoom(span([event.clientX, event.clientY]) / Math.max(1, span(before)), ...middle);
  }
  up(event) {
    this.pointers.delete(event.pointerId);
    this.canvas.classList.remove("dragging");
  }
  key(event) {
    const step = 60;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (moves[event.key]) {
      this.x += moves[event.key][0];
      this.y += moves[event.key][1];
      this.apply();
    } else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-") this.zoom(0.8);
    else if (event.key === "0") this.fit();
    else return;
    event.preventDefault();
  }
}
