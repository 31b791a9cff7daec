'use strict';
// Charts, drawn at the width that there is, so that their text has one size on every screen.

// Round numbers between low and high, about `count` of them.
function ticks(low, high, count) {
  const span = high - low || 1, rough = span / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(f => f * power).find(s => s >= rough);
  const all = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i)
    all.push(+(i * step).toPrecision(12));
  return all;
}

// The lowest and the highest of some numbers, apart from one another.
function range(numbers) {
  let low = Infinity, high = -Infinity;
  for (const number of numbers) {
    if (number === null) continue;
    low = Math.min(low, number);
    high = Math.max(high, number);
  }
  const margin = low === high ? Math.abs(low || 1) * .1 : 0;
  return [low - margin, high + margin];
}

// An empty picture with the y axis of `low` to `high`, and where numbers stand on it.
const kLeft = 58, kRight = 10, kTop = 10, kBottom = 26;
function emptyPlot(width, height, [low, high], label, format) {
  const viewBox = `0 0 ${width} ${height}`;
  const picture = svg('svg', {width, height, viewBox, role: 'img', 'aria-label': label});
  const Y = y => kTop + (high - y) / (high - low) * (height - kTop - kBottom);
  for (const y of ticks(low, high, 4))
    picture.append(
      svg('line', {class: 'grid', x1: kLeft, x2: width - kRight, y1: Y(y), y2: Y(y)}),
      svg('text', {class: 'tick right', x: kLeft - 7, y: Y(y) + 4}, format(y))
    );
  return {picture, Y};
}

// Draws anew whenever the box has another width.
function drawnAt(box, draw) {
  let drawn = 0;
  const observer = new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width < 60 || width === drawn) return;
    drawn = width;
    box.replaceChildren(...draw(width));
  });
  observer.observe(box);
  return box;
}

function curveOf(s, X, Y) {
  const place = (x, y) => `${X(x).toFixed(1)},${Y(y).toFixed(1)}`;
  const known = s.x.map((x, i) => [x, s.y[i]]).filter(([, y]) => y !== null);
  const parts = [];
  if (s.low) {
    const upper = s.x.map((x, i) => place(x, s.high[i]));
    const lower = s.x.map((x, i) => place(x, s.low[i])).reverse();
    const points = [...upper, ...lower].join(' ');
    parts.push(svg('polygon', {class: 'band', points, '--c': s.colour}));
  }
  const points = known.map(([x, y]) => place(x, y)).join(' ');
  parts.push(svg('polyline', {class: 'curve', points, '--c': s.colour}));
  if (s.dots || s.x.length === 1)
    for (const [x, y] of known)
      parts.push(svg('circle', {class: 'point', cx: X(x), cy: Y(y), r: 3, '--c': s.colour}));
  return parts;
}

// The place in `s` that is nearest to x.
function nearest(s, x) {
  let best = 0;
  for (let i = 1; i < s.x.length; ++i)
    if (Math.abs(s.x[i] - x) < Math.abs(s.x[best] - x)) best = i;
  return best;
}

// What the curves are under the pointer, the nearest first.
function readoutOf(rows, step, format) {
  const shown = rows.slice(
                      0, 10
  ).map(({s, i}) => el('span', {'--c': s.colour, class: 'key'}, `${s.name} ${format(s.y[i])}`));
  const others = rows.length > 10 ? [el('span', null, `and ${rows.length - 10} more`)] : [];
  return [el('b', null, `step ${plain(step)}`), ...shown, ...others];
}

function legendOf(series) {
  const keys = series.slice(0, 24).map(s => {
    const properties = {class: 'key', '--c': s.colour, href: s.href};
    return el(s.href ? 'a' : 'span', properties, s.name);
  });
  return el('p', {class: 'legend'}, keys, series.length > 24 && `and ${series.length - 24} more`);
}

