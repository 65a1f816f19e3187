// The run viewer: runs as Gantt charts. The upper half is pure functions of a run's JSON, which tests call under node; the
// lower half draws. Text from a run reaches the page by `textContent` alone.

const NAMESPACE = "http://www.w3.org/2000/svg";
const TAG = /<\/?(?:Plan_\d+|prompt_[\d.]+|Execution_\d+|execution_[\d.]+|Final_answer|think)(?:\s[^<>]*)?>/g;

// ---- Numbers -------------------------------------------------------------------------------------------------------

export const number = (value) => Math.round(value).toLocaleString("en-US");

/** Write a duration with at most three digits that count. */
export function seconds(value) {
  if (value >= 1) return `${Number(value.toPrecision(3)).toLocaleString("en-US")} s`;
  return value === 0 ? "0 s" : value < 0.001 ? `${number(value * 1e6)} µs` : `${number(value * 1000)} ms`;
}

export const quantity = (value, unit) => (unit === "seconds" ? seconds(value) : number(value));

/** Return about `count` round values from 0 to `most`. */
export function ticks(most, count) {
  if (!(most > 0)) return [0];
  const rough = most / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, index) => index * step);
}

/** Split a text into tags and what is between them. */
export function pieces(text) {
  const found = [];
  let end = 0;
  for (const match of text.matchAll(TAG)) {
    if (match.index > end) found.push({ tag: false, text: text.slice(end, match.index) });
    found.push({ tag: true, text: match[0] });
    end = match.index + match[0].length;
  }
  if (end < text.length) found.push({ tag: false, text: text.slice(end) });
  return found;
}

// ---- The layout of a run -------------------------------------------------------------------------------------------

const sum = (values) => values.reduce((total, value) => total + value, 0);
const most = (values) => values.reduce((largest, value) => Math.max(largest, value), 0);
const worked = (call) => Math.max(0, call.ended - call.started - (call.waited ?? 0));
const own = (stage) => stage.calls ?? [];
const written = (stage) => own(stage).findLast((call) => call.role !== "prefix")?.usage.generated_tokens ?? 0;

/** Return the seconds that all parts would take one after another. */
export function inSequence(stages) {
  return sum(
    (stages ?? []).map(
      (stage) =>
        sum(own(stage).map(worked)) +
        sum(
          stage.executions.map((execution) => {
            if (execution.stages?.length) return inSequence(execution.stages);
            const waited = sum((execution.calls ?? []).map((call) => call.waited ?? 0));
            return Math.max(0, (execution.ended ?? 0) - (execution.started ?? 0) - waited);
          }),
        ),
    ),
  );
}

/** Say whether a run has times; records of older versions have none, and simulated ones may take none. */
export const timed = (run) => (run.stages ?? []).some((stage) => stage.ended > 0);

function bar(start, end, usage, call) {
  const cached = usage?.cached_tokens ?? 0;
  return {
    start,
    end,
    cached,
    computed: Math.max(0, (usage?.prompt_tokens ?? 0) - cached),
    generated: usage?.generated_tokens ?? 0,
    call,
  };
}

function marks(bars, execution) {
  const found = [];
  for (const each of bars) {
    if (each.call?.usage.retries) found.push({ kind: "retry", at: each.start });
    if (each.call?.waited > 0) found.push({ kind: "wait", at: each.start });
  }
  if (execution?.failure) found.push({ kind: "failure", at: null });
  return found;
}

function rowOf(kind, key, depth, title, record, start, end, bars) {
  return { kind, key, depth, title, record, start, end, closed: start, bars, marks: [], tools: [], inner: [] };
}

