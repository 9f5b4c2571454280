/** The dashboard on a terminal, by blessed. */
import { spawn } from 'node:child_process';
import blessed from 'blessed';
import { RemoteMachine } from '../control/client/connect.js';
import { isRunning, MachineStore } from '../control/machine-store.js';
import { CloseupSource } from './closeup.js';
import { frame, type Line, point } from './frame.js';
import { select } from './overview.js';
import { Sampler, type View } from './sampler.js';
import { type DashboardState, newState, press, type Wish } from './state.js';
import { toAscii } from './text.js';

const INTERVAL_MS = 1000;

export interface DashboardOptions {
  /** Nothing is done to machines. */
  readonly readOnly: boolean;
  readonly colour: boolean;
  /** The terminal shows Unicode; else ASCII stands in for the signs that the dashboard draws with. */
  readonly unicode: boolean;
  /** The terminal's own selection of text needs the shift key then. */
  readonly mouse: boolean;
  /** The command that attaches, and its first arguments. */
  readonly attach: readonly [program: string, ...args: string[]];
}

const STYLES: Readonly<Record<Line['style'], readonly [before: string, after: string]>> = {
  title: ['{bold}{cyan-fg}', '{/}'],
  head: ['{bold}', '{/}'],
  plain: ['', ''],
  selected: ['{inverse}', '{/}'],
  ended: ['{grey-fg}', '{/}'],
  tab: ['{cyan-fg}', '{/}'],
  footer: ['{cyan-fg}', '{/}'],
  question: ['{yellow-fg}{bold}', '{/}'],
};
const PLAIN_STYLES: Readonly<Partial<Record<Line['style'], readonly [string, string]>>> = {
  selected: ['{inverse}', '{/}'],
};

/** Shows machines until the user has seen enough. The terminal is as it was then. */
export async function runDashboard(options: DashboardOptions): Promise<void> {
  const store = new MachineStore();
  const sampler = new Sampler(store);
  const closeup = new CloseupSource();
  const state = newState();
  // Terminals that say less of themselves are shown no colour by blessed, though nearly all have it.
  const screen = blessed.screen({
    smartCSR: true,
    fullUnicode: true,
    forceUnicode: options.unicode,
    terminal: 'xterm-256color',
    title: 'tsvm top',
  });
  const box = blessed.box({ top: 0, left: 0, width: '100%', height: '100%', tags: true, wrap: false });
  screen.append(box);
  let problem = '';
  let lines: readonly Line[] = [];
  let away = false;
  let leave: () => void = () => {};
  const left = new Promise<void>((resolve) => {
    leave = resolve;
  });

  const selected = (): View | undefined => sampler.views.find(({ name }) => name === state.selected);
  const draw = (): void => {
    if (away) return;
    const shown = { views: sampler.views, closeup, readOnly: options.readOnly, problem };
    lines = frame(state, shown, Number(screen.width), Number(screen.height));
    box.setContent(lines.map((line) => styled(line, options)).join('\n'));
    screen.render();
  };
  const look = async (): Promise<void> => {
    if (state.frozen || away) return;
    try {
      await sampler.look();
      await closeup.look(selected(), store);
    } catch (error) {
      problem = messageOf(error); // the folder of machines is another's by now, say
    }
    draw();
  };
  const act = async (wish: Exclude<Wish, 'quit'>): Promise<void> => {
    const name = state.selected;
    if (name === undefined) return;
    problem = '';
    try {
      if (options.readOnly) throw new Error('read-only: nothing is done to machines (leave out --read-only)');
      if (selected()?.container !== undefined) throw new Error('a container is ended by whoever started it');
      const { folder, record } = store.find(name);
      if (!isRunning(record)) throw new Error(`${name} has ended`);
      if (wish === 'attach') {
        away = true;
        await attachTo(screen, options, name);
        away = false;
      } else await request(new RemoteMachine(name, folder.socketPath), wish, state, sampler);
    } catch (error) {
      problem = messageOf(error);
    }
    await look();
  };

  const pressed = (key: string): void => {
    problem = '';
    const names = select(sampler.views, state.filter, state.sort).map(({ name }) => name);
    const wish = press(state, key, names);
    if (wish === 'quit') leave();
    else if (wish !== undefined) void act(wish);
    changed();
  };
  const changed = (): void => {
    void closeup.look(selected(), store).then(draw);
    draw();
  };
  screen.on('keypress', (character: string | undefined, key: { full?: string; name?: string }) => {
    if (away) return;
    // Letters as they are, so that K is not k; anything else by its name.
    const byName =
      character !== undefined && /^[\x21-\x7e\u00a0-\uffff]$/u.test(character) ? character : (key.full ?? '');
    if (key.name === 'enter') return; // blessed says return as well
    pressed(byName);
  });
  if (options.mouse) {
    screen.on('mouse', ({ action, x, y }: { action: string; x: number; y: number }) => {
      if (away) return;
      if (action === 'wheelup' || action === 'wheeldown') pressed(action === 'wheelup' ? 'up' : 'down');
      else if (action === 'mousedown') {
        point(state, lines[y], x);
        changed();
      }
    });
  }
  screen.on('resize', draw);
  for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT'] as const) process.once(signal, leave);
  let looking = false;
  const timer = setInterval(() => {
    if (looking) return;
    looking = true;
    void look().finally(() => {
      looking = false;
    });
  }, INTERVAL_MS);
  try {
    await look();
    await left;
  } finally {
    clearInterval(timer);
    sampler.close();
    closeup.close();
    screen.destroy();
  }
}

function styled({ text, style }: Line, { colour, unicode }: DashboardOptions): string {
  const [before, after] = (colour ? STYLES[style] : PLAIN_STYLES[style]) ?? ['', ''];
  return before + blessed.escape(unicode ? text : toAscii(text)) + after;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function request(
  machine: RemoteMachine,
  wish: 'pause' | 'stop' | 'kill',
  { selected }: DashboardState,
  sampler: Sampler,
): Promise<void> {
  if (wish === 'pause') {
    const paused = sampler.views.find(({ name }) => name === selected)?.state === 'Paused';
    await (paused ? machine.resume() : machine.pause());
  } else if (wish === 'stop') await machine.stop();
  else await machine.kill();
}

/** Gives the terminal to another program until that ends. */
async function attachTo(
  screen: blessed.Widgets.Screen,
  { attach: [program, ...args], mouse }: DashboardOptions,
  name: string,
): Promise<void> {
  const { program: terminal } = screen;
  terminal.normalBuffer();
  terminal.showCursor();
  if (mouse) terminal.disableMouse();
  terminal.flush(); // what is written while it pauses is lost
  terminal.pause();
  await new Promise<void>((resolve) => {
    const child = spawn(program, [...args, name], { stdio: 'inherit' });
    child.once('error', () => resolve());
    child.once('close', () => resolve());
  });
  terminal.resume();
  terminal.alternateBuffer();
  terminal.hideCursor();
  if (mouse) terminal.enableMouse();
  screen.alloc();
}
