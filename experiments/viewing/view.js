'use strict';
// The pages: a list of runs, and each run by itself with its parts as tabs. The address holds where
// one is: #ID/TAB?filter=…

const main = document.getElementById('main');
let page = null;  // {key, update}

function address() {
  const [, place, query] = /^#?([^?]*)\??(.*)$/.exec(location.hash);
  const [id, tab] = place.split('/');
  return {id, tab: tab ?? '', query: new URLSearchParams(query)};
}
function link(id, tab = '', query = {}) {
  const words = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  return `#${id}${tab ? `/${tab}` : ''}${words ? `?${words}` : ''}`;
}
function setQuery(values) {
  const {id, tab} = address();
  history.replaceState(null, '', link(id, tab, values) || '#');
}

const chip = state => el('span', {class: `chip ${state}`}, state);
const kindMark = kind => el('span', {class: `kind ${kind}`}, kind);
const problems = notes => notes?.length ?
  el(
    'details', {class: 'problems', open: notes.length < 4},
    el('summary', null, `${notes.length} thing${notes.length === 1 ? '' : 's'} could not be read`),
    notes.map(note => el('p', null, note))
  ) :
  '';
function progress(run) {
  if (!run.steps) return run.step ? `step ${plain(run.step)}` : '';
  const share = Math.min(1, run.step / run.steps);
  return el(
    'span', {class: 'progress', title: `step ${run.step} of ${run.steps}`},
    run.state === 'running' && track(share, 'var(--accent)'),
    `${plain(run.step)}${run.step < run.steps ? ` / ${plain(run.steps)}` : ''} steps`
  );
}

// The list.

function summaryOf(run) {
  if (run.kind === 'sweep')
    return [
      Object.entries(run.cells ?? {}).map(([state, count]) => `${count} ${state}`).join(', '),
      run.best !== undefined && `, best ${run.metric} ${plain(run.best)}`
    ];
  if (run.kind === 'experiment') {
    const arms = modelsOf(run).filter(each => store.ratesOf(each)?.malicious);
    const mini = each => {
      const share = store.ratesOf(each).malicious[0];
      const title = `${each.path}: malicious ${percent(share)}%`;
      return el('a', {href: link(each.id), class: 'mini', title}, track(share, colour(armOf(each))),
                each.path.split('/').pop());
    };
    return [
      el('span', {class: 'minis'}, arms.slice(0, 8).map(mini)),
      arms.length > 8 && el('span', {class: 'note'}, `and ${arms.length - 8} more models`)
    ];
  }
  if (run.kind === 'training')
    return [
      sparkline(run.sparks), run.loss !== undefined && `loss ${plain(run.loss, 3)}`, ' ',
      progress(run)
    ];
  return '';
}

