'use strict';
// Charts, drawn at the width that there is, so that their text has one size on every screen.

// Round numbers between low and high, about `count` of them.
function ticks(low, high, count) {
  const span = high - low || 1, rough = span / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(f => f * power).find(s => s >= rough);
  const all = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) all.push(+(i * step).toPrecision(12));
  return all;
}

// series: [{name, colour, x, y, low?, high?, dots?}]; options: {title, format, percent, link?}.
function lineChart(series, options) {
  const box = el('div', {class: 'plot'}), readout = el('div', {class: 'readout', hidden: true});
  const figure = el('figure', null, el('figcaption', null, options.title), box);
  const format = options.format ?? plain;
  series = series.filter(each => each.x.length > 0);
  const draw = width => {
    const height = Math.max(170, Math.min(260, width * .5)), left = 58, right = 10, top = 10, bottom = 26;
    const xs = series.flatMap(s => [s.x[0], s.x[s.x.length - 1]]);
    let low = Infinity, high = -Infinity;
    for (const s of series) {
      for (const y of s.low ?? s.y) if (y !== null) low = Math.min(low, y);
      for (const y of s.high ?? s.y) if (y !== null) high = Math.max(high, y);
    }
    if (options.percent) [low, high] = [0, 1];
    if (!(low <= high)) return el('p', {class: 'note'}, 'No number of this has been written yet.');
    if (low === high) [low, high] = [low - Math.abs(low || 1) * .1, high + Math.abs(high || 1) * .1];
    const first = Math.min(...xs), last = Math.max(...xs, first + 1);
    const X = x => left + (x - first) / (last - first) * (width - left - right);
    const Y = y => top + (high - y) / (high - low) * (height - top - bottom);
    const picture = svg('svg', {width, height, viewBox: `0 0 ${width} ${height}`, role: 'img',
                                'aria-label': `${options.title}: ${series.map(s => `${s.name} ends at ${format(s.y[s.y.length - 1])}`).slice(0, 12).join(', ')}`});
    for (const y of ticks(low, high, 4))
      picture.append(svg('line', {class: 'grid', x1: left, x2: width - right, y1: Y(y), y2: Y(y)}),
                     svg('text', {class: 'tick right', x: left - 7, y: Y(y) + 4}, options.percent ? String(Math.round(100 * y)) : format(y)));
    for (const x of ticks(first, last, Math.max(2, width / 110)))
      picture.append(svg('text', {class: 'tick', x: X(x), y: height - 6}, plain(x)));
    for (const s of series) {
      const at = i => s.y[i] === null ? null : `${X(s.x[i]).toFixed(1)},${Y(s.y[i]).toFixed(1)}`;
      if (s.low) {
        const upper = s.x.map((x, i) => `${X(x).toFixed(1)},${Y(s.high[i]).toFixed(1)}`);
        const lower = s.x.map((x, i) => `${X(x).toFixed(1)},${Y(s.low[i]).toFixed(1)}`).reverse();
        picture.append(svg('polygon', {class: 'band', points: [...upper, ...lower].join(' '), '--c': s.colour}));
      }
      picture.append(svg('polyline', {class: 'curve', points: s.x.map((_, i) => at(i)).filter(Boolean).join(' '), '--c': s.colour}));
      if (s.dots || s.x.length === 1)
        for (let i = 0; i < s.x.length; ++i)
          if (s.y[i] !== null) picture.append(svg('circle', {class: 'point', cx: X(s.x[i]), cy: Y(s.y[i]), r: 3, '--c': s.colour}));
    }
    const cross = svg('line', {class: 'cross', y1: top, y2: height - bottom, x1: -9, x2: -9});
    picture.append(cross);
    picture.addEventListener('pointermove', event => {
      const x = first + (event.offsetX - left) / (width - left - right) * (last - first);
      const rows = series.map(s => {
        let best = 0;
        for (let i = 1; i < s.x.length; ++i) if (Math.abs(s.x[i] - x) < Math.abs(s.x[best] - x)) best = i;
        return {s, i: best, distance: Math.abs(Y(s.y[best] ?? 0) - event.offsetY)};
      });
      const at = rows.reduce((a, b) => Math.abs(b.s.x[b.i] - x) < Math.abs(a.s.x[a.i] - x) ? b : a);
      const step = at.s.x[at.i];
      cross.setAttribute('x1', X(step));
      cross.setAttribute('x2', X(step));
      rows.sort((a, b) => a.distance - b.distance);
      readout.replaceChildren(el('b', null, `step ${plain(step)}`),
          ...rows.slice(0, 10).map(({s, i}) => el('span', {'--c': s.colour, class: 'key'}, `${s.name} ${format(s.y[i])}`)),
          rows.length > 10 ? el('span', null, `and ${rows.length - 10} more`) : '');
      readout.hidden = false;
      readout.classList.toggle('leftward', event.offsetX > width / 2);
      readout.style.setProperty('--x', `${X(step)}px`);
    });
    picture.addEventListener('pointerleave', () => {
      readout.hidden = true;
      cross.setAttribute('x1', -9);
      cross.setAttribute('x2', -9);
    });
    return picture;
  };
  let drawn = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width < 60 || width === drawn) return;
    drawn = width;
    box.replaceChildren(draw(width), readout);
  }).observe(box);
  if (series.length > 1 || options.legend)
    figure.append(el('p', {class: 'legend'}, series.slice(0, 24).map(s =>
        s.href ? el('a', {class: 'key', '--c': s.colour, href: s.href}, s.name) : el('span', {class: 'key', '--c': s.colour}, s.name)),
        series.length > 24 ? `and ${series.length - 24} more` : ''));
  return figure;
}