// series: [{name, colour, x, y, low?, high?, dots?, href?}]; options: {title, format?, percent?,
// legend?}.
function lineChart(series, options) {
  const readout = el('div', {class: 'readout', hidden: true});
  const format = options.format ?? plain;
  const tick = options.percent ? y => String(Math.round(100 * y)) : format;
  series = series.filter(each => each.x.length > 0);
  const ends = series.map(s => `${s.name} ends at ${format(s.y[s.y.length - 1])}`).slice(0, 12);
  const label = `${options.title}: ${ends.join(', ')}`;
  const draw = width => {
    const height = Math.max(170, Math.min(260, width * .5));
    const ys = series.flatMap(s => [...s.low ?? s.y, ...s.high ?? []]);
    const limits = options.percent ? [0, 1] : range(ys);
    if (!(limits[0] < limits[1]))
      return [el('p', {class: 'note'}, 'No number of this has been written yet.')];
    const {picture, Y} = emptyPlot(width, height, limits, label, tick);
    const first = Math.min(...series.map(s => s.x[0]));
    const last = Math.max(...series.map(s => s.x[s.x.length - 1]), first + 1);
    const span = width - kLeft - kRight;
    const X = x => kLeft + (x - first) / (last - first) * span;
    for (const x of ticks(first, last, Math.max(2, width / 110)))
      picture.append(svg('text', {class: 'tick', x: X(x), y: height - 6}, plain(x)));
    const cross = svg('line', {class: 'cross', y1: kTop, y2: height - kBottom, x1: -9, x2: -9});
    picture.append(...series.flatMap(s => curveOf(s, X, Y)), cross);
    const moveCross = x => {
      cross.setAttribute('x1', x);
      cross.setAttribute('x2', x);
    };
    picture.addEventListener('pointermove', event => {
      const x = first + (event.offsetX - kLeft) / span * (last - first);
      const rows = series.map(s => ({s, i: nearest(s, x)}));
      const steps = rows.map(({s, i}) => s.x[i]);
      const step = steps.reduce((a, b) => Math.abs(b - x) < Math.abs(a - x) ? b : a);
      const distance = ({s, i}) => Math.abs(Y(s.y[i] ?? 0) - event.offsetY);
      rows.sort((a, b) => distance(a) - distance(b));
      moveCross(X(step));
      readout.replaceChildren(...readoutOf(rows, step, format));
      readout.hidden = false;
      readout.classList.toggle('leftward', event.offsetX > width / 2);
      readout.style.setProperty('--x', `${X(step)}px`);
    });
    picture.addEventListener('pointerleave', () => {
      readout.hidden = true;
      moveCross(-9);
    });
    return [picture, readout];
  };
  const box = drawnAt(el('div', {class: 'plot'}), draw);
  const legend = (series.length > 1 || options.legend) && legendOf(series);
  return el('figure', null, el('figcaption', null, options.title), box, legend);
}

// A share as a bar, with whatever lies over it.
function track(share, tint, ...over) {
  return el(
    'span', {class: 'track', 'aria-hidden': 'true'},
    el('span', {class: 'filled', '--w': share, '--c': tint}), over
  );
}

// A share with its interval as a bar: [value, low, high, n].
function bar(numbers, tint, title) {
  if (!numbers) return el('span', {class: 'note'}, '–');
  const [value, low, high, n] = numbers;
  const range =
    low !== null && high !== null ? `${percent(low)} to ${percent(high)}` : 'no interval';
  return el(
    'span', {class: 'rate', title: `${title ?? ''} ${percent(value)}% (${range}; n ${n})`.trim()},
    track(
      value, tint,
      low !== null && high !== null && el('span', {class: 'whisker', '--a': low, '--b': high})
    ),
    el('span', {class: 'number'}, percent(value))
  );
}

// Arms under one another, with intervals: rows of {name, numbers, href?}.
function barChart(title, rows) {
  return el(
    'figure', {class: 'bars'}, el('figcaption', null, title),
    rows.map(
      row => el(
        'div', {class: 'barline'},
        row.href ? el('a', {href: row.href}, row.name) : el('span', null, row.name),
        bar(row.numbers, colour(row.arm ?? row.name), row.name)
      )
    )
  );
}