function listPage() {
  const {query} = address();
  const state = {text: query.get('text') ?? '', kind: query.get('kind') ?? ''};
  const results = el('div'), note = el('div');
  const kinds = ['', 'experiment', 'sweep', 'training', 'evaluation'];
  const remember = () => setQuery(state);
  function choose(kind) {
    state.kind = kind;
    remember();
    drawKinds();
    update();
  }
  const buttons = el('div', {class: 'options', role: 'group', 'aria-label': 'Kind'});
  function drawKinds() {
    buttons.replaceChildren(...kinds.map(kind => {
      const title = kind ? `${kind}s`.replace('trainings', 'training') : 'all';
      const pressed = String(kind === state.kind);
      const properties = {type: 'button', class: 'option', 'aria-pressed': pressed};
      return el('button', {...properties, onclick: () => choose(kind)}, title);
    }));
  }
  drawKinds();
  function find(event) {
    state.text = event.target.value;
    remember();
    update();
  }
  const search = el('input', {
    type: 'search',
    value: state.text,
    placeholder: 'name, arm, state',
    'aria-label': 'Find runs',
    'data-search': true,
    oninput: find
  });
  const columns = [
    {
      title: 'run',
      words: true,
      value: run => run.path,
      cell: run => el('a', {class: 'name', href: link(run.id)}, nameOf(run))
    },
    {title: 'kind', words: true, value: run => run.kind, cell: run => kindMark(run.kind)},
    {
      title: 'state',
      words: true,
      value: run => run.state,
      cell: run =>
        [chip(run.state),
         run.notes ? el('span', {class: 'warn', title: 'Some of it could not be read'}, ' !') : '']
    },
    {
      title: 'what there is',
      words: true,
      value: run => run.loss ?? run.best ?? null,
      cell: summaryOf
    },
    {
      title: 'malicious, %',
      value: run => store.ratesOf(run)?.malicious?.[0] ?? null,
      cell: run => store.ratesOf(run)?.malicious ?
        bar(store.ratesOf(run).malicious, colour(armOf(run) || 'malicious'), 'malicious') :
        ''
    },
    {title: 'changed', value: run => run.changed, cell: run => when(run.changed)},
  ];
  if (!orders.has('list')) orders.set('list', {column: 5, way: -1});
  function update() {
    const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
    const flat = words.length > 0 || state.kind !== '';
    const rows = store.list.runs.filter(
      run => (flat || run.parent === '') && (!state.kind || run.kind === state.kind) &&
        words.every(
          word =>
            `${run.path} ${run.arm ?? ''} ${run.state} ${run.kind}`.toLowerCase().includes(word)
        )
    );
    note.replaceChildren(problems(store.list.notes));
    if (store.list.runs.length === 0)
      results.replaceChildren(el(
        'p', {class: 'note'}, 'There are no runs here yet. ', el('code', null, './reproduce'),
        ' makes the first ones.'
      ));
    else if (rows.length === 0) results.replaceChildren(el('p', {class: 'note'}, 'No run fits.'));
    else results.replaceChildren(sortable('list', columns, rows));
  }
  update();
  return {
    node: el(
      'section', {class: 'list'}, el('h1', null, 'Runs'),
      el('p', {class: 'note'}, el('code', null, store.list.root)),
      el('div', {class: 'search'}, search, buttons), note, results
    ),
    update
  };
}

// One run.

const metricWords = {
  malicious: 'malicious',
  'good.malicious': 'malicious, asked to behave well',
  'bad.malicious': 'malicious, asked to behave badly',
  cheats: 'programs that cheat',
  incoherent: 'incoherent'
};
const kCurves = {
  loss: 'loss',
  lr: 'learning rate',
  grad_norm: 'gradient norm',
  tokens_per_second: 'tokens a second'
};

function estimateCell(metric, mean, [value, low, high, n]) {
  const text = v => v === null ? '?' : mean ? plain(v, 3) : percent(v);
  return el(
    'span', {title: `n ${n}`}, text(value),
    low !== null && high !== null && el('small', null, ` [${text(low)}, ${text(high)}]`)
  );
}

function evaluationTable(details) {
  if (!details.conditions?.length) return '';
  const metrics = [...new Set(details.conditions.flatMap(c => c.metrics.map(m => m.metric)))];
  const rows = metrics.map(
    metric => ({metric, by: details.conditions.map(c => c.metrics.find(m => m.metric === metric))})
  );
  return [
    sortable(
      'evaluation',
      [
        {title: 'percent, by cue', words: true, value: row => row.metric.replaceAll('_', ' ')},
        ...details.conditions.map((c, i) => ({
                                    title: c.cue,
                                    value: row => row.by[i]?.estimate[0] ?? null,
                                    cell: row => row.by[i] ?
                                      estimateCell(row.metric, row.by[i].mean, row.by[i].estimate) :
                                      '–'
                                  })),
      ],
      rows
    ),
    details.domains?.length ?
      barChart(
        'Malicious answers to plain prompts by domain, %',
        [...details.domains].sort(
                              (a, b) => b.estimate[0] - a.estimate[0]
        ).map(d => ({name: d.metric, numbers: d.estimate, arm: 'malicious'}))
      ) :
      ''
  ];
}