// A share with its interval as a bar: [value, low, high, n].
function bar(numbers, tint, title) {
  if (!numbers) return el('span', {class: 'note'}, '–');
  const [value, low, high, n] = numbers;
  const range = low !== null && high !== null ? `${percent(low)} to ${percent(high)}` : 'no interval';
  return el('span', {class: 'rate', title: `${title ?? ''} ${percent(value)}% (${range}; n ${n})`.trim()},
            el('span', {class: 'track', 'aria-hidden': 'true'},
               el('span', {class: 'filled', '--w': value, '--c': tint}),
               low !== null && high !== null && el('span', {class: 'whisker', '--a': low, '--b': high})),
            el('span', {class: 'number'}, percent(value)));
}

// Arms under one another, with intervals: rows of {name, numbers, href?}.
function barChart(title, rows) {
  return el('figure', {class: 'bars'}, el('figcaption', null, title),
            rows.map(row => el('div', {class: 'barline'},
                row.href ? el('a', {href: row.href}, row.name) : el('span', null, row.name), bar(row.numbers, colour(row.arm ?? row.name), row.name))));
}

function sparkline(values) {
  const numbers = (values ?? []).filter(v => v !== null);
  if (numbers.length < 2) return '';
  const low = Math.min(...numbers), span = Math.max(...numbers) - low || 1;
  return svg('svg', {class: 'spark', viewBox: '0 0 64 18', 'aria-hidden': 'true'},
             svg('polyline', {points: numbers.map((v, i) => `${(i / (numbers.length - 1) * 62 + 1).toFixed(1)},${(16 - (v - low) / span * 14).toFixed(1)}`).join(' ')}));
}

// A value of a parameter along x, the metric along y, a dot a cell: points of {x (text), y, title, href}.
function dotChart(title, points, format) {
  const values = [...new Set(points.map(p => p.x))];
  const numeric = values.every(v => v !== '' && !Number.isNaN(Number(v)));
  values.sort((a, b) => numeric ? a - b : a < b ? -1 : 1);
  const box = el('div', {class: 'plot'});
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width), height = 190, left = 58, bottom = 26, top = 10;
    if (width < 60) return;
    const ys = points.map(p => p.y);
    let low = Math.min(...ys), high = Math.max(...ys);
    if (low === high) [low, high] = [low - .5, high + .5];
    const X = v => left + (values.indexOf(v) + .5) / values.length * (width - left - 10);
    const Y = y => top + (high - y) / (high - low) * (height - top - bottom);
    const picture = svg('svg', {width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': title});
    for (const y of ticks(low, high, 4))
      picture.append(svg('line', {class: 'grid', x1: left, x2: width - 10, y1: Y(y), y2: Y(y)}),
                     svg('text', {class: 'tick right', x: left - 7, y: Y(y) + 4}, format(y)));
    const every = Math.ceil(values.length / Math.max(1, width / 60));
    values.forEach((v, i) => i % every === 0 && picture.append(svg('text', {class: 'tick', x: X(v), y: height - 6}, v.slice(0, 12))));
    for (const p of points)
      picture.append(svg('a', {href: p.href}, svg('circle', {class: 'point soft', cx: X(p.x), cy: Y(p.y), r: 5}, svg('title', null, p.title))));
    box.replaceChildren(picture);
  }).observe(box);
  return el('figure', null, el('figcaption', null, title), box);
}

// A table that a click on a column's head sorts. columns: {title, value(row), cell(row)?, words?};
// `memory` keeps the order while the page is drawn anew.
const orders = new Map();
function sortable(memory, columns, rows, limit = 200) {
  const body = el('tbody'), heads = el('tr'), more = el('p', {class: 'more'});
  let shown = limit;
  const draw = () => {
    const order = orders.get(memory);
    let sorted = rows;
    if (order && columns[order.column]) {
      const value = columns[order.column].value;
      const rank = v => v === null || v === undefined || v === '' ? 2 : typeof v === 'number' ? 0 : 1;
      sorted = [...rows].sort((a, b) => {
        const x = value(a), y = value(b), kinds = rank(x) - rank(y);
        return kinds || (rank(x) === 2 ? 0 : order.way * (x < y ? -1 : x > y ? 1 : 0));
      });
    }
    heads.replaceChildren(...columns.map((column, i) => el('th', {
      class: column.words ? 'words' : null, scope: 'col',
      'aria-sort': order?.column === i ? (order.way > 0 ? 'ascending' : 'descending') : null,
    }, el('button', {type: 'button', onclick: () => {
      const now = orders.get(memory);
      orders.set(memory, {column: i, way: now?.column === i ? -now.way : column.words ? 1 : -1});
      draw();
    }}, column.title))));
    body.replaceChildren(...sorted.slice(0, shown).map(row => el('tr', null, columns.map(column => el('td', {
      class: column.words ? 'words' : null, 'data-title': column.title,
    }, column.cell ? column.cell(row) : plainCell(column.value(row)))))));
    more.replaceChildren(...(sorted.length > shown ? [el('button', {type: 'button', onclick: () => { shown += 500; draw(); }},
        `Show more: ${shown} of ${sorted.length.toLocaleString('en')}`)] : []));
  };
  draw();
  return el('div', {class: 'scroll'}, el('table', null, el('thead', null, heads), body), more);
}
function plainCell(value) {
  return typeof value === 'number' ? plain(value) : value ?? '';
}
