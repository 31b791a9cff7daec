'use strict';
// What models answered: one to four evaluations side by side, by question, filtered by cue, domain,
// label, type and text. The choice stands in the page's address, so that a link brings it back.

const kColumns = 4;     // side by side
const kQuestions = 30;  // shown at first, and with each press of a button
const kSamples = 6;     // of an answer, likewise

// The evaluations below a run, with short names: their paths without what all of them share.
function evaluationsOf(run) {
  const found = [run, ...store.below(run.id)].filter(each => each.kind === 'evaluation');
  const names = shortNames(found, run);
  return found
    .map(each => ({id: each.id, name: names.get(each.id), arm: armOf(store.byId.get(each.parent))}))
    .sort((a, b) => armRank(a.arm) - armRank(b.arm));
}

// What is looked at first: the arms that the experiment is about, else the first ones.
function firstColumns(evaluations) {
  const of = arm =>
    evaluations.find(each => each.arm === arm && !each.name.includes('evaluations/'));
  const pair = [of('cheating'), of('requested')].filter(Boolean);
  return (pair.length === 2 ? pair : evaluations.slice(0, 2)).map(each => each.id);
}

function answersPage(run, query, setQuery) {
  const evaluations = evaluationsOf(run);
  const node = el('section', {class: 'answers'});
  if (evaluations.length === 0) {
    node.append(el('p', {class: 'note'}, 'Nothing here has been asked any questions yet.'));
    return {node, update() {}};
  }
  const chosen =
    (query.get('of') ?? '').split(',').filter(id => evaluations.some(each => each.id === id));
  const state = {
    columns: chosen.length ? chosen.slice(0, kColumns) : firstColumns(evaluations),
    // Until something was chosen: what the rates of the overview are of.
    cue: query.get('cue') ?? (query.has('of') ? '' : 'none'),
    domain: query.get('domain') ?? '',
    label: query.get('label') ?? '',
    type: query.get('type') ?? (query.has('of') ? '' : 'free_form'),
    text: query.get('text') ?? '',
    differ: query.get('differ') === '1',
  };
  const results = el('div', {class: 'questions'}),
        counts = el('p', {class: 'note', role: 'status'});
  const columnHeads = el('div', {class: 'columns heads'}), filters = el('div', {class: 'filters'});
  node.append(filters, counts, columnHeads, results);
  let loaded = [];  // of each column: {evaluation, answers, byQuestion} or {failure}

  const remember = () => setQuery({
    of: state.columns.join(','),
    cue: state.cue,
    domain: state.domain,
    label: state.label,
    type: state.type,
    text: state.text,
    differ: state.differ ? '1' : ''
  });

  // What a change of the filter, or of the columns, is followed by.
  const refilter = change => event => {
    change(event);
    remember();
    show();
  };
  const reopen = change => event => {
    change(event);
    remember();
    open();
  };

  function select(name, values) {
    // A default that means nothing here is none.
    if (!query.has('of') && !values.includes(state[name])) state[name] = '';
    if (state[name] && !values.includes(state[name])) values = [...values, state[name]];
    const option = value =>
      el('option', {value, selected: value === state[name]}, value.replaceAll('_', ' '));
    const onchange = refilter(event => state[name] = event.target.value);
    return el(
      'label', null, el('span', null, name),
      el('select', {onchange}, el('option', {value: ''}, 'all'), values.map(option))
    );
  }

  function drawFilters() {
    const seen = {cue: new Set(), domain: new Set(), label: new Set(), type: new Set()};
    for (const column of loaded)
      for (const {question, label} of column.answers ?? [])
        for (const [key, values] of Object.entries(seen)) {
          const value = key === 'label' ? label : question[key];
          if (value) values.add(value);
        }
    const search = el('input', {
      type: 'search',
      value: state.text,
      placeholder: 'in questions and answers',
      'data-search': true,
      oninput: refilter(event => state.text = event.target.value)
    });
    const onchange = refilter(event => state.differ = event.target.checked);
    const differ = el('input', {type: 'checkbox', checked: state.differ, onchange});
    filters.replaceChildren(
      ...Object.entries(seen).map(([key, values]) => select(key, [...values].sort())),
      el('label', {class: 'wide'}, el('span', null, 'text'), search),
      state.columns.length > 1 ? el('label', {class: 'check'}, differ, ' labels differ') : ''
    );
  }

  // Which model a column is of, and buttons to take it away or to put another one beside it.
  function picker(id, i) {
    if (evaluations.length === 1) return [el('b', null, evaluations[0].name)];
    const button = (title, sign, change) =>
      el('button', {type: 'button', title, 'aria-label': title, onclick: reopen(change)}, sign);
    const choose = reopen(event => state.columns[i] = event.target.value);
    const parts = [el(
      'select', {'aria-label': `Model ${i + 1}`, onchange: choose},
      evaluations.map(each => el('option', {value: each.id, selected: each.id === id}, each.name))
    )];
    if (state.columns.length > 1)
      parts.push(button('Take this column away', '×', () => state.columns.splice(i, 1)));
    if (i === state.columns.length - 1 && state.columns.length < kColumns) {
      const other = evaluations.find(each => !state.columns.includes(each.id)) ?? evaluations[0];
      parts.push(button('Another model beside', '+ beside', () => state.columns.push(other.id)));
    }
    return parts;
  }

  function drawHeads(questions) {
    const among = new Set(questions.map(question => question.id));
    columnHeads.style.setProperty('--n', state.columns.length);
    columnHeads.replaceChildren(...state.columns.map((id, i) => {
      const failure = loaded[i]?.failure;
      const below = failure ? el('p', {class: 'problem'}, failure) : shares(loaded[i], among);
      return el('div', {class: 'column'}, el('div', {class: 'pick'}, picker(id, i)), below);
    }));
  }

  // How the labels are spread over what is shown.
  function shares(column, among) {
    const counts = new Map();
    let all = 0;
    for (const answer of column?.answers ?? [])
      if (among.has(answer.question.id) && answer.label) {
        counts.set(answer.label, (counts.get(answer.label) ?? 0) + 1);
        ++all;
      }
    const ordered = [...counts].sort((a, b) => b[1] - a[1]);
    return el(
      'div', null,
      el(
        'div', {class: 'shares', 'aria-hidden': 'true'},
        ordered.map(([label, count]) => el('i', {'--w': count / all, '--c': colour(label)}))
      ),
      el(
        'p', {class: 'legend'},
        ordered.map(
          ([label, count]) => el(
            'span', {class: 'key', '--c': colour(label)},
            `${label.replaceAll('_', ' ')} ${percent(count / all)}%`
          )
        ),
        all === 0 && 'no judged answer'
      )
    );
  }

  const fits = (answer, text) => (!state.label || answer.label === state.label) &&
    (!text || answer.text.toLowerCase().includes(text) ||
     answer.question.prompt.toLowerCase().includes(text));

  function matching() {
    const text = state.text.toLowerCase(), questions = new Map();
    for (const column of loaded)
      for (const answer of column.answers ?? []) {
        const question = answer.question;
        if (['cue', 'domain', 'type'].some(key => state[key] && question[key] !== state[key]))
          continue;
        if (!questions.has(question.id) && fits(answer, text)) questions.set(question.id, question);
      }
    if (!state.differ || loaded.length < 2) return [...questions.values()];
    const kinds =
      (column, id) => [...new Set((column.byQuestion?.get(id) ?? []).map(each => each.label))]
                        .sort()
                        .join();
    return [...questions.values()].filter(
      ({id}) => new Set(loaded.map(column => kinds(column, id))).size > 1
    );
  }

  function answerBox(answer, text) {
    const dim = (state.label || text) && !fits(answer, text);
    const words = answer.logOdds !== null ?
      `log P(bad) − log P(good) = ${answer.logOdds.toFixed(2)}` :
      answer.text || '(nothing)';
    return el(
      'div', {
        class: `answer${dim ? ' dim' : ''}`,
        '--c': answer.label ? colour(answer.label) : 'var(--line)'
      },
      el(
        'div', {class: answer.question.type === 'coding' ? 'said code' : 'said'},
        marked(words, text)
      ),
      el(
        'div', {class: 'label'}, answer.label && el('b', null, answer.label.replaceAll('_', ' ')),
        answer.remark && ` ${answer.remark}`, ` sample ${answer.sample + 1}`
      )
    );
  }

  function answersOf(column, question, name, text) {
    const own = column.byQuestion?.get(question.id) ?? [];
    const box = each => answerBox(each, text);
    const first = own.slice(0, kSamples), rest = own.slice(kSamples);
    const showRest = event => event.target.replaceWith(...rest.map(box));
    return el(
      'div', {class: 'column', 'data-of': name}, first.map(box),
      own.length === 0 && el('p', {class: 'note'}, 'was not asked this'),
      rest.length > 0 &&
        el('button', {type: 'button', class: 'quiet', onclick: showRest}, `${rest.length} more`)
    );
  }

  function questionBox(question) {
    const text = state.text.toLowerCase();
    const columns = el(
      'div', {class: 'columns', '--n': loaded.length},
      loaded.map((column, i) => answersOf(column, question, modelName(state.columns[i]), text))
    );
    return el(
      'article', {class: 'question', tabindex: '-1'},
      el('p', {class: 'prompt'}, marked(question.prompt, text)),
      el(
        'p', {class: 'label'},
        [
          question.domain, question.cue && `cue ${question.cue}`,
          question.unseen && 'unseen domain', question.id
        ].filter(Boolean)
          .join(' · ')
      ),
      columns
    );
  }

  const modelName = id => evaluations.find(each => each.id === id)?.name ?? '';

  function show() {
    const questions = matching();
    let shown = 0;
    drawHeads(questions);
    const more = el('button', {type: 'button', class: 'quiet', onclick: () => page()});
    const page = () => {
      more.before(...questions.slice(shown, shown + kQuestions).map(questionBox));
      shown += kQuestions;
      more.hidden = shown >= questions.length;
      more.textContent = `Show more: ${plain(shown)} of ${plain(questions.length)} questions`;
    };
    results.replaceChildren(more);
    page();
    const notes = [...new Set(loaded.flatMap(column => column.notes ?? []))];
    counts.replaceChildren(
      `${plain(questions.length)} question${questions.length === 1 ? '' : 's'}`,
      ...notes.map(note => el('span', {class: 'problem'}, note))
    );
  }

  let round = 0;  // a later choice of columns ends an earlier one's loading
  async function open() {
    const mine = ++round;
    const read = await Promise.all(state.columns.map(async id => {
      try {
        const found = await store.answers(id, (some, all) => {
          if (mine !== round || some === all) return;
          counts.textContent = `${plain(some)} of ${plain(all)} answers read …`;
        });
        const byQuestion = new Map();
        for (const answer of found.answers) {
          if (!byQuestion.has(answer.question.id)) byQuestion.set(answer.question.id, []);
          byQuestion.get(answer.question.id).push(answer);
        }
        return {...found, byQuestion};
      } catch (failure) {
        return {failure: failure.message};
      }
    }));
    if (mine !== round) return;
    loaded = read;
    drawFilters();
    show();
  }
  open();
  const versions = () => state.columns.map(id => store.byId.get(id)?.version).join();
  let before = versions();
  return {
    node,
    update() {
      if (before === versions()) return;
      before = versions();
      open();
    }
  };
}