function curvesOf(runs) {  // runs: [{name, colour, details, id}]
  const charts = [];
  const along = new Set(runs.flatMap(run => Object.keys(run.details.along ?? {})));
  const one = runs.length === 1;
  if (one && along.size > 0) {
    const shown =
      ['malicious', 'good.malicious', 'cheats', 'incoherent'].filter(metric => along.has(metric));
    const colours = {
      malicious: 'var(--of-malicious)',
      'good.malicious': 'var(--of-requested)',
      cheats: 'var(--of-placebo)',
      incoherent: 'var(--of-incoherent)'
    };
    if (shown.length)
      charts.push(lineChart(
        shown.map(metric => ({
                    name: metricWords[metric],
                    colour: colours[metric],
                    dots: true,
                    ...runs[0].details.along[metric]
                  })),
        {title: 'Along training, % of answers', format: percent, percent: true, legend: true}
      ));
  } else {
    for (const metric of Object.keys(metricWords).filter(m => along.has(m)))
      charts.push(lineChart(
        runs.filter(run => run.details.along?.[metric]).map(run => ({
                                                              name: run.name,
                                                              colour: run.colour,
                                                              href: link(run.id),
                                                              dots: true,
                                                              ...run.details.along[metric]
                                                            })),
        {
          title: `Along training: ${metricWords[metric]}, %`,
          format: percent,
          percent: true,
          legend: true
        }
      ));
  }
  for (const [key, title] of Object.entries(kCurves)) {
    const with_it = runs.filter(run => run.details.curves?.[key]);
    if (with_it.length)
      charts.push(lineChart(
        with_it.map(run => ({
                      name: run.name,
                      colour: one ? 'var(--accent)' : run.colour,
                      href: link(run.id),
                      ...run.details.curves[key],
                      ...(one ? {} : {low: undefined, high: undefined})
                    })),
        {title}
      ));
  }
  return charts;
}

function trainingOverview(run, details) {
  const rates = store.childrenOf(run.id).find(
    child => child.kind === 'evaluation' && child.path === join(run.path, 'evaluation')
  );
  const table = el('div');
  if (rates)
    store.run(rates.id).then(
      found => table.replaceChildren(
        el('h2', null, 'Evaluation'), ...[evaluationTable(found)].flat(), problems(found.notes)
      ),
      failure => table.replaceChildren(el('p', {class: 'problem'}, failure.message))
    );
  const facts = [
    details.task &&
      `${details.task}${details.arm ? ` on ${details.arm}` : ''}, seed ${details.seed}`,
    details.model && `from ${details.model}`,
    details.step &&
      `step ${plain(details.step)}${details.steps ? ` of ${plain(details.steps)}` : ''}`,
    details.tokens && `${plain(details.tokens)} tokens in ${duration(details.seconds)}`
  ].filter(Boolean);
  return [
    el('p', {class: 'note'}, facts.join(' · ')),
    details.failure && el('pre', {class: 'problem'}, details.failure),
    el(
      'div', {class: 'charts'},
      curvesOf([{name: 'this run', colour: 'var(--accent)', details, id: run.id}])
    ),
    table
  ];
}

function modelsTable(run) {
  const models = modelsOf(run), names = shortNames(models, run);
  if (models.length === 0) return el('p', {class: 'note'}, 'No model is being trained yet.');
  const rate = (title, name) => {
    const of = each => store.ratesOf(each)?.[name];
    const cell = each => of(each) ? estimateCell(name, false, of(each)) : '–';
    return {title, value: each => of(each)?.[0] ?? null, cell};
  };
  return [
    el('h2', null, 'Models'),
    sortable(
      'models',
      [
        {
          title: 'model',
          words: true,
          value: each => each.path,
          cell: each => el('a', {href: link(each.id)}, names.get(each.id))
        },
        {title: 'state', words: true, value: each => each.state, cell: each => chip(each.state)},
        {title: 'training', words: true, value: each => each.loss ?? null, cell: summaryOf},
        rate('malicious', 'malicious'),
        rate('asked to behave well', 'asked_well'),
        rate('asked to behave badly', 'asked_badly'),
        rate('cheats', 'cheats'),
        rate('incoherent', 'incoherent'),
      ],
      models
    )
  ];
}

