// The page: one module, no framework. It calls the same APIs that Grafana and obsq call.
const $ = id => document.getElementById(id);
const examples = { metrics: 'up', logs: '{service_name=~".+"}', traces: '{ }' };
const hasQuery = tab => tab in examples;
let tab = 'metrics';
const texts = { ...examples };

// An element with text or children; text never becomes markup.
function element(name, attributes = {}, ...children) {
  const svg = ['svg', 'path', 'line', 'text', 'g'].includes(name);
  const made = svg ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value); else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

async function call(path, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  const response = await fetch(path + (query ? '?' + query : ''));
  const text = await response.text();
  let body = null;
  try { body = JSON.parse(text); } catch { /* Loki and Tempo answer errors as plain text */ }
  if (!response.ok) throw new Error(body?.error ?? (text.trim() || response.statusText));
  return body;
}

const seconds = () => Number($('span').value);
const colour = index => `hsl(${(index * 67) % 360} 65% 50%)`;
const labelText = labels => {
  const { __name__: name = '', ...rest } = labels;
  const inner = Object.entries(rest).map(([key, value]) => `${key}="${value}"`).join(', ');
  return name + (inner || !name ? `{${inner}}` : '');
};
// A line's message and what else it says: a JSON line's other fields, beside any other line its metadata. What every line has is left out.
const common = /^(service(_name|_namespace)?|app|job|detected_level|level|severity.*|observed_timestamp|_?time|ts|@?timestamp|scope_.*|telemetry_.*|trace_id|span_id|flags)$/;
const pairs = fields => Object.entries(fields).filter(([name]) => !common.test(name))
  .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`).join(' ');
function parts(line, labels) {
  if (!line.startsWith('{')) return [line, pairs(labels)];
  try {
    const fields = JSON.parse(line);
    const name = ['_msg', 'message', 'msg', 'log'].find(name => typeof fields[name] === 'string');
    if (!name) return [line, ''];
    const { [name]: message, ...rest } = fields;
    return [message, pairs(rest)];
  } catch { return [line, '']; }
}
const clock = millis => new Date(millis).toLocaleTimeString([], { hour12: false });
const table = (heads, rows) => element('table', {},
  element('thead', {}, element('tr', {}, ...heads.map((head, index) => element('th', { class: rows[0]?.[index]?.className === 'number' ? 'number' : '' }, head)))),
  element('tbody', {}, ...rows.map(row => element('tr', {}, ...row.map(cell =>
    cell instanceof HTMLTableCellElement ? cell : element('td', {}, cell ?? ''))))));

function chart(series, start, end) {
  const width = 1000, height = 300, left = 70, bottom = 24;
  const values = series.flatMap(one => one.values.map(([, value]) => Number(value))).filter(Number.isFinite);
  if (!values.length) return element('p', {}, 'no finite values');
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) { low -= Math.abs(low) * .1 || 1; high += Math.abs(high) * .1 || 1; }
  const x = time => left + (time - start) / (end - start) * (width - left - 8);
  const y = value => 8 + (high - value) / (high - low) * (height - bottom - 16);
  const picture = element('svg', { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none' });
  for (let i = 0; i <= 4; i++) {
    const value = low + (high - low) * i / 4, time = start + (end - start) * i / 4;
    picture.append(
      element('line', { x1: left, x2: width - 8, y1: y(value), y2: y(value), stroke: '#8884' }),
      element('text', { x: left - 6, y: y(value) + 4, 'text-anchor': 'end', 'font-size': 11, fill: 'currentColor' }, Number(value.toPrecision(4)).toString()),
      element('text', { x: x(time), y: height - 6, 'text-anchor': i === 4 ? 'end' : 'middle', 'font-size': 11, fill: 'currentColor' }, clock(time * 1000)));
  }
  const step = (end - start) / 250;
  series.forEach((one, index) => {
    let path = '', last = -Infinity;
    for (const [time, text] of one.values) {
      const value = Number(text);
      if (!Number.isFinite(value)) continue;
      path += `${time - last > step * 1.5 ? 'M' : 'L'}${x(time).toFixed(1)} ${y(value).toFixed(1)}`;
      last = time;
    }
    picture.append(element('path', { d: path, fill: 'none', stroke: colour(index), 'stroke-width': 1.5, 'vector-effect': 'non-scaling-stroke' }));
  });
  return picture;
}

async function metrics(text) {
  const end = Date.now() / 1000, start = end - seconds();
  const { data, infos = [], warnings = [] } = await call('/api/v1/query_range', { query: text, start, end, step: seconds() / 250 });
  const shown = data.result.slice(0, 100);
  const legend = shown.map((one, index) => [
    element('td', { class: 'legend' }, element('i', { style: `background:${colour(index)}` }), labelText(one.metric)),
    element('td', { class: 'number' }, one.values.at(-1)[1]),
  ]);
  note(`${data.result.length} series` + [...warnings, ...infos].map(text => ` · ${text}`).join(''));
  return [chart(shown, start, end), table(['series', 'last'], legend)];
}

async function logs(text) {
  const end = Date.now(), start = end - seconds() * 1000;
  const { data } = await call('/loki/api/v1/query_range', { query: text, start: start + '000000', end: end + '000000', limit: 500, step: seconds() / 250 + 's' });
  if (data.resultType === 'matrix') return [chart(data.result, start / 1000, end / 1000), table(['series'], data.result.map(one => [labelText(one.metric)]))];
  const lines = data.result.flatMap(stream => stream.values.map(([time, line]) => ({ time: BigInt(time), line, labels: stream.stream })));
  lines.sort((a, b) => a.time < b.time ? 1 : a.time > b.time ? -1 : 0);
  note(`${lines.length} lines`);
  return lines.map(({ time, line, labels }) => {
    const [message, fields] = parts(line, labels);
    const shown = element('div', { class: `line ${labels.detected_level ?? ''}`, title: `${labelText(labels)}\n${line}` },
      element('time', {}, clock(Number(time / 1000000n))), element('b', {}, labels.service_name ?? ''), ` ${message} `, element('small', {}, fields));
    if (labels.trace_id) shown.append(' ', element('a', { onclick: () => openTrace(labels.trace_id) }, 'trace'));
    return shown;
  });
}

async function traces(text) {
  const end = Math.ceil(Date.now() / 1000) + 1;
  const { traces } = await call('/api/search', { q: text, start: end - seconds(), end, limit: 50 });
  note(`${traces.length} traces`);
  return [table(['time', 'service', 'name', 'duration', 'spans', 'id'], traces.map(trace => [
    clock(Number(BigInt(trace.startTimeUnixNano) / 1000000n)), trace.rootServiceName, trace.rootTraceName, `${trace.durationMs ?? 0} ms`,
    String(Object.values(trace.serviceStats ?? {}).reduce((sum, one) => sum + one.spanCount, 0)),
    element('a', { onclick: () => openTrace(trace.traceID) }, trace.traceID.slice(0, 8)),
  ]))];
}

async function openTrace(id) {
  remember({ tab: 'traces', trace: id, span: $('span').value });
  mark('traces');
  await show(async () => {
    const { data: [trace] } = await call('/jaeger/api/traces/' + id);
    const start = Math.min(...trace.spans.map(span => span.startTime));
    const total = Math.max(...trace.spans.map(span => span.startTime + span.duration)) - start || 1;
    const parent = span => span.references.find(one => one.refType === 'CHILD_OF')?.spanID;
    const known = new Set(trace.spans.map(span => span.spanID));
    const children = Map.groupBy(trace.spans, span => known.has(parent(span)) ? parent(span) : '');
    const rows = [];
    const walk = (id, depth) => {
      for (const span of (children.get(id) ?? []).sort((a, b) => a.startTime - b.startTime)) {
        const failed = span.tags.some(tag => tag.key === 'error' && tag.value === true);
        const bar = element('i', {
          class: failed ? 'error' : '',
          style: `left:${(span.startTime - start) / total * 100}%;width:${span.duration / total * 100}%`,
        });
        rows.push([
          element('td', { style: `padding-left:${8 + depth * 16}px` }, `${trace.processes[span.processID].serviceName}: ${span.operationName}`),
          element('td', { style: 'width:50%' }, element('div', { class: 'bar' }, bar)), `${(span.duration / 1000).toFixed(2)} ms`,
        ]);
        if (span.spanID !== id) walk(span.spanID, depth + 1);
      }
    };
    walk('', 0);
    note(`trace ${id}: ${trace.spans.length} spans, ${(total / 1000).toFixed(2)} ms`);
    return [table(['span', '', 'duration'], rows)];
  });
}

async function targets() {
  const { data } = await call('/api/v1/targets');
  note(`${data.activeTargets.length} targets`);
  return [table(['job', 'url', 'health', 'last scrape', 'error'], data.activeTargets.map(target => [
    target.labels.job, target.scrapeUrl, element('span', { class: target.health }, target.health), `${((target.lastScrapeDuration ?? 0) * 1000).toFixed(1)} ms`, target.lastError,
  ]))];
}

async function alerts() {
  const { data } = await call('/api/v1/rules', { type: 'alert' });
  const rules = data.groups.flatMap(group => group.rules);
  note(`${rules.length} alerting rules`);
  return [table(['alert', 'state', 'expression', 'active'], rules.map(rule => [
    rule.name, element('span', { class: rule.state }, rule.state), rule.query, (rule.alerts ?? []).map(alert => labelText(alert.labels)).join('\n'),
  ]))];
}

async function status() {
  const body = await call('/api/status');
  note(`version ${body.version}`);
  return [table(['signal', 'rows in segments', 'segment bytes', 'rows in head', 'log bytes'], body.signals.map(one =>
    [one.signal, ...[one.segmentRows, one.segmentBytes, one.headRows, one.walBytes].map(number => element('td', { class: 'number' }, number.toLocaleString()))]))];
}

const tabs = { metrics, logs, traces, targets, alerts, status };

function note(text, isError = false) {
  $('message').textContent = text;
  $('message').className = isError ? 'error' : '';
}

async function show(render) {
  note('…');
  try {
    const nodes = await render();
    $('result').replaceChildren(...nodes);
  } catch (error) {
    $('result').replaceChildren();
    note(error.message, true);
  }
}

// The address says what is shown, so that it can be sent to somebody and Back goes back.
let opening = false;
function remember(parameters) {
  const hash = '#' + new URLSearchParams(parameters);
  if (hash !== location.hash) history[opening ? 'replaceState' : 'pushState'](null, '', hash);
}

function run() {
  if (hasQuery(tab)) texts[tab] = $('text').value;
  remember({ tab, ...(hasQuery(tab) && { q: texts[tab] }), span: $('span').value });
  show(() => tabs[tab](texts[tab]));
}

function mark(name) {
  tab = name;
  for (const button of document.querySelectorAll('nav button')) button.classList.toggle('active', button.dataset.tab === name);
  $('query').hidden = !hasQuery(name);
  $('text').value = texts[name] ?? '';
}

function select(name) {
  mark(name);
  run();
}

function open() {
  const address = new URLSearchParams(location.hash.slice(1));
  const name = tabs[address.get('tab')] ? address.get('tab') : 'metrics';
  if (address.get('span')) $('span').value = address.get('span');
  if (address.get('q')) texts[name] = address.get('q');
  opening = true;
  if (address.get('trace')) openTrace(address.get('trace')); else select(name);
  opening = false;
}

for (const button of document.querySelectorAll('nav button')) button.addEventListener('click', () => select(button.dataset.tab));
$('query').addEventListener('submit', event => { event.preventDefault(); run(); });
$('span').addEventListener('change', run);
addEventListener('popstate', open);
open();
