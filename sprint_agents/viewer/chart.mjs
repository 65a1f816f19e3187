// A chart: branches against time, of one run or of two side by side. It draws the rows that are in sight.

import { element, shape } from "./elements.mjs";
import { align, chain, layout, most, quantity, seconds, ticks, visible } from "./layout.mjs";

const MEANINGS = {
  retry: "a repeated request",
  wait: "waits for tokens of the budget",
  failure: "failed",
  stopped: "stopped: its stage or its run had ended",
};
const SIGNS = { failure: "✕", stopped: "■" };
export const LEGEND = ["cached", "computed", "generated", "critical path", "tool", "waits", "retry", "failure", "stopped"];
const AXIS = 26;

/** A chart of one run, or of two side by side. */
export class Chart {
  constructor(page) {
    this.page = page;
    this.open = new Set();
    this.zoom = 1;
    this.selected = null;
    this.svg = shape("svg", { role: "presentation" });
    this.space = element("div", { class: "space" });
    this.scroller = element(
      "div",
      {
        class: "chart",
        tabindex: "0",
        role: "application",
        "aria-label": "Branches against time. Arrow keys move, Enter unfolds, plus and minus zoom.",
        onscroll: () => this.draw(),
        onkeydown: (event) => this.press(event),
        onclick: (event) => this.click(event),
        onwheel: (event) => this.wheel(event),
      },
      this.space,
    );
    this.space.append(this.svg);
    new ResizeObserver(() => this.draw()).observe(this.scroller);
  }

  show(runs, unit) {
    this.runs = runs;
    this.unit = unit;
    this.stages = runs.map((run) => layout(run, unit));
    this.most = most(this.stages.map((stages) => most(stages.map((stage) => stage.end)))) || 1;
    this.arrange();
  }

