// What the viewer shows of a run: pure functions of its JSON.

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

export const sum = (values) => values.reduce((total, value) => total + value, 0);
export const most = (values) => values.reduce((largest, value) => Math.max(largest, value), 0);
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

/** Say whether an execution was cut off because its stage, or its run, had ended without it. */
export const stopped = (execution) => execution.failure?.type === "Superseded";

function marks(bars, execution) {
  const found = [];
  for (const each of bars) {
    if (each.call?.usage.retries) found.push({ kind: "retry", at: each.start });
    if (each.call?.waited > 0) found.push({ kind: "wait", at: each.start });
  }
  if (execution?.failure) found.push({ kind: stopped(execution) ? "stopped" : "failure", at: null });
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
  for (let row = last; row;) {
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
  run.error
    ? `${run.error.type}: ${run.error.message}`
    : typeof run.answer === "string"
      ? run.answer
      : JSON.stringify(run.answer);

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