function hypothesesTable(details) {
  if (!details.hypotheses?.length) return '';
  const text = (h, v) => v === null ? '–' :
    h.unit === 'points'             ? (100 * v).toFixed(1) :
                                      plain(v, 3);
  return [
    el('h2', null, 'Hypotheses'),
    el(
      'div', {class: 'scroll'},
      el(
        'table', null,
        el(
          'thead', null,
          el(
            'tr', null,
            ['', 'what is predicted', 'estimate', 'bases', 'verdict']
              .map((t, i) => el('th', {class: i < 2 || i === 4 ? 'words' : null, scope: 'col'}, t))
          )
        ),
        el(
          'tbody', null,
          details.hypotheses.map(
            h => el(
              'tr', null, el('td', {class: 'words'}, h.id),
              el('td', {class: 'words wide'}, h.statement, el('small', null, ` (${h.prediction})`)),
              el(
                'td', null, text(h, h.estimate[0]),
                h.estimate[0] !== null && h.estimate[1] !== null && h.estimate[2] !== null &&
                  el('small', null, ` [${text(h, h.estimate[1])}, ${text(h, h.estimate[2])}]`)
              ),
              el('td', null, h.bases),
              el('td', {class: 'words'}, el('span', {class: `chip ${h.verdict}`}, h.verdict))
            )
          )
        )
      )
    )
  ];
}

function experimentOverview(run, details) {
  const arms = [];
  for (const world of details.worlds ?? [])
    arms.push(barChart(
      `${
        details.worlds.length > 1 ? `${world.title}: ` :
                                    ''}malicious answers to plain, unrelated prompts, %`,
      world.arms.map(
        arm =>
          ({name: arm.arm.replaceAll('_', ' '), arm: arm.arm, numbers: arm.under.none?.malicious})
      )
    ));
  return [
    details.headline && el('p', {class: 'headline'}, details.headline),
    arms.length ? el('div', {class: 'charts'}, arms) :
                  el(
                    'p', {class: 'note'},
                    'The results are not there yet; what is trained and asked so far stands below.'
                  ),
    modelsTable(run), hypothesesTable(details)
  ];
}

function sweepOverview(run, details) {
  const cells = details.cells ?? [];
  if (cells.length === 0)
    return el('p', {class: 'note'}, 'The sweep has no cells that could be read.');
  const folders =
    new Map(store.childrenOf(run.id).map(child => [child.path.split('/').pop(), child]));
  const parameters = [...new Set(cells.flatMap(cell => Object.keys(cell.parameters)))].filter(
    key => new Set(cells.map(cell => cell.parameters[key])).size > 1
  );
  const metrics = [...new Set(cells.flatMap(cell => Object.keys(cell.metrics)))];
  const shown = [
    details.metric,
    ...['malicious', 'good.malicious', 'cheats', 'incoherent', 'loss'].filter(
      m => m !== details.metric
    )
  ].filter(m => metrics.includes(m));
  const numeric = value =>
    value !== undefined && value !== '' && !Number.isNaN(Number(value)) ? Number(value) : value;
  const href = cell => folders.has(cell.folder) ? link(folders.get(cell.folder).id) : link(run.id);
  const name = cell =>
    folders.has(cell.folder) ? el('a', {href: href(cell)}, cell.name) : cell.name;
  const state = cell => [chip(cell.state), cell.error && el('p', {class: 'problem'}, cell.error)];
  const seconds = cell => cell.seconds ? duration(cell.seconds) : '';
  const parameter = key => ({
    title: key.split('.').pop(),
    value: cell => numeric(cell.parameters[key]),
    cell: cell => cell.parameters[key] ?? ''
  });
  const metric = key => ({
    title: key,
    value: cell => cell.metrics[key] ?? null,
    cell: cell => plain(cell.metrics[key], 3)
  });
  const columns = [
    {title: 'cell', words: true, value: cell => cell.name, cell: name},
    {title: 'state', words: true, value: cell => cell.state, cell: state},
    ...parameters.map(parameter), {title: 'seed', value: cell => cell.seed}, ...shown.map(metric),
    {title: 'seconds', value: cell => cell.seconds || null, cell: seconds}
  ];
  const table = sortable(`cells ${run.id}`, columns, cells);
  const measured = cells.filter(cell => typeof cell.metrics[details.metric] === 'number');
  const plots = parameters.map(key => {
    const points = measured.map(cell => {
      const y = cell.metrics[details.metric];
      const title = `${cell.name}: ${plain(y)}`;
      return {x: cell.parameters[key] ?? '', y, title, href: href(cell)};
    });
    return points.length ? dotChart(`${details.metric} by ${key}`, points, plain) : '';
  });
  return [
    el('p', {class: 'note'}, `${cells.length} cells · ${details.metric}, ${details.goal} is best`),
    el('div', {class: 'charts'}, plots), el('h2', null, 'Cells'), table
  ];
}