/** Lay out stages in seconds. Each has the row of its planner and the rows of its executions. */
function bySeconds(stages, prefix, depth) {
  return stages.map((stage) => {
    const bars = own(stage).map((call) => bar(call.started, call.ended, call.usage, call));
    const ended = bars.length ? most(bars.map((each) => each.end)) : stage.started;
    const planner = rowOf("plan", `${prefix}${stage.number}`, depth, titleOf(stage), stage, stage.started, ended, bars);
    planner.marks = marks(bars);
    const rows = stage.executions.map((execution) => {
      const { started: start, ended: end } = execution;
      const key = `${prefix}${stage.number}.${execution.number}`;
      const calls = execution.calls ?? [];
      const bars = calls.map((call) => bar(call.started, call.ended, call.usage, call));
      if (!bars.length) bars.push(bar(start, end, execution.usage));
      const row = rowOf("execution", key, depth + 1, execution.prompt, execution, start, end, bars);
      row.closed = execution.prompt_closed;
      row.marks = marks(bars, execution);
      row.tools = execution.tool_uses.map((use) => ({ start: use.started, end: use.started + use.seconds, use }));
      row.inner = bySeconds(execution.stages ?? [], `${key}/`, depth + 2);
      return row;
    });
    return { planner, rows, start: stage.started, end: stage.ended };
  });
}

/** Lay out stages in tokens that are generated one after another. */
function byTokens(stages, prefix, depth, from) {
  let base = from;
  return stages.map((stage) => {
    const start = base;
    let at = start;
    const bars = own(stage).map((call) => bar(at, (at += call.usage.generated_tokens), call.usage, call));
    const title = titleOf(stage);
    const planner = rowOf("plan", `${prefix}${stage.number}`, depth, title, stage, start, start + written(stage), bars);
    planner.marks = marks(bars);
    const ends = new Map();
    const rows = stage.executions.map((execution) => {
      const key = `${prefix}${stage.number}.${execution.number}`;
      const closed = start + (execution.plan_tokens ?? 0);
      const begins = most([closed, ...(execution.after ?? []).map((other) => ends.get(other) ?? 0)]);
      const inner = byTokens(execution.stages ?? [], `${key}/`, depth + 2, begins);
      let at = begins;
      const bars = (execution.calls ?? []).map((call) =>
        bar(at, (at += call.usage.generated_tokens), call.usage, call),
      );
      const end = inner.length ? inner.at(-1).end : begins + (execution.usage.generated_tokens ?? 0);
      if (!bars.length) bars.push(bar(begins, end, execution.usage));
      const row = rowOf("execution", key, depth + 1, execution.prompt, execution, begins, end, bars);
      ends.set(execution.number, end);
      row.closed = closed;
      row.marks = marks(bars, execution);
      row.inner = inner;
      return row;
    });
    base = most([planner.end, ...rows.map((row) => row.end)]);
    return { planner, rows, start, end: base };
  });
}

export function titleOf(stage) {
  if (stage.executions.length || stage.pending?.length) return `plan ${stage.number}`;
  return stage.answer === null || stage.answer === undefined ? `stage ${stage.number}` : "answer";
}

export function layout(run, unit) {
  const stages = run.stages ?? [];
  return unit === "tokens" ? byTokens(stages, "", 0, 0) : bySeconds(stages, "", 0);
}

const requestsOf = (record) => [
  ...(record.calls ?? []).flatMap((call) => call.request_ids),
  ...(record.stages ?? []).flatMap((stage) => stage.usage.sequential_requests ?? []),
];

/** Return the rows of the executions on the critical path of a stage, in order. */
export function chain(stage, unit) {
  const requests = new Set(stage.planner.record.usage.sequential_requests ?? []);
  if (unit === "seconds" && requests.size) {
    const named = stage.rows.filter((row) => requestsOf(row.record).some((request) => requests.has(request)));
    if (named.length) return named.sort((one, other) => one.start - other.start);
  }
  let last = null;
  for (const row of stage.rows) if (row.end > (last?.end ?? stage.planner.end)) last = row;
  const found = [];
  for (let row = last; row; ) {
    found.unshift(row);
    const before = stage.rows.filter((other) => row.record.after?.includes(other.record.number));
    row = before.reduce((latest, other) => (latest && latest.end >= other.end ? latest : other), null);
    if (row && found[0].closed >= row.end) row = null;
  }
  return found;
}

/** List the rows that are shown, stage by stage; `open` has the keys of executions whose stages are unfolded. */
export function visible(stages, open) {
  return stages.map((stage) => [
    stage.planner,
    ...stage.rows.flatMap((row) => [row, ...(open.has(row.key) ? visible(row.inner, open).flat() : [])]),
  ]);
}

