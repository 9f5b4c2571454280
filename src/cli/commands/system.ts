/** `tsvm system df` and `prune`: space that images, root disks, templates and guests take, and what of it nothing needs. */
import { createInterface } from 'node:readline/promises';
import { Command } from 'commander';
import { TsvmError } from '../../errors.js';
import { guestDirectory, listGuests, removeGuest } from '../../guest/store.js';
import { diskUsage } from '../../host/disk/disk-usage.js';
import { processesUsing } from '../../host/process/file-users.js';
import { TemplateStore } from '../../template/store.js';
import { formatBytes } from '../../util/units.js';
import { formatTable } from '../table.js';
import { keptImages, onWait } from './images.js';

const EXAMPLES = `
Examples:
  tsvm system df                  how much images, root disks, templates and guests take
  tsvm system prune --dry-run     what would be removed
  tsvm system prune --all --force all that no process uses, images with a name as well, without asking

Snapshots are folders of yours, and are neither counted nor removed.`;

const KINDS = ['Images', 'Roots', 'Disks', 'Templates', 'Guests'] as const;

/** Thing that is kept. Nothing is removed that cannot be made or fetched again: a root disk goes with its machine (tsvm rm). */
interface Kept {
  readonly kind: (typeof KINDS)[number];
  readonly name: string;
  readonly bytes: number;
  /** Tells whether a process uses it. */
  readonly active: boolean;
  /** Tells whether nothing leads to it any more. */
  readonly unused: boolean;
  remove(): Promise<void>;
}

export function systemCommand(): Command {
  const system = new Command('system')
    .summary('space that images, root disks, templates and guests take')
    .description(
      'Space that images, what was made of them, root disks, templates and guests take, and what of it nothing needs.',
    )
    .addHelpText('after', EXAMPLES);
  system
    .command('df')
    .description('how much there is of each kind, and what system prune would free')
    .option('--json', 'each thing, as a list')
    .addHelpText('after', EXAMPLES)
    .action(async ({ json }: { json?: boolean }) => {
      const all = await everything();
      process.stdout.write(
        json === true
          ? `${JSON.stringify(
              all.map(({ remove: _, ...facts }) => facts),
              undefined,
              2,
            )}\n`
          : formatTable(
              ['TYPE', 'TOTAL', 'ACTIVE', 'SIZE', 'RECLAIMABLE'],
              KINDS.map((kind) => row(kind, all)),
            ),
      );
    });
  system
    .command('prune')
    .description(
      'remove what nothing needs: images without a name, what was made of images that are not kept, old builds of guests',
    )
    .option(
      '-a, --all',
      'also images with a name, all that was made of images, and templates; not what a process uses, and no root disk: tsvm rm NAME',
    )
    .option('-f, --force', 'do not ask')
    .option('--dry-run', 'only say what would be removed')
    .addHelpText('after', EXAMPLES)
    .action(prune);
  return system;
}

/** Kinds of which --all removes no more. */
const KEPT_BY_ALL: readonly Kept['kind'][] = ['Disks', 'Guests'];

function row(kind: Kept['kind'], all: readonly Kept[]): string[] {
  const of = all.filter((one) => one.kind === kind);
  return [
    ...[kind, String(of.length), String(of.filter(({ active }) => active).length)],
    ...[formatBytes(sum(of)), formatBytes(sum(of.filter(({ active, unused }) => unused && !active)))],
  ];
}

const sum = (all: readonly Kept[]): number => all.reduce((total, { bytes }) => total + bytes, 0);

async function prune(options: { all?: boolean; force?: boolean; dryRun?: boolean }): Promise<void> {
  const doomed = (await everything()).filter(
    ({ active, unused, kind }) =>
      !active && (unused || (options.all === true && !KEPT_BY_ALL.includes(kind))),
  );
  for (const { kind, name, bytes } of doomed)
    process.stdout.write(`${kind.toLowerCase().replace(/s$/, '')} ${name}  ${formatBytes(bytes)}\n`);
  const total = formatBytes(sum(doomed));
  if (doomed.length === 0 || options.dryRun === true) {
    process.stdout.write(doomed.length === 0 ? 'there is nothing to remove\n' : `would free ${total}\n`);
    return;
  }
  if (options.force !== true && !(await isAgreed())) return;
  for (const one of doomed) await one.remove();
  process.stdout.write(`freed ${total}\n`);
}

/** Asks on the terminal. @throws TsvmError `TSVM_USAGE` if there is nobody to ask */
async function isAgreed(): Promise<boolean> {
  if (!process.stdin.isTTY)
    throw new TsvmError('TSVM_USAGE', 'prune asks before it removes, and there is no terminal', {
      hint: 'tsvm system prune --force does not ask; --dry-run only says',
    });
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question('Remove these? [y/N] ')).trim());
  } finally {
    terminal.close();
  }
}

/** Lists all that is kept, of every kind. */
async function everything(): Promise<Kept[]> {
  const kept = await keptImages();
  const [{ ImageStore }, { keyOfManifest }, { keptRootDisks, removeRootDisk }] = await Promise.all([
    import('../../image/store.js'),
    import('../../image/key.js'),
    import('../../image/root-disk.js'),
  ]);
  const store = new ImageStore();
  const images = await kept.list();
  const named = new Set(
    images.filter(({ names }) => names.length > 0).map(({ digest }) => keyOfManifest(digest)),
  );
  const templates = new TemplateStore();
  return [
    ...images.map(
      (image): Kept => ({
        ...{ kind: 'Images', name: image.names.join(' ') || image.id, bytes: image.bytes },
        ...{ active: kept.usersOf(image).length > 0, unused: image.names.length === 0 },
        remove: async () => void (await kept.remove(image.digest, { force: true, onWait })),
      }),
    ),
    ...store.made().map(
      (key): Kept => ({
        ...{ kind: 'Roots', name: key, bytes: diskUsage(`${store.directory}/${key}`) },
        ...{ active: store.isUsed(key), unused: !named.has(key) },
        remove: async () => void store.removeMade(key),
      }),
    ),
    ...keptRootDisks().map(
      ({ path, machine }): Kept => ({
        ...{ kind: 'Disks', name: machine, bytes: diskUsage(path) },
        ...{ active: processesUsing(path).length > 0, unused: false },
        remove: async () => void removeRootDisk(machine),
      }),
    ),
    ...(await templates.list()).map(
      (template): Kept => ({
        ...{ kind: 'Templates', name: template.key, bytes: template.bytes, active: false, unused: false },
        remove: async () => await templates.remove(template.key),
      }),
    ),
    ...(await listGuests())
      .filter(({ build }) => build.directory.startsWith(`${guestDirectory()}/`))
      .map(
        ({ build }): Kept => ({
          ...{ kind: 'Guests', name: `${build.name} ${build.key}`, bytes: diskUsage(build.directory) },
          ...{ active: build.current, unused: !build.current },
          remove: async () => removeGuest(build),
        }),
      ),
  ];
}
