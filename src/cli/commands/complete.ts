/** `tsvm __complete`: what a shell may put where the cursor is, for the scripts of `tsvm completion`. */
import { Command, type Option } from 'commander';
import { isRunning, MachineStore } from '../../control/machine-store.js';

/** Names of one kind, as they are now. */
type List = () => Promise<readonly string[]> | readonly string[];

const running: List = () => namesOf((isEnded) => !isEnded);
const ended: List = () => namesOf((isEnded) => isEnded);
const machines: List = () => namesOf(() => true);
const images: List = async () => {
  const { KeptImages } = await import('../../image/kept-images.js');
  const { shortReference, parseReference } = await import('../../image/reference.js');
  const kept = await new KeptImages().list();
  return kept.flatMap(({ names }) => names.map((name) => shortReference(parseReference(name))));
};
const guests: List = async () => {
  const { listGuests } = await import('../../guest/store.js');
  return (await listGuests()).map(({ build }) => build.name);
};
const templates: List = async () => {
  const { TemplateStore } = await import('../../template/store.js');
  return (await new TemplateStore().list()).map(({ key }) => key);
};
const sides: List = async () => (await running()).map((name) => `${name}:`);

/** Operands of commands, by their paths: `first`, or `all` of them. Other operands are files. */
const OPERANDS: Readonly<Record<string, { readonly first: List } | { readonly all: List }>> = {
  attach: { first: running },
  cp: { all: sides },
  completion: { first: () => ['bash', 'zsh', 'fish'] },
  exec: { first: running },
  fork: { first: running },
  forward: { first: running },
  'guest build': { first: guests },
  images: { first: images },
  inspect: { first: machines },
  kill: { all: running },
  logs: { first: machines },
  make: { first: running },
  pause: { all: running },
  port: { first: running },
  pull: { first: images },
  rename: { first: ended },
  restart: { all: running },
  resume: { all: running },
  rm: { all: machines },
  rmi: { all: images },
  run: { first: images },
  save: { all: images },
  start: { all: ended },
  stats: { all: running },
  stop: { all: running },
  tag: { all: images },
  'template rm': { all: templates },
  wait: { all: machines },
};

/** Values of options, by their long names. Values of others are files. */
const VALUES: Readonly<Record<string, List>> = {
  '--console': () => ['serial', 'virtio', 'none'],
  '--disks': () => ['overlay', 'direct'],
  '--entry': () => ['auto', 'pvh', 'bzimage'],
  '--guest': guests,
  '--image': images,
  '--isolation': () => ['vm', 'container'],
  '--machine': running,
  '--pull': () => ['missing', 'always', 'never'],
};

export function completeCommand(): Command {
  const command = new Command('__complete')
    .description('Print what may stand at the end of a command line, a word a line.')
    .argument('<line>', 'the command line up to the cursor')
    .action(async (line: string) => {
      const words = line.trimStart().split(/\s+/).slice(1);
      const found = await candidates(command.parent ?? command, words);
      process.stdout.write(found.map((word) => `${word}\n`).join(''));
    });
  return command;
}

/**
 * Words that may stand in the place of the last one, which is a beginning of them; none where only the shell's files may.
 *
 * @param root - commands, as commander knows them
 * @param words - of the command line, without the program's name
 */
export async function candidates(root: Command, words: readonly string[]): Promise<string[]> {
  const place = placeOf(root, words.slice(0, -1));
  if (place === undefined) return [];
  const last = words.at(-1) ?? '';
  const found =
    last.startsWith('-') && place.option === undefined ? flagsOf(place.command) : await namesAt(place);
  return [...new Set(found)].filter((word) => word.startsWith(last)).sort();
}

interface Place {
  readonly command: Command;
  readonly path: readonly string[];
  readonly operands: number;
  /** Option whose value comes next. */
  readonly option: Option | undefined;
}

/** Place after words; undefined where a command of its own has begun. */
function placeOf(root: Command, words: readonly string[]): Place | undefined {
  let command = root;
  const path: string[] = [];
  let operands = 0;
  let option: Option | undefined;
  for (const word of words) {
    if (option !== undefined) option = undefined;
    else if (word === '--') return undefined;
    else if (word.startsWith('-')) {
      const flag = command.options.find(({ long, short }) => word === long || word === short);
      option = flag?.required === true ? flag : undefined;
    } else {
      const child = operands === 0 ? childOf(command, word) : undefined;
      if (child === undefined) operands++;
      else {
        command = child;
        path.push(child.name());
      }
    }
  }
  return { command, path, operands, option };
}

const childOf = (command: Command, word: string): Command | undefined =>
  command.commands.find((child) => child.name() === word || child.aliases().includes(word));

const flagsOf = ({ options }: Command): string[] => [
  ...options.flatMap(({ long, short, hidden }) => (hidden ? [] : (long ?? short ?? []))),
  '--help',
];

async function namesAt({ command, path, operands, option }: Place): Promise<readonly string[]> {
  if (option !== undefined) return (await VALUES[option.long ?? '']?.()) ?? [];
  const shown = command.createHelp().visibleCommands(command);
  const children = operands === 0 ? shown.map((child) => child.name()) : [];
  const kinds = OPERANDS[path.join(' ')];
  if (kinds === undefined) return children;
  if ('all' in kinds) return [...children, ...(await kinds.all())];
  return operands === 0 ? [...children, ...(await kinds.first())] : children;
}

function namesOf(wanted: (isEnded: boolean) => boolean): string[] {
  return new MachineStore()
    .list()
    .filter(({ record }) => wanted(!isRunning(record)))
    .map(({ record }) => record.name);
}
