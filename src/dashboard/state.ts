/** Where somebody who looks at the dashboard stands, and what a key changes of that. No terminal: the screen and the tests drive it. */
import { PANES, type Pane } from './detail.js';
import { SORTS, type Sort } from './overview.js';

/** What a key asks for beyond a change of what is shown. */
export type Wish = 'quit' | 'attach' | 'pause' | 'stop' | 'kill';

export interface DashboardState {
  /** By name, so that it stays the same machine when others come and go. */
  selected: string | undefined;
  pane: Pane;
  sort: Sort;
  filter: string;
  /** `filter`: what is typed goes there. `kill`: whether that is meant. `help`: any key ends it. */
  mode: 'look' | 'filter' | 'kill' | 'help';
  /** The pane has all of the screen. */
  large: boolean;
  /** What is shown stays as it is. */
  frozen: boolean;
}

export function newState(): DashboardState {
  return {
    selected: undefined,
    pane: 'machine',
    sort: 'name',
    filter: '',
    mode: 'look',
    large: false,
    frozen: false,
  };
}

/** What keys do, for the help and the footer. */
export const KEYS: readonly (readonly [keys: string, meaning: string])[] = [
  ['↑ ↓ or k j', 'another machine'],
  ['← → or h, tab', 'another pane; 1 to 4: this one'],
  ['enter, esc', 'the pane alone, and back'],
  ['/', 'only machines whose name or command has this'],
  ['o', 'another order: name, processor, memory, exits'],
  ['space', 'stand still, go on'],
  ['l', 'the console’s log'],
  ['a', 'attach to the console (Ctrl-A d comes back)'],
  ['p', 'pause the machine, or let it go on'],
  ['s', 'stop it'],
  ['K', 'kill it, after a question'],
  ['q', 'leave'],
];

/**
 * @param key - by blessed's name of it, or the character
 * @param names - of the machines that are shown, in order
 */
export function press(state: DashboardState, key: string, names: readonly string[]): Wish | undefined {
  if (key === 'C-c') return 'quit';
  switch (state.mode) {
    case 'help':
      state.mode = 'look';
      return undefined;
    case 'kill':
      state.mode = 'look';
      return key === 'y' ? 'kill' : undefined;
    case 'filter':
      typeFilter(state, key);
      return undefined;
    default:
      return look(state, key, names);
  }
}

function typeFilter(state: DashboardState, key: string): void {
  if (key === 'enter' || key === 'return') state.mode = 'look';
  else if (key === 'escape') Object.assign(state, { mode: 'look', filter: '' });
  else if (key === 'backspace') state.filter = [...state.filter].slice(0, -1).join('');
  else if ([...key].length === 1) state.filter += key;
  else if (key === 'space') state.filter += ' ';
}

function look(state: DashboardState, key: string, names: readonly string[]): Wish | undefined {
  const pane = PANES[Number(key) - 1];
  if (pane !== undefined) {
    state.pane = pane;
    return undefined;
  }
  switch (key) {
    case 'up':
    case 'k':
      move(state, names, -1);
      return undefined;
    case 'down':
    case 'j':
      move(state, names, 1);
      return undefined;
    case 'left':
    case 'h':
      turn(state, -1);
      return undefined;
    case 'right':
    case 'tab':
      turn(state, 1);
      return undefined;
    case 'enter':
    case 'return':
      state.large = true;
      return undefined;
    case 'escape':
      if (state.large) state.large = false;
      else state.filter = '';
      return undefined;
    case 'l':
      state.pane = 'console';
      return undefined;
    case 'o':
      state.sort = SORTS[(SORTS.indexOf(state.sort) + 1) % SORTS.length] ?? 'name';
      return undefined;
    case 'space':
    case ' ':
      state.frozen = !state.frozen;
      return undefined;
    case '/':
      state.mode = 'filter';
      return undefined;
    case '?':
      state.mode = 'help';
      return undefined;
    case 'K':
    case 'S-k':
      if (state.selected !== undefined) state.mode = 'kill';
      return undefined;
    case 'a':
      return 'attach';
    case 'p':
      return 'pause';
    case 's':
      return 'stop';
    case 'q':
      return 'quit';
    default:
      return undefined;
  }
}

function move(state: DashboardState, names: readonly string[], by: number): void {
  const at = names.indexOf(state.selected ?? '');
  state.selected = names[Math.min(names.length - 1, Math.max(0, at + by))];
}

function turn(state: DashboardState, by: number): void {
  state.pane = PANES[(PANES.indexOf(state.pane) + by + PANES.length) % PANES.length] ?? 'machine';
}
