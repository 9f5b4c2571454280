/**
 * An OCI layout to the first output of a command in it: the first time, when a root and a template are made, and again. A machine, a
 * container, and podman in turn, each with a store of its own; and what an image takes on the disk.
 */
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { diskUsage } from '../../src/host/disk/disk-usage.js';
import { MIB } from '../../src/util/units.js';
import { makeOciLayout } from '../../test/support/oci-layout.js';
import { type BenchContext, type Benchmark, type Measurement, needsGuest } from '../lib/benchmark.js';
import { TSVM } from '../lib/tsvm-command.js';

/** Statically linked, of Debian's busybox-static. */
const BUSYBOX = '/bin/busybox';
const COMMAND = [BUSYBOX, 'echo', 'x'];
/** Files of images, as many as such ones have; half of each can be compressed. */
const IMAGES = [
  { name: '5 MB', files: 60, fileBytes: 48 * 1024 },
  { name: '120 MB', files: 6000, fileBytes: 19 * 1024 },
] as const;

/** Limits that podman would raise, which a host may not let it. */
const PODMAN_LIMITS = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024'];

export const imageStart: Benchmark = {
  name: 'image-start',
  summary: 'an image to the first output of a command in it, first and second time, beside podman',
  defaultRuns: () => 5,
  unfit: (host) =>
    needsGuest(host) ??
    (existsSync(BUSYBOX) ? undefined : `${BUSYBOX} is missing: apt-get install busybox-static`),
  async run(context) {
    const measurements: Measurement[] = [];
    for (const image of IMAGES) {
      const layout = makeLayout(join(context.scratch, image.name), image.files, image.fileBytes);
      measurements.push(...(await measure(context, image.name, layout)));
    }
    return measurements;
  },
};

/** Way to run a command in an image; its store is in `folder`. */
interface Way {
  readonly name: string;
  command(folder: string): { argv: readonly string[]; env: Readonly<Record<string, string>> };
  /** Folder of what it made of the image. */
  readonly made: string;
}

function waysFor(layout: string, { scratch, log }: BenchContext): readonly Way[] {
  const tsvm = (isolation: string): Way['command'] => {
    const argv = [
      process.execPath,
      TSVM,
      'run',
      '--isolation',
      isolation,
      '--image',
      layout,
      '--',
      ...COMMAND,
    ];
    return (folder) => ({
      argv,
      env: { TSVM_IMAGE_DIR: join(folder, 'images'), TSVM_TEMPLATE_DIR: join(folder, 'templates') },
    });
  };
  // It makes a name of the path, in which it takes no capitals.
  const podman: Way = {
    name: 'podman run',
    command: (folder) => ({
      argv: [
        ...['podman', '--root', join(folder, 'images'), '--runroot', join(folder, 'run')],
        ...[
          'run',
          '--rm',
          '--network',
          'none',
          '--cgroups',
          'disabled',
          ...PODMAN_LIMITS,
          `oci:${basename(layout)}`,
          ...COMMAND,
        ],
      ],
      env: {},
    }),
    made: 'images',
  };
  const ways: Way[] = [
    { name: 'tsvm run, machine', command: tsvm('vm'), made: 'images' },
    { name: 'tsvm run, container', command: tsvm('container'), made: 'images' },
  ];
  const { argv } = podman.command(join(scratch, 'try'));
  const [program = '', ...args] = argv;
  const { error, status, stderr } = spawnSync(program, args, { cwd: dirname(layout), encoding: 'utf8' });
  if (status === 0) return [...ways, podman];
  log(`podman does not work here: ${error?.message ?? stderr.trim().split('\n').at(-1)}`);
  return ways;
}

async function measure(context: BenchContext, image: string, layout: string) {
  const { runs, scratch, log } = context;
  const samples = new Map<string, number[]>();
  const sizes = new Map<string, number>();
  const ways = waysFor(layout, context);
  for (let run = 1; run <= runs; run++) {
    for (const way of ways) {
      const folder = join(scratch, `${image}-${run}`, way.name);
      mkdirSync(folder, { recursive: true });
      const { argv, env } = way.command(folder);
      for (const time of ['first', 'second']) {
        const metric = `${image}: ${way.name}, ${time} time`;
        const ms = await toFirstOutput(argv, env, dirname(layout));
        samples.set(metric, [...(samples.get(metric) ?? []), ms]);
        log(`round ${run} of ${runs}: ${metric} ${ms.toFixed(0)} ms`);
      }
      sizes.set(`${image}: what ${way.name} keeps of it`, diskUsage(join(folder, way.made)) / MIB);
      spawnSync('rm', ['-rf', folder]);
    }
  }
  return [
    ...[...samples].map(([metric, values]) => ({ metric, unit: 'ms', samples: values })),
    ...[...sizes].map(([metric, size]) => ({ metric, unit: 'MiB', samples: [size] })),
  ];
}

/** Milliseconds from just before the process is made until something comes out of it; its end is waited for. */
async function toFirstOutput(
  [program = '', ...args]: readonly string[],
  env: Readonly<Record<string, string>>,
  cwd: string,
): Promise<number> {
  const start = performance.now();
  const child = spawn(program, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  let first: number | undefined;
  child.stdout.on('data', () => {
    first ??= performance.now() - start;
  });
  await once(child, 'close');
  if (first === undefined) throw new Error(`${program} ${args.join(' ')} printed nothing: ${said}`);
  return first;
}

function makeLayout(folder: string, files: number, fileBytes: number): string {
  const root = join(folder, 'root');
  mkdirSync(join(root, 'bin'), { recursive: true });
  copyFileSync(BUSYBOX, join(root, BUSYBOX));
  for (let i = 0; i < files; i++) {
    const directory = join(root, `usr/share/d${i % 100}`);
    mkdirSync(directory, { recursive: true });
    const half = Math.floor((fileBytes * (1 + (i % 3))) / 4);
    writeFileSync(join(directory, `${i}`), Buffer.concat([randomBytes(half), Buffer.alloc(half, 'text ')]));
  }
  return makeOciLayout(join(folder, 'layout'), [{ directory: root }]);
}
