// The fleet as a grid on a canvas: a cell for each workspace, of which only those in sight are drawn.

import { cellAt, layout, place } from "./layout.js";
import { $, el, onceAFrame, Signal, words } from "./ui.js";

/** How tall the field may get before it scrolls. */
const TALLEST = 440;
/** Room around the cells, for the marks of what is selected. */
const EDGE = 4;
/** How much is left of the colour of what is not selected, when something is. */
const FADED = 0.4;

export class Grid {
  /** Somebody wants to see one workspace: its name. */
  opened = new Signal();
  #fleet;
  #canvas = $("grid");
  #scroll = $("grid-scroll");
  #space = $("grid-space");
  #tip = el("div", { className: "tip", hidden: true });
  #layout = null;
  #colours = {};
  #cursor = -1;
  #hover = -1;
  /** Where a selection of many began. */
  #anchor = -1;
  #drag = null;
  #draw = onceAFrame(() => this.#paint());

  constructor(fleet) {
    this.#fleet = fleet;
    document.body.append(this.#tip);
    fleet.changed.on(() => this.#arrange());
    fleet.picked.on(this.#draw);
    new ResizeObserver(() => this.#arrange()).observe(this.#scroll);
    this.#scroll.addEventListener("scroll", () => {
      this.#point(-1);
      this.#draw();
    });
    this.#listen();
    this.restyle();
  }

  /** Reads the colours anew. */
  restyle() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    for (const name of ["ready", "connecting", "degraded", "unreachable", "gone", "stopped", "text", "muted", "accent", "tile", "card", "line"]) {
      this.#colours[name] = colour(name);
    }
    this.#draw();
  }

  #arrange() {
    const cells = this.#fleet.shown.length;
    const width = this.#scroll.clientWidth - 2 * EDGE;
    if (width <= 0) return;
    this.#layout = layout(cells, width, TALLEST);
    const { rows, height, gap } = this.#layout;
    const whole = Math.max(rows * (height + gap) - gap, 0) + 2 * EDGE;
    this.#space.style.height = `${whole}px`;
    this.#scroll.style.height = `${Math.min(whole, TALLEST + 2 * EDGE)}px`;
    this.#cursor = Math.min(this.#cursor, cells - 1);
    this.#paint();
  }

