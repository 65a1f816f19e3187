// The page: the list of runs, the chart of those that are chosen, and the text of what is selected.

import { Chart, LEGEND } from "./chart.mjs";
import { element } from "./elements.mjs";
import { COLUMNS, answerOf, number, pieces, seconds, selection, stopped, summary, timed } from "./layout.mjs";

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
      element(
        "thead",
        {},
        element("tr", {}, element("th", {}, element("span", { title: "Compare" }, "⇄")), ...this.heads),
      ),
      this.rows,
    );
    this.side = element(
      "nav",
      { class: "runs", "aria-label": "Runs" },
      this.search,
      this.count,
      element("div", { class: "table" }, table),
    );
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

  /** Show other runs, or more of the same, and leave what is selected and open as it is. */
  update(runs) {
    if (this.runs.length < 2 && runs.length > 1) document.body.prepend(this.side);
    this.runs = runs;
    document.body.classList.toggle("single", runs.length < 2);
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
    const note = rest ? `, the first ${SHOWN} shown` : "";
    this.count.textContent = `${number(this.order.length)} of ${number(this.runs.length)} runs${note}`;
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
      const text =
        typeof found === "number" ? (name === "seconds" ? seconds(found) : number(found)) : String(found ?? "");
      const short = text.length > 160 ? `${text.slice(0, 160)}…` : text;
      if (column)
        return element("td", { class: typeof found === "number" ? "number" : run.error ? "failed" : "" }, short);
      const open = element(
        "button",
        { type: "button", class: "open", onclick: () => this.choose([index]) },
        short || "(empty)",
      );
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
      element(
        "button",
        { type: "button", "aria-pressed": String(unit === this.unit), onclick: () => this.turn(unit) },
        unit,
      ),
    );
    const zoom = [
      ["−", "Zoom out", 1 / 1.5],
      ["+", "Zoom in", 1.5],
    ].map(([sign, label, factor]) =>
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
    const close = element(
      "button",
      { type: "button", "aria-label": "Close", onclick: () => (this.details.hidden = true) },
      "✕",
    );
    const parts = [element("header", {}, element("h2", {}, title), close), facts(record, row)];
    if (record.failure) {
      const [title, failed] = stopped(record) ? ["Stopped", false] : ["Failed", true];
      parts.push(block(title, `${record.failure.type}: ${record.failure.message}`, failed));
    }
    for (const item of record.diagnostics ?? []) parts.push(block(item.kind.replaceAll("_", " "), item.message));
    if (row.kind === "plan") {
      parts.push(block("Plan", record.plan), block("Answer", record.answer ?? ""));
    } else {
      parts.push(block("Prompt", record.prompt), block("Result", record.text));
      for (const use of record.tool_uses)
        parts.push(block(`Tool ${use.tool}`, `${use.arguments}\n→ ${use.text}`, use.failed));
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
    found.push([
      "critical path",
      `${seconds(record.usage.sequential_seconds ?? 0)}, ${number(record.usage.sequential_tokens_strict)} tokens`,
    ]);
  }
  if (usage.retries) found.push(["retries", number(usage.retries)]);
  return list(found);
}

const list = (facts) =>
  element(
    "dl",
    {},
    ...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );

function block(title, text, failed = false) {
  if (!text) return null;
  const content = pieces(text).map((piece) => (piece.tag ? element("span", { class: "tag" }, piece.text) : piece.text));
  return element(
    "div",
    { class: failed ? "block failed" : "block" },
    element("h3", {}, title),
    element("pre", {}, ...content),
  );
}

const none = element("p", { class: "note" }, "There are no runs.");
let page = null;

export function showRuns(runs) {
  if (page) page.update(runs);
  else if (runs.length) {
    none.remove();
    page = new Page(runs);
  } else document.body.append(none);
}

showRuns(JSON.parse(document.getElementById("runs").textContent));
