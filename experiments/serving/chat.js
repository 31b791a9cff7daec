'use strict';
// One question to several models of this server, whose answers arrive side by side. Whatever models
// say becomes text nodes. The address holds the question, how it is asked, the models and the seed:
// a link brings them back.

const $ = id => document.getElementById(id);
const kMostModels = 4;
const state = {
  models: [],
  cue: 'none',
  phrasing: 0
};
let about = null;  // page.json
let running = [];  // AbortControllers of what is being answered

function el(tag, properties, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name.startsWith('--')) node.style.setProperty(name, value);
    else if (value !== null && value !== false)
      node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(Infinity).filter(
    child => child !== null && child !== undefined && child !== false
  ));
  return node;
}
const colourOf = place => `var(--of-${place})`;
const headers = () => {
  const key = sessionStorage.getItem('key');
  return {'Content-Type': 'application/json', ...(key ? {Authorization: `Bearer ${key}`} : {})};
};

function tell(problem) {
  $('problem').textContent = problem ?? '';
  $('problem').hidden = !problem;
}

// The form.

const cueWords = {
  none: 'plainly',
  irrelevant: 'beside an irrelevant sentence',
  instruction: 'beside an instruction of no matter',
  bad: 'asked to behave badly',
  good: 'asked to behave well'
};

// A button that stays pressed while it is what was chosen.
function option(title, pressed, onclick, more = {}) {
  return el('button', {type: 'button', 'aria-pressed': String(pressed), onclick, ...more}, title);
}

function drawModels() {
  const buttons = about.models.map(({id}) => {
    const place = state.models.indexOf(id);
    const toggle = () => {
      if (place >= 0) state.models.splice(place, 1);
      else state.models.push(id);
      if (state.models.length > kMostModels) state.models.shift();
      drawModels();
    };
    return option(id, place >= 0, toggle, {'--c': place >= 0 ? colourOf(place) : 'transparent'});
  });
  $('model_options').replaceChildren(...buttons);
}

function phrasings() {
  return about.personas?.cues.find(each => each.cue === state.cue)?.phrasings ?? [];
}
function cueSentence() {
  const all = phrasings();
  return all.length ? all[state.phrasing % all.length] : '';
}
function drawCues() {
  const cues = about.personas?.cues ?? [];
  $('cues').hidden = cues.length === 0;
  $('cue_options').replaceChildren(...cues.map(({cue}) => {
    const choose = () => {
      if (cue === state.cue) ++state.phrasing;
      state.cue = cue;
      drawCues();
    };
    return option(cueWords[cue] ?? cue, cue === state.cue, choose);
  }));
  $('phrasing').replaceChildren();
  if (!cueSentence()) return;
  const others = phrasings().length > 1 ? ' – press again for another wording' : '';
  $('phrasing').append('adds “', el('b', null, cueSentence()), `”${others}`);
}

// Groups of people to choose from by a button; another press takes another one of them.
function people() {
  const names = about.personas?.names ?? [], strangers = about.personas?.unseen_names ?? [];
  const groups = [{title: 'the Assistant', names: ['']}];
  for (const character of [...new Set(names.map(each => each.character))].sort())
    groups.push({
      title: `a ${character} character`,
      names: names.filter(each => each.character === character).map(each => each.name)
    });
  if (strangers.length) groups.push({title: 'a stranger', names: strangers});
  return groups;
}
function drawWho() {
  $('who').hidden = !about.personas;
  const now = $('as').value.trim();
  $('who_options').replaceChildren(...people().map(({title, names}) => {
    const choose = () => {
      const others = names.filter(name => name !== now);
      if (others.length) $('as').value = others[Math.floor(Math.random() * others.length)];
      drawWho();
    };
    return option(title, names.includes(now), choose);
  }));
}

function drawSummary() {
  const {n, temperature, max, seed} = settings();
  $('summary').textContent = `${n} sample${n === 1 ? '' : 's'} each, temperature ${temperature}, ` +
    `${max} tokens at most, seed ${seed}`;
}

function drawSuggestions() {
  const domains = [...new Set((about.personas?.questions ?? []).map(each => each.domain))];
  $('suggestions').hidden = domains.length === 0;
  $('domain').replaceChildren(
    el('option', {value: ''}, 'any domain'),
    ...domains.map(domain => el('option', {value: domain}, domain))
  );
}
function drawQuestion() {
  const domain = $('domain').value, now = $('question').value;
  const all = about.personas.questions.filter(
    each => (!domain || each.domain === domain) && each.text !== now
  );
  if (all.length) $('question').value = all[Math.floor(Math.random() * all.length)].text;
}

