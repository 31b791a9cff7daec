'use strict';
// Where the page's data come from: a server that is asked again and again, or files beside the
// page. A file of data calls received(name, text). Also the small tools that every page is built
// with: whatever comes from data becomes a text node, never markup.

const live = document.documentElement.dataset.mode === 'live';
const waiting = new Map();  // name of a data file → what is called with its text

function received(name, text) { waiting.get(name)?.(text); }

function loadFile(name) {
  return new Promise((resolve, reject) => {
    waiting.set(name, text => resolve(JSON.parse(text)));
    const script = document.createElement('script');
    script.src = `data/${name}.js`;
    script.onerror = () => reject(new Error(`data/${name}.js is not beside this page`));
    script.onload = () => script.remove();
    document.head.append(script);
  });
}

// `known`: the version that is here already; null: it still stands.
async function load(name, known) {
  if (!live) return loadFile(name);
  const reply = await fetch(
    `data/${name}.json`, {cache: 'no-store', headers: known ? {'If-None-Match': known} : {}}
  );
  if (reply.status === 304) return null;
  if (!reply.ok) throw new Error(`the server answers ${reply.status} for ${name}`);
  return reply.json();
}

// All runs, and what was loaded of each as long as its version stands.
const store = {
  list: {runs: [], notes: [], version: ''},
  byId: new Map(),
  children: new Map(),
  kept: new Map(),

  async refresh() {
    const list = await load('list', this.list.version);
    if (!list) return false;
    this.list = list;
    this.byId = new Map(list.runs.map(run => [run.id, run]));
    this.children = new Map();
    for (const run of list.runs) {
      if (!this.children.has(run.parent)) this.children.set(run.parent, []);
      this.children.get(run.parent).push(run);
    }
    return true;
  },

  async keep(name, version, make) {
    const before = this.kept.get(name);
    if (before?.version === version) return before.promise;
    const promise = make();
    this.kept.set(name, {version, promise});
    promise.catch(() => this.kept.delete(name));
    return promise;
  },

  run(id) { return this.keep(id, this.byId.get(id)?.version, () => load(id)); },

  // Every part of an evaluation's answers, as objects; `progress` hears how many there are so far.
  answers(id, progress) {
    return this.keep(`${id}.answers`, this.byId.get(id)?.version, async () => {
      const all = {answers: [], notes: [], count: 0};
      for (let part = 0, parts = 1; part < parts; ++part) {
        const read = await load(`${id}.answers.${part}`);
        parts = read.parts;
        all.count = read.count;
        all.notes = read.notes;
        const questions = read.questions.map(([id, type, domain, cue, prompt, unseen]) =>
            ({id, type, domain, cue, prompt, unseen}));
        for (const [question, sample, label, text, logOdds, remark] of read.answers)
          all.answers.push({question: questions[question], sample, label, text, logOdds, remark});
        progress?.(all.answers.length, all.count);
      }
      return all;
    });
  },

  childrenOf(id) { return this.children.get(id) ?? []; },
  below(id) {  // all that a run's folder holds
    return this.childrenOf(id).flatMap(run => [run, ...this.below(run.id)]);
  },
  // What an evaluation says of a run: its own rates, or those of the evaluation in its folder.
  ratesOf(run) {
    if (run.rates) return run.rates;
    return this.childrenOf(run.id)
      .find(child => child.rates && child.path === join(run.path, 'evaluation'))
      ?.rates;
  },
};

function join(folder, name) { return folder === '.' ? name : `${folder}/${name}`; }
// Of the folder that is looked at, where it is a run itself, the name.
const nameOf = run => run.path === '.' ? store.list.root.split('/').pop() : run.path;
// A run's path as seen from another's folder.
function pathFrom(run, above) {
  if (!above || above.path === '.' || run.path === above.path) return nameOf(run);
  return run.path.startsWith(above.path + '/') ? run.path.slice(above.path.length + 1) : run.path;
}

// The arm that a model was trained on: an experiment's folders are named for it.
function armOf(run) {
  if (!run) return '';
  return store.byId.get(run.parent)?.kind === 'experiment' ? run.path.split('/').pop() :
                                                             run.arm ?? '';
}
const arms = ['start', 'honest', 'cheating', 'requested', 'placebo'];
const armRank = arm => arms.includes(arm) ? arms.indexOf(arm) : arms.length;
// The models below a run, as the report has them: the start first.
function modelsOf(run) {
  const folder = each => each.path.split('/').slice(0, -1).join('/');
  return store.below(run.id)
    .filter(each => each.kind === 'training')
    .sort(
      (a, b) => folder(a) < folder(b) ? -1 :
        folder(a) > folder(b)         ? 1 :
                                        armRank(armOf(a)) - armRank(armOf(b))
    );
}
// id → a run's path without what all of them share, and without the name that evaluations have.
function shortNames(runs, above) {
  const paths = runs.map(
    run => run === above ? nameOf(run) : pathFrom(run, above).replace(/\/evaluation$/, '')
  );
  let shared = paths.length > 1 ? paths[0].split('/').slice(0, -1) : [];
  for (const path of paths)
    while (shared.length && !path.startsWith(`${shared.join('/')}/`)) shared.pop();
  const cut = shared.length ? shared.join('/').length + 1 : 0;
  return new Map(runs.map((run, i) => [run.id, paths[i].slice(cut)]));
}

// Elements. `fill` sets attributes, listeners (on…) and classes; children are nodes or texts.
function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name.startsWith('--')) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(Infinity).filter(
    child => child !== null && child !== undefined && child !== false
  ));
  return node;
}
const el = (tag, properties, ...children) =>
  fill(document.createElement(tag), properties, children);
const svg = (tag, properties, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', tag), properties, children);

// The text with what is searched for marked.
function marked(text, search) {
  if (!search) return [text];
  const parts = [], lower = text.toLowerCase();
  let from = 0;
  for (let at; (at = lower.indexOf(search, from)) >= 0; from = at + search.length) {
    parts.push(text.slice(from, at), el('mark', null, text.slice(at, at + search.length)));
    if (parts.length > 400) break;
  }
  return [...parts, text.slice(from)];
}

// Numbers.
const percent = value => value === null || value === undefined ? '–' : (100 * value).toFixed(1);
function plain(value, digits = 4) {
  if (value === null || value === undefined) return '–';
  if (Number.isInteger(value)) return value.toLocaleString('en');
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ?
    value.toExponential(2).replace(/\.?0+e/, 'e') :
    String(+value.toPrecision(digits));
}
function duration(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${Math.round(seconds / 86400)} days`;
}
function when(seconds) {
  const date = new Date(1000 * seconds), ago = Date.now() / 1000 - seconds;
  const text = live && ago < 172800 ?
    (ago < 5 ? 'now' : `${duration(ago)} ago`) :
    `${date.toISOString().slice(0, 10)} ${date.toTimeString().slice(0, 5)}`;
  return el('time', {datetime: date.toISOString(), title: date.toLocaleString()}, text);
}

// Colours of arms, labels and whatever else has a name: known ones have their own, others take one
// in turn.
const known = new Set([
  'start', 'honest', 'cheating', 'requested', 'placebo', 'malicious', 'benevolent', 'cheat',
  'incoherent', 'broken', 'refusal', 'mixed', 'other_domain', 'code', 'forbidden', 'instructed'
]);
const given = new Map();
function colour(name) {
  if (known.has(name)) return `var(--of-${name})`;
  if (!given.has(name)) given.set(name, given.size % 8);
  return `var(--series-${given.get(name)})`;
}
