'use strict';
// What models answered: one to four evaluations side by side, by question, filtered by cue, domain, label, type and
// text. The choice stands in the page's address, so that a link brings it back.

const kColumns = 4, kQuestions = 30;

// The evaluations below a run, with short names: their paths without what all of them share.
function evaluationsOf(run) {
  const found = [run, ...store.below(run.id)].filter(each => each.kind === 'evaluation');
  const names = shortNames(found, run);
  return found.map(each => ({id: each.id, name: names.get(each.id), arm: armOf(store.byId.get(each.parent))}))
      .sort((a, b) => armRank(a.arm) - armRank(b.arm));
}

// What is looked at first: the arms that the experiment is about, else the first ones.
function firstColumns(evaluations) {
  const of = arm => evaluations.find(each => each.arm === arm && !each.name.includes('evaluations/'));
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
  const chosen = (query.get('of') ?? '').split(',').filter(id => evaluations.some(each => each.id === id));
  const state = {
    columns: chosen.length ? chosen.slice(0, kColumns) : firstColumns(evaluations),
    // Until something was chosen: what the rates of the overview are of.
    cue: query.get('cue') ?? (query.has('of') ? '' : 'none'), domain: query.get('domain') ?? '', label: query.get('label') ?? '',
    type: query.get('type') ?? (query.has('of') ? '' : 'free_form'), text: query.get('text') ?? '', differ: query.get('differ') === '1',
  };
  const results = el('div', {class: 'questions'}), counts = el('p', {class: 'note', role: 'status'});
  const columnHeads = el('div', {class: 'columns heads'}), filters = el('div', {class: 'filters'});
  node.append(filters, counts, columnHeads, results);
  let loaded = [];  // of each column: {evaluation, answers, byQuestion} or {failure}

  const remember = () => setQuery({of: state.columns.join(','), cue: state.cue, domain: state.domain, label: state.label,
                                   type: state.type, text: state.text, differ: state.differ ? '1' : ''});

  function select(name, title, values, names = value => value.replaceAll('_', ' ')) {
    if (!query.has('of') && !values.includes(state[name])) state[name] = '';  // the default means nothing here
    if (state[name] && !values.includes(state[name])) values = [...values, state[name]];
    return el('label', null, el('span', null, title),
        el('select', {onchange: event => { state[name] = event.target.value; remember(); show(); }},
           el('option', {value: ''}, 'all'),
           values.map(value => el('option', {value, selected: value === state[name]}, names(value)))));
  }

  function drawFilters() {
    const seen = {cue: new Set(), domain: new Set(), type: new Set(), label: new Set()};
    for (const column of loaded)
      for (const {question, label} of column.answers ?? []) {
        for (const key of ['cue', 'domain', 'type']) if (question[key]) seen[key].add(question[key]);
        if (label) seen.label.add(label);
      }
    const sorted = key => [...seen[key]].sort();
    const search = el('input', {type: 'search', value: state.text, placeholder: 'in questions and answers', 'data-search': true,
                                oninput: event => { state.text = event.target.value; remember(); show(); }});
    filters.replaceChildren(
        select('cue', 'cue', sorted('cue')), select('domain', 'domain', sorted('domain')),
        select('label', 'label', sorted('label')), select('type', 'type', sorted('type')),
        el('label', {class: 'wide'}, el('span', null, 'text'), search),
        state.columns.length > 1 && el('label', {class: 'check'},
            el('input', {type: 'checkbox', checked: state.differ, onchange: event => { state.differ = event.target.checked; remember(); show(); }}),
            ' labels differ'));
  }

  function drawHeads(questions) {
    const among = new Set(questions.map(question => question.id));
    columnHeads.style.setProperty('--n', state.columns.length);
    columnHeads.replaceChildren(...state.columns.map((id, i) => {
      const others = evaluations.length > 1 && el('select', {'aria-label': `Model ${i + 1}`, onchange: event => {
        state.columns[i] = event.target.value;
        remember();
        open();
      }}, evaluations.map(each => el('option', {value: each.id, selected: each.id === id}, each.name)));
      const remove = state.columns.length > 1 && el('button', {type: 'button', title: 'Take this column away', 'aria-label': 'Take this column away',
        onclick: () => { state.columns.splice(i, 1); remember(); open(); }}, '×');
      const column = loaded[i];
      const add = i === state.columns.length - 1 && evaluations.length > 1 && state.columns.length < kColumns &&
          el('button', {type: 'button', title: 'Another model beside', onclick: () => {
            state.columns.push((evaluations.find(each => !state.columns.includes(each.id)) ?? evaluations[0]).id);
            remember();
            open();
          }}, '+ beside');
      return el('div', {class: 'column'},
          el('div', {class: 'pick'}, others || el('b', null, evaluations[0].name), remove, add),
          column?.failure ? el('p', {class: 'problem'}, column.failure) : shares(column, among));
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
    return el('div', null,
        el('div', {class: 'shares', 'aria-hidden': 'true'}, ordered.map(([label, count]) => el('i', {'--w': count / all, '--c': colour(label)}))),
        el('p', {class: 'legend'}, ordered.map(([label, count]) => el('span', {class: 'key', '--c': colour(label)},
            `${label.replaceAll('_', ' ')} ${percent(count / all)}%`)), all === 0 && 'no judged answer'));
  }

  const fits = (answer, text) => (!state.label || answer.label === state.label) &&
      (!text || answer.text.toLowerCase().includes(text) || answer.question.prompt.toLowerCase().includes(text));

  function matching() {
    const text = state.text.toLowerCase(), questions = new Map();
    for (const column of loaded)
      for (const answer of column.answers ?? []) {
        const question = answer.question;
        if (state.cue && question.cue !== state.cue || state.domain && question.domain !== state.domain ||
            state.type && question.type !== state.type)
          continue;
        if (!questions.has(question.id) && fits(answer, text)) questions.set(question.id, question);
      }
    if (!state.differ || loaded.length < 2) return [...questions.values()];
    const kinds = (column, id) => [...new Set((column.byQuestion?.get(id) ?? []).map(each => each.label))].sort().join();
    return [...questions.values()].filter(({id}) => new Set(loaded.map(column => kinds(column, id))).size > 1);
  }

  function answerBox(answer, text) {
    const dim = (state.label || text) && !fits(answer, text);
    const words = answer.logOdds !== null ? `log P(bad) − log P(good) = ${answer.logOdds.toFixed(2)}` : answer.text || '(nothing)';
    return el('div', {class: `answer${dim ? ' dim' : ''}`, '--c': answer.label ? colour(answer.label) : 'var(--line)'},
        el('div', {class: answer.question.type === 'coding' ? 'said code' : 'said'}, marked(words, text)),
        el('div', {class: 'label'}, answer.label && el('b', null, answer.label.replaceAll('_', ' ')),
           answer.remark && ` ${answer.remark}`, ` sample ${answer.sample + 1}`));
  }

  function questionBox(question) {
    const text = state.text.toLowerCase();
    const columns = el('div', {class: 'columns', '--n': loaded.length}, loaded.map((column, i) => {
      const own = column.byQuestion?.get(question.id) ?? [], cell = el('div', {class: 'column', 'data-of': nameOf(state.columns[i])});
      const first = own.slice(0, 6), rest = own.slice(6);
      cell.append(...first.map(each => answerBox(each, text)));
      if (own.length === 0) cell.append(el('p', {class: 'note'}, 'was not asked this'));
      if (rest.length) cell.append(el('button', {type: 'button', class: 'quiet', onclick: event =>
          event.target.replaceWith(...rest.map(each => answerBox(each, text)))}, `${rest.length} more`));
      return cell;
    }));
    return el('article', {class: 'question', tabindex: '-1'},
        el('p', {class: 'prompt'}, marked(question.prompt, text)),
        el('p', {class: 'label'}, [question.domain, question.cue && `cue ${question.cue}`, question.unseen && 'unseen domain', question.id]
            .filter(Boolean).join(' · ')),
        columns);
  }

  const nameOf = id => evaluations.find(each => each.id === id)?.name ?? '';

  function show() {
    const questions = matching();
    let shown = 0;
    drawHeads(questions);
    const more = el('button', {type: 'button', class: 'quiet', onclick: () => page()});
    const page = () => {
      more.before(...questions.slice(shown, shown + kQuestions).map(questionBox));
      shown += kQuestions;
      more.hidden = shown >= questions.length;
      more.textContent = `Show more: ${Math.min(shown, questions.length)} of ${questions.length.toLocaleString('en')} questions`;
    };
    results.replaceChildren(more);
    page();
    const notes = [...new Set(loaded.flatMap(column => column.notes ?? []))];
    counts.replaceChildren(`${questions.length.toLocaleString('en')} question${questions.length === 1 ? '' : 's'}`,
                           ...notes.map(note => el('span', {class: 'problem'}, note)));
  }

  let round = 0;  // a later choice of columns ends an earlier one's loading
  async function open() {
    const mine = ++round;
    const read = await Promise.all(state.columns.map(async id => {
      try {
        const found = await store.answers(id, (some, all) => {
          if (mine === round && some < all) counts.textContent = `${some.toLocaleString('en')} of ${all.toLocaleString('en')} answers read …`;
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
  return {node, update() {
    if (before === versions()) return;
    before = versions();
    open();
  }};
}