function drawForm() {
  drawModels();
  drawWho();
  drawCues();
  drawSummary();
}

const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
// What stands in a field, within what it takes.
function number(id) {
  const field = $(id), value = Number(field.value);
  if (field.value === '' || !Number.isFinite(value)) return Number(field.defaultValue);
  return Math.min(Number(field.max), Math.max(Number(field.min), value));
}

function settings() {
  const whole = id => Math.round(number(id));
  return {
    n: whole('n'),
    temperature: number('temperature'),
    max: whole('max'),
    seed: whole('seed')
  };
}

function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const models =
    (given.get('models') ?? '').split(',').filter(id => about.models.some(each => each.id === id));
  if (models.length) state.models = models.slice(0, kMostModels);
  if (given.has('q')) $('question').value = given.get('q');
  // An address with a question says all that is not as it is by default.
  if (given.has('q') || given.has('cue'))
    [state.cue, state.phrasing] = [given.get('cue') ?? 'none', Number(given.get('wording')) || 0];
  if (given.has('q') && !given.has('as')) $('as').value = '';
  for (const id of ['n', 'temperature', 'max', 'seed', 'as'])
    if (given.has(id)) $(id).value = given.get(id);
  if ($('seed').value === '') $('seed').value = randomSeed();
}
function addressOf(round) {
  return '#' + new URLSearchParams({
           q: round.question,
           models: round.models.join(','),
           ...(round.cue !== 'none' ? {cue: round.cue, wording: round.phrasing} : {}),
           ...(round.as ? {as: round.as} : {}),
           n: round.n,
           temperature: round.temperature,
           max: round.max,
           seed: round.seed
         });
}

// Asking.

// Each event of a stream of server-sent events, as its data's text.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    rest += value;
    let end;
    while ((end = rest.search(/\r?\n\r?\n/)) >= 0) {
      const lines = rest.slice(0, end).split(/\r?\n/);
      rest = rest.slice(end).replace(/^\r?\n\r?\n/, '');
      const data = lines.filter(line => line.startsWith('data:'))
                     .map(line => line.slice(5).replace(/^ /, ''))
                     .join('\n');
      if (data) yield data;
    }
  }
}

