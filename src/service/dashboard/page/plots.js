// Small plots of the last minutes, one for each thing that is counted.

import { bytes, compact, count, duration, el, onceAFrame } from "./ui.js";

/** How many seconds are shown. */
const SPAN = 300;
const HEIGHT = 64;

const PLOTS = [
  { id: "throughput", title: "Commands", unit: "per second", text: rate, lines: [(stats) => stats.commands_per_second] },
  { id: "running", title: "Running", unit: "commands", text: count, lines: [(stats) => stats.running_commands] },
  {
    id: "waiting",
    title: "Waiting",
    unit: "steps in queues",
    text: count,
    lines: [(stats) => stats.waiting_steps],
  },
  {
    id: "latency",
    title: "Time to start",
    unit: "median · p99",
    text: (value) => (value === null ? "–" : duration(value)),
    lines: [(stats) => stats.start_ms?.p50 ?? null, (stats) => stats.start_ms?.p99 ?? null],
  },
  { id: "output", title: "Output", unit: "per second", text: bytes, lines: [(stats) => stats.output_bytes_per_second] },
];

function rate(value) {
  return value < 100 && !Number.isInteger(value) ? value.toFixed(1) : compact(Math.round(value));
}

export class Plots {
  #plots = [];
  #points = [];
  #draw = onceAFrame(() => this.#plots.forEach((plot) => this.#paint(plot)));

  constructor(container) {
    for (const plot of PLOTS) {
      const value = el("strong", { className: "plot-value" }, "–");
      const most = el("span", { className: "plot-most" });
      const canvas = el("canvas", { className: "plot-canvas" });
      canvas.setAttribute("role", "img");
      const head = el("div", { className: "plot-head" }, el("h2", {}, plot.title), el("span", { className: "muted" }, plot.unit));
      const figure = el("div", { className: "card plot", id: `plot-${plot.id}` }, head, value, most, canvas);
      container.append(figure);
      this.#plots.push({ ...plot, value, most, canvas });
    }
    new ResizeObserver(this.#draw).observe(container);
  }

  /** Adds what is counted now. */
  add(stats) {
    const time = Date.parse(stats.time);
    this.#points.push({ time, stats });
    while (this.#points.length > 0 && this.#points[0].time < time - SPAN * 1000) this.#points.shift();
    this.#draw();
  }

  restyle() {
    this.#draw();
  }

  #paint({ canvas, lines, text, value, most, title }) {
    const points = this.#points;
    if (points.length === 0) return;
    const last = points.at(-1);
    const now = lines.map((line) => line(last.stats));
    value.textContent = now.map(text).filter((part, at, all) => at === 0 || all[0] !== part).join(" · ");
    const highest = points.reduce((high, { stats }) => Math.max(high, ...lines.map((line) => line(stats) ?? 0)), 0);
    most.textContent = highest > 0 ? `max ${text(highest)}` : "";
    canvas.setAttribute("aria-label", `${title}: ${value.textContent} now, ${text(highest)} at most in 5 minutes`);
    const width = canvas.clientWidth;
    const scale = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(HEIGHT * scale)];
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(canvas);
    frame(pen, width, style.getPropertyValue("--line"));
    const colours = [style.getPropertyValue("--accent"), style.getPropertyValue("--accent-2")];
    const at = {
      x: (time) => width - ((last.time - time) / 1000 / SPAN) * width,
      y: (number) => HEIGHT - 2 - (number / (highest || 1)) * (HEIGHT - 8),
    };
    for (const index of [...lines.keys()].reverse()) curve(pen, points, lines[index], at, colours[index], index === 0);
  }
}

function frame(pen, width, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 1;
  pen.beginPath();
  for (const y of [5.5, HEIGHT / 2 + 1.5, HEIGHT - 1.5]) {
    pen.moveTo(0, y);
    pen.lineTo(width, y);
  }
  pen.stroke();
}

/** A line, with gaps where nothing was counted. */
function curve(pen, points, line, at, colour, isFilled) {
  const pieces = [[]];
  let before = null;
  for (const { time, stats } of points) {
    const value = line(stats);
    if (value === null || (before !== null && time - before > 5_000)) pieces.push([]);
    if (value !== null) {
      pieces.at(-1).push([at.x(time), at.y(value)]);
    }
    before = time;
  }
  for (const piece of pieces.filter((piece) => piece.length > 0)) {
    if (piece.length === 1) {
      pen.fillStyle = colour;
      pen.fillRect(piece[0][0] - 1.5, piece[0][1] - 1.5, 3, 3);
      continue;
    }
    pen.beginPath();
    piece.forEach(([x, y], index) => (index === 0 ? pen.moveTo(x, y) : pen.lineTo(x, y)));
    pen.strokeStyle = colour;
    pen.lineWidth = 1.6;
    pen.lineJoin = "round";
    pen.stroke();
    if (!isFilled) continue;
    pen.lineTo(piece.at(-1)[0], HEIGHT - 1);
    pen.lineTo(piece[0][0], HEIGHT - 1);
    pen.globalAlpha = 0.1;
    pen.fillStyle = colour;
    pen.fill();
    pen.globalAlpha = 1;
  }
}