  arrange() {
    this.slots = align(this.stages.map((stages) => visible(stages, this.open)));
    this.places = this.runs.map((_, column) => new Map(this.slots.map((slot, index) => [slot[column]?.key, index])));
    this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height, scrollTop: top, scrollLeft: left } = this.scroller;
    if (!this.runs || !width) return;
    const narrow = width / this.runs.length < 620;
    this.row = narrow ? 38 : 24;
    this.label = narrow ? 8 : 230;
    this.pane = Math.floor(width / this.runs.length);
    this.scale = ((this.pane - this.label - 24) * this.zoom) / this.most;
    this.space.style.height = `${this.slots.length * this.row + AXIS + 8}px`;
    this.space.style.width = `${width + (this.pane - this.label - 24) * (this.zoom - 1)}px`;
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", height);
    const first = Math.max(0, Math.floor((top - AXIS) / this.row) - 1);
    const last = Math.min(this.slots.length, Math.ceil((top + height) / this.row) + 1);
    const drawn = [];
    this.runs.forEach((run, column) => {
      const clip = `pane${column}`;
      const clipped = shape("clipPath", { id: clip });
      clipped.append(shape("rect", { x: this.label, y: AXIS, width: this.pane - this.label, height }));
      const pane = shape("g", { transform: `translate(${column * this.pane} 0)` });
      const bars = shape("g", { "clip-path": `url(#${clip})` });
      const labels = shape("g", {});
      for (let index = first; index < last; index += 1) {
        const row = this.slots[index][column];
        if (row) this.drawRow(row, index, column, top, left, narrow, bars, labels);
      }
      bars.append(this.path(column, top, left));
      const [grid, axis] = this.axis(left, height);
      pane.append(clipped, grid, bars, labels, axis);
      if (column) pane.append(shape("line", { class: "divider", x1: 0, x2: 0, y1: 0, y2: height }));
      drawn.push(pane);
    });
    this.svg.replaceChildren(...drawn);
  }

  x(value, left) {
    return this.label + value * this.scale - left;
  }

  y(index, top) {
    return AXIS + index * this.row - top;
  }

  axis(left, height) {
    const grid = shape("g", {});
    const axis = shape("g", {});
    axis.append(shape("rect", { class: "axis", x: 0, y: 0, width: this.pane, height: AXIS }));
    const width = (this.pane - this.label) * this.zoom;
    for (const tick of ticks(this.most, width / 90)) {
      const x = this.x(tick, left);
      if (x < this.label - 1 || x > this.pane) continue;
      grid.append(shape("line", { class: "grid", x1: x, x2: x, y1: AXIS, y2: height }));
      axis.append(shape("text", { class: "tick", x: x + 3, y: 17 }, quantity(tick, this.unit)));
    }
    return [grid, axis];
  }

  drawRow(row, index, column, top, left, narrow, bars, labels) {
    const y = this.y(index, top);
    const height = 14;
    const lane = narrow ? y + 19 : y + (this.row - height) / 2;
    const attributes = { "data-index": index, "data-column": column, class: `row ${row.kind}` };
    if (this.selected?.key === row.key && this.selected.column === column) attributes.class += " selected";
    const group = shape("g", attributes);
    group.append(
      shape("rect", { class: "hit", x: -this.label, y, width: this.pane + 2 * this.label, height: this.row }),
    );
    const wait = row.start - row.closed;
    if (wait * this.scale > 1) {
      const middle = lane + height / 2;
      const ends = { x1: this.x(row.closed, left), x2: this.x(row.start, left), y1: middle, y2: middle };
      group.append(shape("line", { class: "waits", ...ends }));
    }
    for (const each of row.bars) this.drawBar(group, each, lane, height, left);
    for (const tool of row.tools) {
      const x = this.x(tool.start, left);
      const width = Math.max(3, (tool.end - tool.start) * this.scale);
      const found = shape("rect", {
        class: tool.use.failed ? "tool failed" : "tool",
        x,
        y: lane + 4,
        width,
        height: 6,
      });
      found.append(shape("title", {}, `tool ${tool.use.tool}, ${seconds(tool.use.seconds)}`));
      group.append(found);
    }
    for (const mark of row.marks) {
      const x = this.x(mark.at ?? row.end, left);
      const name = `mark ${mark.kind}`;
      const sign = SIGNS[mark.kind]
        ? shape("text", { class: name, x: x + 2, y: lane + 12 }, SIGNS[mark.kind])
        : shape("circle", { class: name, cx: x, cy: lane + 7, r: 4.5 });
      sign.append(shape("title", {}, MEANINGS[mark.kind]));
      group.append(sign);
    }
    bars.append(group);
    const name = shape("g", { ...attributes, class: `name ${row.kind}` });
    const indent = 8 + 14 * row.depth;
    const room = ((narrow ? this.pane : this.label) - indent - 12) / 7.2;
    const fold = row.inner.length ? (this.open.has(row.key) ? "▾ " : "▸ ") : "";
    const path = row.kind === "execution" ? `${row.key.split("/").at(-1)} ` : "";
    const title = `${fold}${path}${row.title.replace(/\s+/g, " ").trim()}`;
    const short = title.length > room ? `${title.slice(0, Math.max(1, room - 1))}…` : title;
    name.append(shape("text", { x: indent, y: narrow ? y + 13 : y + 16 }, short));
    labels.append(name);
  }

  drawBar(group, each, lane, height, left) {
    const x = this.x(each.start, left);
    const width = Math.max(2, (each.end - each.start) * this.scale);
    const total = each.cached + each.computed + each.generated;
    if (!total) {
      group.append(shape("rect", { class: "plain", x, y: lane, width, height, rx: 2 }));
      return;
    }
    let from = x;
    for (const part of ["cached", "computed", "generated"]) {
      const size = (width * each[part]) / total;
      if (size > 0) group.append(shape("rect", { class: part, x: from, y: lane, width: size, height }));
      from += size;
    }
  }

  /** Draw the critical path: along bars, and across rows where one part waits for another. */
  path(column, top, left) {
    const points = [];
    const place = this.places[column];
    const add = (value, key) => points.push(`${this.x(value, left)} ${this.y(place.get(key), top) + this.row - 3}`);
    for (const stage of this.stages[column]) {
      let row = stage.planner;
      let at = stage.start;
      add(at, row.key);
      for (const next of chain(stage, this.unit)) {
        at = row === stage.planner ? Math.min(Math.max(next.closed, at), stage.end) : row.end;
        add(at, row.key);
        add(at, next.key);
        row = next;
      }
      add(row.end, row.key);
    }
    return shape("polyline", { class: "critical", points: points.join(" ") });
  }

  click(event) {
    const found = event.target.closest("[data-index]");
    if (!found) return;
    const column = Number(found.dataset.column);
    const row = this.slots[Number(found.dataset.index)][column];
    if (this.selected?.key === row.key && this.selected.column === column) this.fold(row);
    this.select(row, column);
  }

  fold(row, unfold = !this.open.has(row.key)) {
    if (!row.inner.length) return;
    if (unfold) this.open.add(row.key);
    else this.open.delete(row.key);
    this.arrange();
  }

  select(row, column) {
    this.selected = { key: row.key, column };
    const index = this.places[column].get(row.key);
    const { clientHeight: height, scrollTop: top } = this.scroller;
    const y = AXIS + index * this.row;
    if (y - AXIS < top) this.scroller.scrollTop = y - AXIS;
    else if (y + this.row > top + height) this.scroller.scrollTop = y + this.row - height;
    this.draw();
    this.page.describe(row, this.runs[column]);
  }

  press(event) {
    const { key, column } = this.selected ?? { key: null, column: 0 };
    const index = this.selected ? (this.places[column].get(key) ?? -1) : -1;
    const row = this.slots[index]?.[column];
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20, Home: -Infinity, End: Infinity }[event.key];
    if (step) {
      const order = this.slots.map((slot, place) => (slot[column] ? place : -1)).filter((place) => place >= 0);
      const now = order.indexOf(index);
      const next = order[Math.min(Math.max(now + step, 0), order.length - 1)];
      if (next !== undefined) this.select(this.slots[next][column], column);
    } else if (event.key === "Enter" || event.key === " ") row && this.fold(row);
    else if (event.key === "ArrowRight") row && this.fold(row, true);
    else if (event.key === "ArrowLeft") row && this.fold(row, false);
    else if (event.key === "Tab" || event.ctrlKey || event.metaKey || !this.page.press(event)) return;
    event.preventDefault();
  }

  wheel(event) {
    if (!event.ctrlKey) return;
    event.preventDefault();
    this.magnify(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.offsetX);
  }

  magnify(factor, at = this.label) {
    const before = this.zoom;
    this.zoom = Math.min(Math.max(before * factor, 1), 1000);
    const left = this.scroller.scrollLeft;
    this.draw();
    this.scroller.scrollLeft = (left + at - this.label) * (this.zoom / before) - (at - this.label);
    this.draw();
  }
}