/** Align several lists of stages: the rows of a stage begin at the same height in all. */
export function align(columns) {
  const slots = [];
  const stages = most(columns.map((column) => column.length));
  for (let stage = 0; stage < stages; stage += 1) {
    const height = most(columns.map((column) => column[stage]?.length ?? 0));
    for (let index = 0; index < height; index += 1) slots.push(columns.map((column) => column[stage]?.[index]));
  }
  return slots;
}

/** Say what a run cost, in words. */
export function summary(run) {
  const usage = run.usage;
  const facts = [
    ["took", seconds(usage.seconds)],
    ["critical path", `${seconds(usage.sequential_seconds ?? 0)}, ${number(usage.sequential_tokens_strict)} tokens`],
    ["in sequence", `${seconds(inSequence(run.stages))}, ${number(usage.total_tokens)} tokens`],
    ["speed-up", `${(usage.total_tokens / Math.max(1, usage.sequential_tokens_strict)).toFixed(1)} ×`],
    ["prompts from the cache", share(usage.cached_tokens, usage.prompt_tokens)],
    ["requests", number(usage.calls)],
  ];
  for (const name of ["retries", "tool_calls", "failures"])
    if (usage[name]) facts.push([name.replace("_", " "), number(usage[name])]);
  return facts;
}

const share = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} %` : "none");

export const answerOf = (run) =>
  run.error ? `${run.error.type}: ${run.error.message}` : typeof run.answer === "string" ? run.answer : JSON.stringify(run.answer);

export const COLUMNS = [
  ["task", (run) => run.task],
  ["answer", answerOf],
  ["seconds", (run) => run.usage.seconds],
  ["stages", (run) => run.usage.stages],
  ["width", (run) => run.usage.width],
  ["tokens", (run) => run.usage.total_tokens],
  ["in sequence", (run) => run.usage.sequential_tokens_strict],
];

/** Return the indexes of the runs that contain all words of `search`, in the order of a column. */
export function selection(runs, search, column, descending) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const value = COLUMNS[column]?.[1];
  const found = runs
    .map((run, index) => ({ run, index }))
    .filter(({ run }) => {
      const text = `${run.id} ${run.policy} ${run.task} ${answerOf(run)}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
  if (value)
    found.sort((one, other) => {
      const [a, b] = [value(one.run), value(other.run)];
      return (typeof a === "number" ? a - b : String(a).localeCompare(String(b))) * (descending ? -1 : 1);
    });
  return found.map(({ index }) => index);
}

// ---- Drawing -------------------------------------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function shape(name, attributes, text) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  return made;
}

const MEANINGS = { retry: "a repeated request", wait: "waits for tokens of the budget", failure: "failed" };
const LEGEND = ["cached", "computed", "generated", "critical path", "tool", "waits", "retry", "failure"];
const AXIS = 26;