  #paint() {
    const { clientWidth: width, clientHeight: height, scrollTop } = this.#scroll;
    const scale = window.devicePixelRatio || 1;
    const canvas = this.#canvas;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
      [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (this.#layout === null) return;
    pen.translate(EDGE, EDGE - scrollTop);
    const { columns, height: cell, gap } = this.#layout;
    const first = Math.max(0, Math.floor((scrollTop - EDGE) / (cell + gap))) * columns;
    const last = Math.ceil((scrollTop + height) / (cell + gap)) * columns;
    const shown = this.#fleet.shown;
    for (let at = first; at < Math.min(last, shown.length); at += 1) this.#cell(pen, at, shown[at]);
    const hasFocus = document.activeElement === canvas;
    if (hasFocus && this.#cursor >= 0) this.#ring(pen, this.#cursor, this.#colours.text, 2, [3, 2]);
  }

  #cell(pen, at, { name, health, labels }) {
    const { width, height, isTiles } = this.#layout;
    const { x, y } = place(this.#layout, at);
    const colour = this.#colours[health] || this.#colours.connecting;
    const isPicked = this.#fleet.selected.has(name);
    const radius = isTiles ? 8 : Math.min(4, width / 5);
    if (isTiles) {
      this.#tile(pen, { x, y, name, health, labels, colour });
    } else {
      // What is not selected steps back.
      pen.globalAlpha = isPicked || this.#fleet.selected.size === 0 ? 1 : FADED;
      pen.fillStyle = colour;
      box(pen, x, y, width, height, radius);
      pen.fill();
      pen.globalAlpha = 1;
      if (width >= 9) mark(pen, health, x, y, width, this.#colours.card);
      if (this.#fleet.busy.has(name)) this.#dot(pen, x + width / 2, y + height / 2, Math.max(1.5, width / 7), this.#colours.card);
    }
    if (isPicked && width >= 14) this.#ring(pen, at, isTiles ? this.#colours.accent : this.#colours.text, 2, []);
    else if (at === this.#hover) this.#ring(pen, at, this.#colours.muted, 1, []);
  }

  #tile(pen, { x, y, name, health, labels, colour }) {
    const { width, height } = this.#layout;
    pen.fillStyle = this.#colours.tile;
    box(pen, x, y, width, height, 8);
    pen.fill();
    pen.fillStyle = colour;
    box(pen, x + 7, y + 7, 4, height - 14, 2);
    pen.fill();
    pen.textBaseline = "alphabetic";
    pen.fillStyle = this.#colours.text;
    pen.font = "600 13px system-ui, sans-serif";
    pen.fillText(fit(pen, name, width - 46), x + 20, y + 19);
    pen.fillStyle = this.#colours.muted;
    pen.font = "12px system-ui, sans-serif";
    const more = Object.entries(labels).map(([label, value]) => `${label}=${value}`).join(" ");
    pen.fillText(fit(pen, more === "" ? words(health) : `${words(health)} · ${more}`, width - 30), x + 20, y + 35);
    const running = this.#fleet.busy.get(name);
    if (running) {
      pen.fillStyle = this.#colours.accent;
      pen.textAlign = "right";
      pen.font = "600 11px system-ui, sans-serif";
      pen.fillText(`▶ ${running}`, x + width - 10, y + 19);
      pen.textAlign = "left";
    }
  }

  #dot(pen, x, y, radius, colour) {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 7);
    pen.fill();
  }

  #ring(pen, at, colour, thick, dash) {
    const { x, y } = place(this.#layout, at);
    const { width, height, isTiles } = this.#layout;
    pen.strokeStyle = colour;
    pen.lineWidth = thick;
    pen.setLineDash(dash);
    // Around a tile, within a square.
    const by = isTiles || dash.length > 0 ? 1 : -1;
    box(pen, x - by, y - by, width + 2 * by, height + 2 * by, isTiles ? 9 : Math.min(5, width / 5));
    pen.stroke();
    pen.setLineDash([]);
  }

  #listen() {
    const canvas = this.#canvas;
    const at = (event) => {
      const { left, top } = canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - left - EDGE, event.clientY - top - EDGE + this.#scroll.scrollTop];
      return this.#layout === null ? -1 : cellAt(this.#layout, this.#fleet.shown.length, x, y);
    };
    canvas.addEventListener("pointermove", (event) => {
      const cell = at(event);
      if (this.#drag !== null && cell >= 0 && cell !== this.#drag.last) this.#dragTo(cell);
      this.#point(cell, event);
    });
    canvas.addEventListener("pointerleave", () => this.#point(-1));
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button === 0) this.#press(at(event), event);
    });
    window.addEventListener("pointerup", () => {
      this.#drag = null;
    });
    canvas.addEventListener("dblclick", (event) => this.#open(at(event)));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("focus", this.#draw);
    canvas.addEventListener("blur", this.#draw);
  }

  #press(cell, event) {
    const keeps = event.ctrlKey || event.metaKey;
    if (cell < 0) {
      if (!keeps && !event.shiftKey) this.#fleet.select([]);
      return;
    }
    const { name } = this.#fleet.shown[cell];
    this.#cursor = cell;
    if (event.shiftKey && this.#anchor >= 0) {
      this.#selectTo(cell, keeps);
    } else if (keeps) {
      this.#anchor = cell;
      this.#fleet.toggle(name);
    } else {
      this.#anchor = cell;
      this.#fleet.select([name]);
    }
    this.#drag = event.pointerType === "mouse" ? { last: cell, keeps } : null;
    this.opened.tell(name);
  }

  /** Selects all from where the mouse was pressed to here. */
  #dragTo(cell) {
    this.#drag.last = cell;
    this.#cursor = cell;
    this.#selectTo(cell, this.#drag.keeps);
  }

  #selectTo(cell, keeps) {
    const [from, to] = [Math.min(this.#anchor, cell), Math.max(this.#anchor, cell)];
    const names = this.#fleet.shown.slice(from, to + 1).map(({ name }) => name);
    if (keeps) this.#fleet.add(names);
    else this.#fleet.select(names);
  }

  #open(cell) {
    if (cell >= 0) this.opened.tell(this.#fleet.shown[cell].name, true);
  }

  #key(event) {
    const cells = this.#fleet.shown.length;
    const columns = this.#layout?.columns ?? 1;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const keeps = event.ctrlKey || event.metaKey;
    if (event.key in steps || event.key === "Home" || event.key === "End") {
      const to = event.key === "Home" ? 0 : event.key === "End" ? cells - 1 : this.#cursor + steps[event.key];
      this.#move(this.#cursor < 0 ? 0 : to, event.shiftKey);
    } else if (event.key === " " && this.#cursor >= 0) {
      this.#anchor = this.#cursor;
      this.#fleet.toggle(this.#fleet.shown[this.#cursor].name);
      this.#say();
    } else if (event.key === "Enter") {
      this.#open(this.#cursor);
    } else if (event.key === "a" && keeps) {
      this.#fleet.select(this.#fleet.shown.map(({ name }) => name));
    } else if (event.key === "Escape") {
      this.#fleet.select([]);
    } else {
      return;
    }
    event.preventDefault();
  }

  #move(to, selects) {
    if (to < 0 || to >= this.#fleet.shown.length) return;
    if (selects && this.#anchor < 0) this.#anchor = Math.max(this.#cursor, 0);
    this.#cursor = to;
    if (selects) this.#selectTo(to, false);
    else this.#anchor = to;
    const { y } = place(this.#layout, to);
    const { scrollTop, clientHeight } = this.#scroll;
    const below = y + this.#layout.height + 2 * EDGE;
    if (y < scrollTop) this.#scroll.scrollTop = y;
    else if (below > scrollTop + clientHeight) this.#scroll.scrollTop = below - clientHeight;
    this.#say();
    this.#draw();
  }

  /** Says where the cursor is to those who cannot see it. */
  #say() {
    const { name, health } = this.#fleet.shown[this.#cursor];
    $("grid-says").textContent = `${name}, ${words(health)}${this.#fleet.selected.has(name) ? ", selected" : ""}`;
  }

  #point(cell, event) {
    if (cell !== this.#hover) {
      this.#hover = cell;
      this.#canvas.style.cursor = cell >= 0 ? "pointer" : "default";
      this.#draw();
    }
    this.#tip.hidden = cell < 0;
    if (cell < 0) return;
    const { name, health, labels, host } = this.#fleet.shown[cell];
    const more = Object.entries(labels).map(([label, value]) => `${label}=${value}`).join("  ");
    const state = el("span", { className: "tip-state", dataset: { state: health } }, el("i"), words(health));
    this.#tip.replaceChildren(el("strong", {}, name), state, el("span", {}, host), ...(more ? [el("span", {}, more)] : []));
    const { offsetWidth, offsetHeight } = this.#tip;
    const left = Math.min(event.clientX + 14, window.innerWidth - offsetWidth - 8);
    const isLow = event.clientY + 18 + offsetHeight > window.innerHeight;
    this.#tip.style.left = `${Math.max(8, left)}px`;
    this.#tip.style.top = `${isLow ? event.clientY - offsetHeight - 10 : event.clientY + 18}px`;
  }
}

function box(pen, x, y, width, height, radius) {
  pen.beginPath();
  pen.roundRect(x, y, width, height, radius);
}

/** Tells states apart also for those who do not see the colours. */
function mark(pen, health, x, y, size, colour) {
  if (health === "ready" || health === "connecting") return;
  pen.strokeStyle = colour;
  pen.lineWidth = Math.max(1, size / 14);
  const [near, far] = [size * 0.33, size * 0.67];
  pen.beginPath();
  if (health === "degraded") {
    pen.moveTo(x + near, y + size / 2);
    pen.lineTo(x + far, y + size / 2);
  } else {
    pen.moveTo(x + near, y + near);
    pen.lineTo(x + far, y + far);
    if (health === "unreachable") {
      pen.moveTo(x + far, y + near);
      pen.lineTo(x + near, y + far);
    }
  }
  pen.stroke();
}

/** As much of a text as fits. */
function fit(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 1 && pen.measureText(`${text.slice(0, end)}…`).width > width) end -= Math.max(1, Math.floor(end / 12));
  return `${text.slice(0, end)}…`;
}
