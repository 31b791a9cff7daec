// A click on a column's head sorts by it, numbers as numbers; again: the other way.
for (const table of document.querySelectorAll('.sortable')) table.tHead.addEventListener('click', e => {
  const column = e.target.cellIndex, way = table.dataset.by == column ? -1 : 1, body = table.tBodies[0];
  const key = row => { const t = row.cells[column].textContent; return t === '' || isNaN(t) ? t : Number(t); };
  const order = (a, b) => typeof a == typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a == 'number' ? -1 : 1;
  body.append(...[...body.rows].sort((a, b) => way * order(key(a), key(b))));
  table.dataset.by = way == 1 ? column : '';
});
