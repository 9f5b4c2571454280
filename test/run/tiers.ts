/** The tiers of the test run, in the order in which they run: what fails quickest comes first. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

export interface Tier {
  readonly name: string;
  /** Longer than this fails the run: what a change adds it pays for. For two cores, and thrice what a quiet machine takes. */
  readonly ceilingSeconds: number;
  /** Set where not every run has it, so that it is not counted to the whole: a host's own KVM, and what fetches from the network. */
  readonly extra?: true;
  /** Set where it starts an emulated machine: `--no-rig` leaves it out. */
  readonly inRig?: true;
  readonly what:
    | { readonly kind: 'command'; readonly command: readonly [program: string, ...args: string[]] }
    /** Projects of vitest.config.ts. */
    | { readonly kind: 'projects'; readonly projects: readonly string[]; readonly needsKvm?: boolean }
    | { readonly kind: 'rigs' };
}

const npm = (script: string) => ({ kind: 'command', command: ['npm', 'run', '--silent', script] }) as const;

export const TIERS: readonly Tier[] = [
  { name: 'lint', ceilingSeconds: 20, what: npm('lint') },
  { name: 'types', ceilingSeconds: 60, what: npm('typecheck') },
  { name: 'unit', ceilingSeconds: 150, what: { kind: 'projects', projects: ['unit'] } },
  { name: 'build', ceilingSeconds: 60, what: npm('build:ts') },
  {
    name: 'fetch',
    ceilingSeconds: 900,
    extra: true,
    what: { kind: 'command', command: [process.execPath, 'test/built/run/prefetch.mjs'] },
  },
  {
    name: 'nodes',
    ceilingSeconds: 240,
    what: { kind: 'command', command: ['test/run/node-versions', 'unit'] },
  },
  {
    name: 'new user',
    ceilingSeconds: 1800,
    extra: true,
    inRig: true,
    what: { kind: 'command', command: ['test/run/new-user'] },
  },
  { name: 'host', ceilingSeconds: 240, what: { kind: 'projects', projects: ['host'] } },
  { name: 'containers', ceilingSeconds: 200, what: { kind: 'projects', projects: ['container'] } },
  {
    name: 'kvm',
    ceilingSeconds: 1800,
    extra: true,
    what: { kind: 'projects', projects: ['kvm', 'boot'], needsKvm: true },
  },
  { name: 'rig itself', ceilingSeconds: 120, inRig: true, what: { kind: 'projects', projects: ['rig'] } },
  {
    name: 'nodes, rig',
    ceilingSeconds: 180,
    inRig: true,
    what: { kind: 'command', command: ['test/run/node-versions', 'boot'] },
  },
  { name: 'rig', ceilingSeconds: 1800, inRig: true, what: { kind: 'rigs' } },
];

/** Bound of everything but what is extra. */
export const CEILING_SECONDS = 2400;

/** Files that need cgroups of version 2, which a rig has and many hosts have not. */
const CONTAINERS_IN_RIG = /^container\/(engine-)?cgroups\./;

/** Files of more than two minutes: begun last, they would keep one rig busy long after the other has ended. */
const LONG = [
  'boot/systemd.test.ts',
  'boot/real-software.test.ts',
  'boot/background.test.ts',
  'boot/run.test.ts',
];

/** The files that run in a rig, named below test/: those that fail quickest first, but for the long ones before the middle. */
export function filesForRig(test: string): string[] {
  const [quick, boots] = [['kvm'], ['container', 'boot']].map((tiers) =>
    tiers.flatMap((tier) =>
      readdirSync(join(test, tier))
        .filter((name) => name.endsWith('.test.ts'))
        .map((name) => `${tier}/${name}`)
        .filter((file) => !file.startsWith('container/') || CONTAINERS_IN_RIG.test(file)),
    ),
  ) as [string[], string[]];
  return [
    ...quick,
    ...boots.filter((file) => LONG.includes(file)),
    ...boots.filter((file) => !LONG.includes(file)),
  ];
}