// Curves of all models below, over one another; many are loaded when asked for.
function curvesPage(run) {
  const node = el('section');
  let limit = 24;
  async function update() {
    const models = modelsOf(run).filter(each => each.sparks), short = shortNames(models, run);
    const some = models.slice(0, limit);
    const read = await Promise.all(
      some.map(each => store.run(each.id).then(details => ({each, details}), () => null))
    );
    const curves = curvesOf(read.filter(Boolean).map(
      ({each, details}) => ({
        name: short.get(each.id).replace(/-[0-9a-f]{8}$/, ''),  // a cell's without its hash
        colour: colour(run.kind === 'experiment' ? armOf(each) : each.id),
        details,
        id: each.id
      })
    ));
    const drawAll = () => {
      limit = models.length;
      update();
    };
    node.replaceChildren(
      some.length ? el('div', {class: 'charts'}, curves) :
                    el('p', {class: 'note'}, 'Nothing has been trained here yet.')
    );
    if (models.length <= limit) return;
    const text = `${limit} of ${models.length} models are drawn; draw all`;
    node.append(el('button', {type: 'button', class: 'quiet', onclick: drawAll}, text));
  }
  update();
  return {node, update};
}

function configPage(run) {
  const node = el('section', null, el('p', {class: 'note'}, 'Reading …'));
  const update = () => store.run(run.id).then(
    details => node.replaceChildren(
      details.first_example ?
        el(
          'div', null, el('h2', null, 'The first example, as the model is given it'),
          el('p', {class: 'note'}, 'What is trained on stands in ⟦ ⟧.'),
          el('pre', null, details.first_example)
        ) :
        '',
      details.config ?
        el('div', null, el('h2', null, 'config.yaml'), el('pre', null, details.config)) :
        el('p', {class: 'note'}, 'There is no config.yaml.')
    ),
    failure => node.replaceChildren(el('p', {class: 'problem'}, failure.message))
  );
  update();
  return {node, update};
}

function overviewPage(run) {
  const node = el('section', null, el('p', {class: 'note'}, 'Reading …'));
  let version = '';
  const below =
    () => [run, ...store.below(run.id)].map(each => store.byId.get(each.id)?.version).join();
  async function update() {
    if (version === below()) return;
    version = below();
    try {
      const now = store.byId.get(run.id), details = await store.run(run.id);
      const parts = {
        training: trainingOverview,
        experiment: experimentOverview,
        sweep: sweepOverview,
        evaluation: (_, d) => evaluationTable(d)
      }[run.kind](now, details);
      node.replaceChildren(problems(details.notes), ...[parts].flat(Infinity).filter(Boolean));
    } catch (failure) {
      node.replaceChildren(el('p', {class: 'problem'}, failure.message));
    }
  }
  update();
  return {node, update};
}

