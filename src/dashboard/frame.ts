/** All of the screen as lines, each with what it is; the terminal's colours are the screen's affair. */
import { type Closeup, PANES, paneLines } from './detail.js';
import { overviewLines, select, summary } from './overview.js';
import type { View } from './sampler.js';
import { type DashboardState, KEYS } from './state.js';
import { columnsOf, plainLines, toWidth } from './text.js';

export interface Line {
  readonly text: string;
  readonly style: 'title' | 'head' | 'plain' | 'selected' | 'ended' | 'tab' | 'footer' | 'question';
  /** Whose line it is, in the list. */
  readonly machine?: string;
}

const MIN_COLUMNS = 40;
const MIN_ROWS = 10;

export interface Shown {
  readonly views: readonly View[];
  readonly closeup: Closeup;
  readonly readOnly: boolean;
  /** What went wrong with the last wish. */
  readonly problem: string;
}

/** Exactly `rows` lines of `columns`. */
export function frame(state: DashboardState, shown: Shown, columns: number, rows: number): Line[] {
  if (columns < MIN_COLUMNS || rows < MIN_ROWS) {
    return fill(
      [{ text: `too small: ${MIN_COLUMNS}x${MIN_ROWS} is the least`, style: 'plain' }],
      columns,
      rows,
    );
  }
  if (state.mode === 'help') return fill(helpLines(), columns, rows);
  const { views } = shown;
  const listed = select(views, state.filter, state.sort);
  if (!listed.some(({ name }) => name === state.selected)) state.selected = listed[0]?.name;
  const selected = listed.find(({ name }) => name === state.selected);
  const title: Line = { text: titleText(state, views, columns), style: 'title' };
  const footer = footerLine(state, shown);
  const rest = rows - 2;
  if (selected === undefined) {
    const text =
      views.length === 0
        ? 'no machine has a name: tsvm run -d --name NAME -- COMMAND'
        : `none has '${state.filter}'`;
    return [...fill([title, { text, style: 'plain' }], columns, rows - 1), footer].map((line) =>
      sized(line, columns),
    );
  }
  const listRows = state.large ? 0 : Math.min(listed.length + 1, Math.max(3, Math.floor(rest / 3)));
  const list = state.large ? [] : listLines(state, listed, columns, listRows);
  const pane: Line[] = [
    { text: tabText(state, selected), style: 'tab' },
    ...paneLines(state.pane, selected, shown.closeup, columns, rest - list.length - 1).map(
      (text): Line => ({ text, style: 'plain' }),
    ),
  ];
  return [...fill([title, ...list, ...pane], columns, rows - 1), footer].map((line) => sized(line, columns));
}

function listLines(state: DashboardState, listed: readonly View[], columns: number, rows: number): Line[] {
  const { head, lines } = overviewLines(listed, columns);
  const at = listed.findIndex(({ name }) => name === state.selected);
  const room = rows - 1;
  const from = Math.max(0, Math.min(at - Math.floor(room / 2), listed.length - room));
  return [
    { text: head, style: 'head' },
    ...lines.slice(from, from + room).map((text, i): Line => {
      const view = listed[from + i];
      const style = from + i === at ? 'selected' : view?.record.end !== undefined ? 'ended' : 'plain';
      return { text, style, ...(view && { machine: view.name }) };
    }),
  ];
}

function titleText(state: DashboardState, views: readonly View[], columns: number): string {
  const clock = `${state.frozen ? 'stands still  ' : ''}${new Date().toTimeString().slice(0, 8)}`;
  const left = `tsvm top   ${summary(views)}`;
  return `${toWidth(left, Math.max(0, columns - clock.length - 1))} ${clock}`;
}

function tabText({ pane }: DashboardState, { name }: View): string {
  return `━ ${name} ━ ${PANES.map((each, i) => (each === pane ? `[${i + 1} ${each}]` : ` ${i + 1} ${each} `)).join('')} `;
}

/** What a click means, if anything: another machine in the list, or another pane in the line of panes. */
export function point(state: DashboardState, line: Line | undefined, column: number): void {
  if (state.mode !== 'look' || line === undefined) return;
  if (line.machine !== undefined) state.selected = line.machine;
  if (line.style !== 'tab') return;
  const from = line.text.lastIndexOf('━') + 1;
  let at = columnsOf(line.text.slice(0, from)) + 1;
  for (const pane of PANES) {
    at += `[1 ${pane}]`.length;
    if (column < at) {
      state.pane = pane;
      return;
    }
  }
}

function footerLine(state: DashboardState, { readOnly, problem }: Shown): Line {
  if (state.mode === 'filter')
    return { text: `/${state.filter}▏  enter keeps it, esc drops it`, style: 'question' };
  if (state.mode === 'kill')
    return { text: `kill ${state.selected}? y: yes; any other key: no`, style: 'question' };
  if (problem !== '') return { text: plainLines(problem).join(' '), style: 'question' };
  const actions = readOnly ? 'read-only' : 'a attach  p pause  s stop  K kill';
  const filter = state.filter === '' ? '' : `filter: ${state.filter}  `;
  return { text: `${filter}? help  / filter  o order: ${state.sort}  ${actions}  q leave`, style: 'footer' };
}

function helpLines(): Line[] {
  const keys = KEYS.map(
    ([key, meaning]): Line => ({ text: `  ${key.padEnd(16)}${meaning}`, style: 'plain' }),
  );
  return [
    { text: 'tsvm top: keys', style: 'title' },
    { text: '', style: 'plain' },
    ...keys,
    { text: '', style: 'plain' },
    {
      text: 'COSTS is the memory of the machine’s process, shared pages in proportion (PSS); forks share one process’s equally.',
      style: 'plain',
    },
    { text: 'Any key goes back.', style: 'footer' },
  ];
}

function fill(lines: readonly Line[], columns: number, rows: number): Line[] {
  const all = [...lines];
  while (all.length < rows) all.push({ text: '', style: 'plain' });
  return all.slice(0, rows).map((line) => sized(line, columns));
}

function sized(line: Line, columns: number): Line {
  return { ...line, text: toWidth(line.text, columns) };
}