/** A chart of one run, or of two side by side. */
class Chart {
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
    group.append(shape("rect", { class: "hit", x: -this.label, y, width: this.pane + 2 * this.label, height: this.row }));
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
      const found = shape("rect", { class: tool.use.failed ? "tool failed" : "tool", x, y: lane + 4, width, height: 6 });
      found.append(shape("title", {}, `tool ${tool.use.tool}, ${seconds(tool.use.seconds)}`));
      group.append(found);
    }
    for (const mark of row.marks) {
      const x = this.x(mark.at ?? row.end, left);
      const name = `mark ${mark.kind}`;
      const failed = mark.kind === "failure";
      const sign = failed ? shape("text", { class: name, x: x + 2, y: lane + 12 }, "✕") : shape("circle", { class: name, cx: x, cy: lane + 7, r: 4.5 });
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

// ---- The page ------------------------------------------------------------------------------------------------------

const SHOWN = 300;

class Page {
  constructor(runs) {
    this.runs = runs;
    this.chosen = [0];
    this.column = -1;
    this.descending = false;
    this.unit = runs.some(timed) ? "seconds" : "tokens";
    this.chart = new Chart(this);
    this.head = element("section", { class: "head", "aria-label": "The run" });
    this.details = element("section", { class: "details", "aria-label": "Details", "aria-live": "polite", hidden: "" });
    this.search = element("input", {
      type: "search",
      placeholder: "Search runs (/)",
      "aria-label": "Search runs",
      oninput: () => this.list(),
    });
    this.rows = element("tbody");
    this.count = element("p", { class: "note", role: "status" });
    this.heads = COLUMNS.map(([name], index) =>
      element("th", { scope: "col" }, element("button", { type: "button", onclick: () => this.sort(index) }, name)),
    );
    const table = element(
      "table",
      {},
      element("thead", {}, element("tr", {}, element("th", {}, element("span", { title: "Compare" }, "⇄")), ...this.heads)),
      this.rows,
    );
    this.side = element("nav", { class: "runs", "aria-label": "Runs" }, this.search, this.count, element("div", { class: "table" }, table));
    const main = element("main", {}, this.head, this.chart.scroller);
    document.body.classList.toggle("single", runs.length < 2);
    document.body.append(...(runs.length > 1 ? [this.side] : []), main, this.details);
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest?.("input, button");
      if (!event.defaultPrevented && !(typing && event.key !== "Escape") && this.press(event)) event.preventDefault();
    });
    this.list();
    this.show();
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    if (event.key === "Escape" && !this.details.hidden) this.details.hidden = true;
    else if (event.key === "/") this.search.focus();
    else if (event.key === "t") this.turn(this.unit === "tokens" ? "seconds" : "tokens");
    else if (event.key === "+" || event.key === "=") this.chart.magnify(1.5);
    else if (event.key === "-") this.chart.magnify(1 / 1.5);
    else if ((event.key === "n" || event.key === "p") && this.order.length > 1) {
      const now = this.order.indexOf(this.chosen[0]) + (event.key === "n" ? 1 : -1);
      this.choose([this.order[Math.min(Math.max(now, 0), this.order.length - 1)]]);
    } else return false;
    return true;
  }

  sort(column) {
    this.descending = this.column === column && !this.descending;
    this.column = column;
    this.list();
  }

  list() {
    this.order = selection(this.runs, this.search.value, this.column, this.descending);
    const shown = this.order.slice(0, SHOWN);
    this.heads.forEach((head, index) => {
      if (index === this.column) head.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.rows.replaceChildren(...shown.map((index) => this.line(index)));
    const rest = this.order.length - shown.length;
    this.count.textContent = `${number(this.order.length)} of ${number(this.runs.length)} runs${rest ? `, the first ${SHOWN} shown` : ""}`;
  }

  line(index) {
    const run = this.runs[index];
    const compared = element("input", {
      type: "checkbox",
      "aria-label": `Compare with run ${index + 1}`,
      onchange: (event) => this.compare(index, event.target.checked),
    });
    compared.checked = this.chosen.includes(index);
    const cells = COLUMNS.map(([name, value], column) => {
      const found = value(run);
      const text = typeof found === "number" ? (name === "seconds" ? seconds(found) : number(found)) : String(found ?? "");
      const short = text.length > 160 ? `${text.slice(0, 160)}…` : text;
      if (column) return element("td", { class: typeof found === "number" ? "number" : run.error ? "failed" : "" }, short);
      const open = element("button", { type: "button", class: "open", onclick: () => this.choose([index]) }, short || "(empty)");
      return element("td", {}, open);
    });
    const current = this.chosen.includes(index);
    const attributes = { class: current ? "chosen" : "", "aria-current": current ? "true" : null, "data-run": index };
    return element("tr", attributes, element("td", {}, compared), ...cells);
  }

  compare(index, wanted) {
    const others = this.chosen.filter((other) => other !== index);
    this.choose(wanted ? [...others.slice(-1), index] : others.length ? others : [index], index, "input");
  }

  choose(indexes, from = indexes[0], control = "button") {
    this.chosen = indexes;
    this.chart.open.clear();
    this.chart.selected = null;
    this.details.hidden = true;
    const focused = this.rows.contains(document.activeElement);
    this.list();
    if (focused) this.rows.querySelector(`[data-run="${from}"] ${control}`)?.focus();
    this.show();
  }

  turn(unit) {
    this.unit = unit;
    this.show();
  }

  show() {
    const runs = this.chosen.map((index) => this.runs[index]);
    const units = ["seconds", "tokens"].map((unit) =>
      element("button", { type: "button", "aria-pressed": String(unit === this.unit), onclick: () => this.turn(unit) }, unit),
    );
    const zoom = [["−", "Zoom out", 1 / 1.5], ["+", "Zoom in", 1.5]].map(([sign, label, factor]) =>
      element("button", { type: "button", "aria-label": label, onclick: () => this.chart.magnify(factor) }, sign),
    );
    const legend = LEGEND.map((name) => element("span", { class: `key ${name.split(" ")[0]}` }, name));
    this.head.replaceChildren(
      element("div", { class: "facts" }, ...runs.map((run) => this.facts(run))),
      element(
        "div",
        { class: "bar" },
        element("div", { class: "group", role: "group", "aria-label": "Unit of the axis" }, ...units),
        element("div", { class: "group", role: "group", "aria-label": "Zoom" }, ...zoom),
        element("div", { class: "legend" }, ...legend),
      ),
    );
    this.chart.show(runs, this.unit);
  }

  facts(run) {
    const verdict = run.verified === true ? " ✓" : run.verified === false ? " ✗ wrong" : "";
    const began = run.origin ? new Date(run.origin).toISOString().replace("T", " ").slice(0, 19) + " UTC" : "";
    return element(
      "div",
      { class: "fact" },
      element("h1", { title: run.task }, run.task),
      element("p", { class: run.error ? "answer failed" : "answer" }, `${answerOf(run) ?? ""}${verdict}`),
      element("p", { class: "note" }, [run.policy, run.id, began].filter(Boolean).join(" · ")),
      list(summary(run)),
    );
  }

  describe(row, run) {
    const record = row.record;
    const title = row.kind === "plan" ? row.title : `execution ${row.key}`;
    const close = element("button", { type: "button", "aria-label": "Close", onclick: () => (this.details.hidden = true) }, "✕");
    const parts = [element("header", {}, element("h2", {}, title), close), facts(record, row)];
    if (record.failure) parts.push(block("Failed", `${record.failure.type}: ${record.failure.message}`, true));
    for (const item of record.diagnostics ?? []) parts.push(block(item.kind.replaceAll("_", " "), item.message));
    if (row.kind === "plan") {
      parts.push(block("Plan", record.plan), block("Answer", record.answer ?? ""));
    } else {
      parts.push(block("Prompt", record.prompt), block("Result", record.text));
      for (const use of record.tool_uses) parts.push(block(`Tool ${use.tool}`, `${use.arguments}\n→ ${use.text}`, use.failed));
      parts.push(block("Transcript", record.transcript));
    }
    const last = run.stages.at(-1) === record;
    if (last) parts.push(block("Transcript of the run", run.transcript));
    this.details.replaceChildren(...parts.filter(Boolean));
    this.details.hidden = false;
    this.details.scrollTop = 0;
    if (matchMedia("(max-width: 900px)").matches) this.chart.scroller.scrollIntoView();
  }
}

function facts(record, row) {
  const usage = record.usage.total ?? record.usage;
  const found = [
    ["from", `${seconds(record.started ?? 0)} to ${seconds(record.ended ?? 0)}`],
    ["requests", number(usage.calls)],
    ["cached", number(usage.cached_tokens)],
    ["computed", number(usage.prompt_tokens - usage.cached_tokens)],
    ["generated", number(usage.generated_tokens)],
  ];
  if (row.kind === "execution") {
    const token = record.plan_tokens ? `, token ${number(record.plan_tokens)} of the plan` : "";
    found.splice(1, 0, ["prompt closed", `${seconds(record.prompt_closed ?? 0)}${token}`]);
    if (record.after?.length) found.push(["waited for", record.after.join(", ")]);
  } else {
    found.push(["critical path", `${seconds(record.usage.sequential_seconds ?? 0)}, ${number(record.usage.sequential_tokens_strict)} tokens`]);
  }
  if (usage.retries) found.push(["retries", number(usage.retries)]);
  return list(found);
}

const list = (facts) =>
  element("dl", {}, ...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));

function block(title, text, failed = false) {
  if (!text) return null;
  const content = pieces(text).map((piece) => (piece.tag ? element("span", { class: "tag" }, piece.text) : piece.text));
  return element("div", { class: failed ? "block failed" : "block" }, element("h3", {}, title), element("pre", {}, ...content));
}

if (typeof document !== "undefined") {
  const runs = JSON.parse(document.getElementById("runs").textContent);
  if (runs.length) new Page(runs);
  else document.body.append(element("p", { class: "note" }, "There are no runs."));
}