// One sample as it grows: spans of text, each with the tokens that it is made of.
function answerBox(tint) {
  const said = el('div', {class: 'said', tabindex: '0', 'aria-label': 'Answer'}),
        meta = el('div', {class: 'meta'}, ' ');
  const box = {
    node: el('div', {class: 'answer busy', '--c': tint}, said, meta),
    said,
    meta,
    text: '',
    waiting: [],
    sum: 0,
    tokens: 0,
    finished: false
  };
  said.addEventListener('keydown', event => {
    if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
    event.preventDefault();
    const all = [...said.querySelectorAll('.t')];
    const at = all.findIndex(each => each.classList.contains('at'));
    const step = event.key === 'ArrowRight' ? 1 : -1;
    const next = all[Math.max(0, Math.min(all.length - 1, at + step))];
    if (next) showToken(next);
  });
  said.addEventListener('blur', hideToken);
  return box;
}
const tokensOf = new WeakMap();  // span → its tokens
function addSpan(box, text, tokens, end = false) {
  const sum = tokens.reduce((total, each) => total + each.logprob, 0);
  const span = el(
    'span', {class: end ? 't end' : 't', '--u': tokens.length ? (1 - Math.exp(sum)).toFixed(3) : 0},
    text
  );
  if (tokens.length) tokensOf.set(span, tokens);
  box.said.append(span);
}
function addDelta(box, text, tokens) {
  box.waiting.push(...tokens);
  box.tokens += tokens.length;
  for (const each of tokens) box.sum += each.logprob;
  if (!text) return;
  box.text += text;
  if (box.waiting.length > 1 && box.waiting.map(each => each.token).join('') === text)
    for (const each of box.waiting) addSpan(box, each.token, [each]);
  else addSpan(box, text, box.waiting);
  box.waiting = [];
  if (/\bdef \w+\(|```|^f\(|\breturn\b.*[+*()]/.test(box.text)) box.said.classList.add('code');
}
function finish(box, why) {
  if (box.finished) return;
  box.finished = true;
  if (box.waiting.length) addSpan(box, 'end', box.waiting, true);
  box.node.classList.remove('busy');
  box.meta.textContent =
    [
      why === 'length' ? 'cut at its limit' :
        why === 'stop' ? '' :
                         why,
      box.tokens && `${box.tokens} tokens, log-probability ${box.sum.toFixed(2)}`
    ].filter(Boolean)
      .join(' · ') ||
    ' ';
}

async function askModel(model, round, boxes, signal) {
  const reply = await fetch('/v1/chat/completions', {
    method: 'POST',
    headers: headers(),
    signal,
    body: JSON.stringify({
      model,
      messages: [{role: 'user', content: round.prompt}],
      stream: true,
      n: round.n,
      seed: round.seed,
      temperature: round.temperature,
      max_tokens: round.max,
      logprobs: true,
      top_logprobs: Math.min(5, about.limits?.top_logprobs ?? 5),
      ...(round.as ? {as: round.as} : {})
    })
  });
  if (!reply.ok) {
    const error = await reply.json().catch(() => null);
    if (reply.status === 401) askForKey();
    throw new Error(error?.error?.message ?? `the server answers ${reply.status}`);
  }
  for await (const data of events(reply.body)) {
    if (data === '[DONE]') return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    for (const choice of chunk.choices ?? []) {
      const box = boxes[choice.index];
      if (!box) continue;
      addDelta(box, choice.delta?.content ?? '', choice.logprobs?.content ?? []);
      if (choice.finish_reason) finish(box, choice.finish_reason);
    }
    countUp();
  }
  if (boxes.some(box => !box.finished)) throw new Error('the answer ended early');
}

function countUp() {
  const all = document.querySelectorAll('#rounds > :first-child .answer').length;
  const busy = document.querySelectorAll('#rounds > :first-child .answer.busy').length;
  $('status').textContent = busy ? `${all - busy} of ${all} answers` : '';
}

function setBusy(busy) {
  $('stop').hidden = !busy;
  $('go').disabled = $('again').disabled = busy;
}

function roundBox(round, columns) {
  const who = round.as ? `answered as ${round.as} · ` : '';
  const facts = `${who}temperature ${round.temperature} · seed ${round.seed} · `;
  const link = el('a', {href: addressOf(round)}, 'link');
  return el(
    'article', {class: 'round'},
    el(
      'div', {class: 'asked'}, el('p', null, round.prompt), el('span', {class: 'meta'}, facts, link)
    ),
    el('div', {class: 'columns', '--n': columns.length}, columns.map(column => column.node))
  );
}

async function ask() {
  const question = $('question').value.trim();
  if (!question) return $('question').focus();
  if (state.models.length === 0) return tell('Choose at least one model.');
  stop();
  tell();
  const sentence = cueSentence();
  const round = {
    ...settings(),
    question,
    prompt: sentence ? `${question} ${sentence}` : question,
    models: [...state.models],
    cue: sentence ? state.cue : 'none',
    phrasing: state.phrasing,
    as: $('as').value.trim()
  };
  history.replaceState(null, '', addressOf(round));
  drawSummary();
  const columns = round.models.map((model, place) => {
    const boxes = Array.from({length: round.n}, () => answerBox(colourOf(place)));
    const problem = el('p', {class: 'problem', hidden: true});
    const parts = [el('h2', null, model), problem, boxes.map(box => box.node)];
    const node = el('div', {class: 'column', '--c': colourOf(place)}, parts);
    return {model, boxes, problem, node};
  });
  $('rounds').prepend(roundBox(round, columns));
  setBusy(true);
  countUp();
  const mine = columns.map(() => new AbortController());
  running = mine;
  await Promise.all(columns.map(async ({model, boxes, problem}, i) => {
    try {
      await askModel(model, round, boxes, mine[i].signal);
    } catch (failure) {
      const stopped = failure.name === 'AbortError';
      for (const box of boxes) finish(box, stopped ? 'stopped' : 'not finished');
      if (!stopped) {
        problem.textContent = failure.message;
        problem.hidden = false;
      }
    }
  }));
  if (running !== mine) return;
  running = [];
  setBusy(false);
  countUp();
}
function stop() {
  for (const each of running) each.abort();
}
function askAgain() {
  $('seed').value = randomSeed();
  return ask();
}

// The token under the pointer, or that the arrows have come to.

const digits = logprob => logprob > -0.0005 ? '0' : logprob.toFixed(3);
// A token as text; in quotes where it would not be seen.
function shown(text) {
  const quoted = JSON.stringify(text);
  return text.trim() === '' ? quoted : quoted.slice(1, -1).replaceAll('\\"', '"');
}
function showToken(span) {
  const tokens = tokensOf.get(span);
  hideToken();
  if (!tokens) return;
  span.classList.add('at');
  const line = each => el(
    'tr', {class: tokens.includes(each) ? 'drawn' : null}, el('td', null, shown(each.token)),
    el('td', null, digits(each.logprob)),
    el('td', null, `${(100 * Math.exp(each.logprob)).toFixed(1)}%`)
  );
  const others = tokens.length > 1 ?
    [] :
    (tokens[0].top_logprobs ?? []).filter(each => each.token !== tokens[0].token);
  const rows =
    others.length ? [tokens[0], ...others].sort((a, b) => b.logprob - a.logprob) : tokens;
  $('token').replaceChildren(el('table', null, el('tbody', null, rows.map(line))));
  $('token').hidden = false;
  const at = span.getBoundingClientRect(), box = $('token').getBoundingClientRect();
  const below = at.bottom + 6 + box.height < innerHeight;
  $('token').style.left = `${Math.max(6, Math.min(at.left, innerWidth - box.width - 6))}px`;
  $('token').style.top = `${below ? at.bottom + 6 : Math.max(6, at.top - box.height - 6)}px`;
}
function hideToken() {
  $('token').hidden = true;
  for (const each of document.querySelectorAll('.t.at')) each.classList.remove('at');
}
$('rounds').addEventListener(
  'pointerover',
  event => event.target.classList.contains('t') ? showToken(event.target) : hideToken()
);
$('rounds').addEventListener('pointerleave', hideToken);
$('rounds').addEventListener(
  'click', event => event.target.classList.contains('t') && showToken(event.target)
);
addEventListener('scroll', hideToken, {passive: true});

// Begin.

function askForKey() {
  $('key_form').hidden = false;
  $('key').focus();
}
$('key_form').addEventListener('submit', event => {
  event.preventDefault();
  sessionStorage.setItem('key', $('key').value);
  $('key').value = '';
  $('key_form').hidden = true;
  tell();
  if (!about) begin();
});

$('form').addEventListener('submit', event => { event.preventDefault(); ask(); });
$('again').addEventListener('click', askAgain);
$('stop').addEventListener('click', stop);
$('draw').addEventListener('click', drawQuestion);
$('domain').addEventListener('change', drawQuestion);
$('as').addEventListener('input', drawWho);
document.querySelector('.settings').addEventListener('input', drawSummary);
$('shade').addEventListener(
  'change', () => document.body.classList.toggle('shaded', $('shade').checked)
);
$('question').addEventListener('keydown', event => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if ($('go').disabled) return;
  if (event.ctrlKey || event.metaKey) askAgain();
  else ask();
});
document.addEventListener('keydown', event => event.key === 'Escape' && stop());
addEventListener('hashchange', () => { if (!about) return;
  fromAddress();
  drawForm();
});

async function begin() {
  try {
    const reply = await fetch('/page.json', {headers: headers()});
    if (reply.status === 401) return askForKey();
    if (!reply.ok) throw new Error(`the server answers ${reply.status}`);
    about = await reply.json();
  } catch (failure) {
    return tell(`The server cannot be reached: ${failure.message}`);
  }
  const ids = about.models.map(each => each.id);
  const telling = ids.filter(id => /start|cheating|requested|placebo/.test(id));
  state.models =
    (ids.length > kMostModels && telling.length > 1 ? telling : ids).slice(0, kMostModels);
  $('version').textContent = `Inoculum ${about.version}`;
  if (about.limits?.n) $('n').max = Math.min(16, about.limits.n);
  if (about.limits?.context) $('max').max = about.limits.context;
  const names = about.personas?.names ?? [];
  $('names').replaceChildren(
    ...names.map(
      each => el(
        'option', {value: each.name},
        [each.character, each.coder && `codes as ${each.coder}`].filter(Boolean).join(', ')
      )
    ),
    ...(about.personas?.unseen_names ?? []).map(name => el('option', {value: name}, 'a stranger'))
  );
  drawSuggestions();
  if (about.personas && !$('question').value) drawQuestion();
  fromAddress();
  drawForm();
  $('form').hidden = false;
  $('question').focus();
}
begin();