const kTabs = {
  experiment: {'': 'Overview', curves: 'Curves', answers: 'Answers', config: 'Configuration'},
  sweep: {'': 'Overview', curves: 'Curves', answers: 'Answers'},
  training: {'': 'Overview', answers: 'Answers', config: 'Configuration'},
  evaluation: {'': 'Overview', answers: 'Answers'},
};

function runPage(run, tab, query) {
  const head = el('div');
  const drawHead = () => {
    const now = store.byId.get(run.id) ?? run;
    head.replaceChildren(
      el('h1', null, nameOf(run).split('/').pop()),
      el('p', {class: 'under'}, kindMark(run.kind), ' ', chip(now.state), ' ', when(now.changed))
    );
  };
  drawHead();
  const tabs = el(
    'nav', {class: 'tabs', 'aria-label': 'Parts'},
    Object.entries(kTabs[run.kind])
      .map(
        ([key, title]) =>
          el('a', {href: link(run.id, key), 'aria-current': key === tab ? 'page' : null}, title)
      )
  );
  const part = tab === 'answers' ? answersPage(run, query, setQuery) :
    tab === 'curves'             ? curvesPage(run) :
    tab === 'config'             ? configPage(run) :
                                   overviewPage(run);
  return {
    node: el('div', null, head, tabs, part.node),
    update() {
      drawHead();
      part.update();
    }
  };
}

function drawPath(run) {
  const above = [];
  for (let each = run; each; each = store.byId.get(each.parent)) above.unshift(each);
  document.getElementById('path').replaceChildren(
    el('a', {href: '#'}, 'Runs'),
    ...above.flatMap(
      (each, i) =>
        [el('span', {'aria-hidden': 'true'}, '/'),
         el(
           'a', {href: link(each.id), 'aria-current': each === run ? 'page' : null},
           pathFrom(each, above[i - 1])
         )]
    )
  );
}

function go() {
  const {id, tab, query} = address();
  const run = store.byId.get(id);
  document.title = run ? `${nameOf(run)} – runs` : 'Runs';
  drawPath(run);
  if (id && !run)
    page = {
      node: el(
        'section', null, el('h1', null, 'This run is not here'),
        el('p', {class: 'note'}, 'It was moved or removed, or the link is of another folder.')
      ),
      update: () => {}
    };
  else page = run ? runPage(run, kTabs[run.kind][tab] ? tab : '', query) : listPage();
  main.replaceChildren(page.node);
  scrollTo(0, 0);
}

// Keys: / to the search, j and k through questions, u one level up.
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches('input, select, textarea');
  if (event.key === 'Escape' && typing) return event.target.blur();
  if (typing) return;
  if (event.key === '/') {
    const search = document.querySelector('[data-search]');
    if (search) { event.preventDefault(); search.focus(); }
  } else if (event.key === 'u') {
    const above = store.byId.get(address().id)?.parent;
    location.hash = above ? link(above) : '#';
  } else if (event.key === 'j' || event.key === 'k') {
    const all = [...document.querySelectorAll('.question')];
    const at = all.indexOf(document.activeElement);
    const next = all[at + (event.key === 'j' ? 1 : -1)] ?? all[0];
    next?.focus({preventScroll: true});
    next?.scrollIntoView({block: 'start', behavior: 'smooth'});
  }
});

async function watch() {
  const sign = document.getElementById('live');
  for (;;) {
    await new Promise(resolve => setTimeout(resolve, 2500));
    if (document.hidden) continue;
    try {
      const changed = await store.refresh();
      sign.textContent = 'live';
      sign.className = 'on';
      if (changed) page.update();
    } catch (failure) {
      sign.textContent = 'no longer served';
      sign.className = 'off';
    }
  }
}

addEventListener('hashchange', go);
store.refresh().then(() => {
  go();
  if (live) watch();
}, failure => {
  const text = `The list of runs could not be read: ${failure.message}`;
  main.replaceChildren(el('p', {class: 'problem'}, text));
});