function sparkline(values) {
  const numbers = (values ?? []).filter(v => v !== null);
  if (numbers.length < 2) return '';
  const low = Math.min(...numbers), span = Math.max(...numbers) - low || 1;
  return svg('svg', {class: 'spark', viewBox: '0 0 64 18', 'aria-hidden': 'true'}, svg('polyline', {
               points: numbers
                         .map(
                           (v, i) => `${(i / (numbers.length - 1) * 62 + 1).toFixed(1)},${
                             (16 - (v - low) / span * 14).toFixed(1)}`
                         )
                         .join(' ')
             }));
}

// A value of a parameter along x, the metric along y, a dot a cell: points of {x (text), y, title,
// href}.
function dotChart(title, points, format) {
  const values = [...new Set(points.map(p => p.x))];
  const numeric = values.every(v => v !== '' && !Number.isNaN(Number(v)));
  values.sort((a, b) => numeric ? a - b : a < b ? -1 : 1);
  const draw = width => {
    const height = 190;
    const {picture, Y} = emptyPlot(width, height, range(points.map(p => p.y)), title, format);
    const each = (width - kLeft - kRight) / values.length;
    const X = v => kLeft + (values.indexOf(v) + .5) * each;
    const every = Math.ceil(60 / each);
    for (let i = 0; i < values.length; i += every) {
      const text = values[i].slice(0, 12);
      picture.append(svg('text', {class: 'tick', x: X(values[i]), y: height - 6}, text));
    }
    for (const p of points) {
      const dot = svg(
        'circle', {class: 'point soft', cx: X(p.x), cy: Y(p.y), r: 5}, svg('title', null, p.title)
      );
      picture.append(svg('a', {href: p.href}, dot));
    }
    return [picture];
  };
  const box = drawnAt(el('div', {class: 'plot'}), draw);
  return el('figure', null, el('figcaption', null, title), box);
}

// Numbers before texts, and what is not there last, whichever way.
function sortedBy(value, way, rows) {
  const rank = v => v === null || v === undefined || v === '' ? 2 : typeof v === 'number' ? 0 : 1;
  return [...rows].sort((a, b) => {
    const x = value(a), y = value(b), kinds = rank(x) - rank(y);
    if (kinds !== 0 || rank(x) === 2) return kinds;
    return way * (x < y ? -1 : x > y ? 1 : 0);
  });
}

// A table that a click on a column's head sorts. columns: {title, value(row), cell(row)?, words?};
// `memory` keeps the order while the page is drawn anew.
const orders = new Map();
function sortable(memory, columns, rows, limit = 200) {
  const body = el('tbody'), heads = el('tr'), more = el('p', {class: 'more'});
  let shown = limit;
  const sortBy = column => {
    const now = orders.get(memory);
    const way = now?.column === column ? -now.way : columns[column].words ? 1 : -1;
    orders.set(memory, {column, way});
    draw();
  };
  const showMore = () => {
    shown += 500;
    draw();
  };
  const head = (column, i) => {
    const order = orders.get(memory);
    const sorted = order?.column === i ? (order.way > 0 ? 'ascending' : 'descending') : null;
    const properties = {class: column.words && 'words', scope: 'col', 'aria-sort': sorted};
    const onclick = () => sortBy(i);
    return el('th', properties, el('button', {type: 'button', onclick}, column.title));
  };
  const cell = (column, row) => el(
    'td', {class: column.words && 'words', 'data-title': column.title},
    column.cell ? column.cell(row) : plainCell(column.value(row))
  );
  function draw() {
    const order = orders.get(memory), by = columns[order?.column];
    const sorted = by ? sortedBy(by.value, order.way, rows) : rows;
    const lines = sorted.slice(0, shown);
    heads.replaceChildren(...columns.map(head));
    body.replaceChildren(...lines.map(row => el('tr', null, columns.map(each => cell(each, row)))));
    more.replaceChildren();
    if (sorted.length <= shown) return;
    const text = `Show more: ${shown} of ${sorted.length.toLocaleString('en')}`;
    more.append(el('button', {type: 'button', onclick: showMore}, text));
  }
  draw();
  return el('div', {class: 'scroll'}, el('table', null, el('thead', null, heads), body), more);
}
function plainCell(value) { return typeof value === 'number' ? plain(value) : value ?? ''; }
