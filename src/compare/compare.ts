/** Machines and containers beside each other: the same program from the same image, and what it costs and sees. */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { CAPABILITIES } from '../container/capabilities.js';
import { controllersOf, hostHierarchies } from '../container/cgroup-host.js';
import { TsvmError } from '../errors.js';
import { findGuest } from '../guest/store.js';
import { readHostFacts } from '../host/facts.js';
import { statusField } from '../host/proc.js';
import { machineRoot } from '../image/machine-root.js';
import { ImageStore } from '../image/store.js';
import { detectProfile } from '../kvm/profiles/registry.js';
import { kvmProblem } from '../machine/check.js';
import type { MachineConfig } from '../machine/config.js';
import { Cleanup } from '../util/cleanup.js';
import { nativeFile, nativeRemedy, packageFile } from '../util/package-file.js';
import { containerSubject, engineSubjects } from './container-subject.js';
import { type Facts, type Finding, parseFacts, QUESTIONS } from './isolation.js';
import { machineSubjects } from './machine-subject.js';
import {
  type MemoryResult,
  measureMemory,
  measureStarts,
  type Progress,
  type StartResult,
} from './measure.js';
import type { ComparePart } from './parts.js';
import { shellSubject } from './shell-subject.js';
import type { Subject } from './subject.js';

export interface CompareOptions {
  /** Name of the machines' guest. Default: as `findGuest()` chooses. */
  readonly guest?: string;
  /** Number of starts of each. */
  readonly runs: number;
  /** Numbers of idle ones that memory is measured at, ascending. */
  readonly counts: readonly number[];
  readonly budgetBytes: number;
  /** Parts that are measured. */
  readonly parts: readonly ComparePart[];
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

export interface IsolationResult {
  readonly columns: readonly string[];
  readonly rows: readonly { readonly title: string; readonly findings: readonly Finding[] }[];
}

export interface Comparison {
  readonly version: 1;
  /** Host that the figures were measured on, without which they mean nothing. */
  readonly environment: Readonly<Record<string, string>>;
  /** Remarks on what this host does to the figures. */
  readonly notes: readonly string[];
  readonly budgetBytes: number;
  readonly starts: readonly StartResult[];
  readonly memory: readonly MemoryResult[];
  readonly isolation?: IsolationResult;
}

const MACHINE_BYTES = 128 << 20;

/** @throws TsvmError if containers cannot be made here, or there is no guest for machines where those can; whatever a measurement throws. */
export async function compare(options: CompareOptions): Promise<Comparison> {
  const { progress, signal } = options;
  const notes: string[] = [];
  const cleanup = new Cleanup();
  try {
    const root = nativeFile('probe-root');
    if (!existsSync(join(root, 'probe'))) {
      throw new TsvmError('TSVM_CONTAINER', `the probe ${root}/probe is missing`, {
        hint: nativeRemedy(),
      });
    }
    const archive = probeArchive(root);
    const noMachines = kvmProblem();
    if (noMachines !== undefined) notes.push(`machines are left out: ${noMachines.message}`);
    const subjects: Subject[] = [];
    const add = (...more: readonly Subject[]): void => {
      subjects.push(...more);
      for (const subject of more) cleanup.defer(() => subject[Symbol.asyncDispose]());
    };
    const walls = noMachines === undefined ? (['machine', 'container'] as const) : (['container'] as const);
    add(...shellSubjects(archive, walls, options.guest));
    if (noMachines === undefined) {
      progress('booting the machine that others are copies of');
      add(...(await machineSubjects(await configOfImage(archive, options.guest), signal)));
    }
    add(containerSubject('container', { layers: [root] }));
    add(
      ...(await engineSubjects({ layers: [root] }, (engine, why) =>
        notes.push(`${engine} is left out: ${why}`),
      )),
    );
    const starts = options.parts.includes('start')
      ? await measureStarts(subjects, options.runs, progress, signal)
      : [];
    const memory: MemoryResult[] = [];
    for (const subject of options.parts.includes('memory') ? subjects : []) {
      if (subject.alone === true) continue;
      memory.push(await measureMemory(subject, options.counts, options.budgetBytes, progress, signal));
    }
    const isolation = options.parts.includes('isolation')
      ? await measureIsolation(root, subjects, progress)
      : undefined;
    return {
      version: 1,
      environment: environment(noMachines === undefined),
      notes: [...(noMachines === undefined ? hostNotes() : []), ...notes],
      budgetBytes: options.budgetBytes,
      starts,
      memory,
      ...(isolation === undefined ? {} : { isolation }),
    };
  } finally {
    await cleanup.run();
  }
}

function shellSubjects(
  archive: string,
  walls: readonly Subject['wall'][],
  guest: string | undefined,
): Subject[] {
  const machine = guest === undefined ? [] : ['--guest', guest];
  const cli = packageFile('dist/bin/tsvm.cjs');
  const commands = [
    {
      name: 'tsvm run --no-template',
      wall: 'machine' as const,
      alone: true,
      arguments: (timeline: string) => [
        'run',
        ...machine,
        '--no-template',
        '--image',
        archive,
        '--timeline',
        timeline,
      ],
    },
    {
      name: 'tsvm run',
      wall: 'machine' as const,
      arguments: (timeline: string) => ['run', ...machine, '--image', archive, '--timeline', timeline],
    },
    {
      name: 'tsvm run --isolation container',
      wall: 'container' as const,
      arguments: () => ['run', '--isolation', 'container', '--image', archive],
    },
  ];
  return commands.filter(({ wall }) => walls.includes(wall)).map((command) => shellSubject(cli, command));
}

/** An image that never changes, since that is what images are. */
function probeArchive(root: string): string {
  const hash = createHash('sha256')
    .update(readFileSync(join(root, 'probe')))
    .digest('hex')
    .slice(0, 16);
  return new ImageStore().keepFile(`.probe-${hash}.tar`, (path) => {
    execFileSync('tar', ['-C', root, '--sort=name', '-cf', path, '.']);
  });
}

async function configOfImage(archive: string, name: string | undefined): Promise<MachineConfig> {
  const store = new ImageStore();
  const guest = await findGuest(name);
  const { device, parameters } = await machineRoot(await store.open(archive), store);
  return {
    ...guest,
    cmdline: `${guest.cmdline} ${parameters}`,
    memoryBytes: MACHINE_BYTES,
    devices: [device],
    channel: true,
  };
}

async function measureIsolation(
  root: string,
  subjects: readonly Subject[],
  progress: Progress,
): Promise<IsolationResult> {
  const host = parseFacts(spawnSync(join(root, 'probe'), ['look'], { encoding: 'utf8' }).stdout);
  const layers = [root];
  const looked: [string, Facts][] = [['no wall', host]];
  const look = async (name: string, subject: Subject | undefined): Promise<void> => {
    if (subject === undefined) return;
    progress(`what is to be seen: ${name}`);
    const { output } = await (await subject.start('look')).ended();
    looked.push([name, parseFacts(output)]);
  };
  const superuser = process.geteuid?.() === 0;
  if (superuser) {
    const share = ['user'] as const;
    const privileged = { layers, share, privileged: true, capabilities: CAPABILITIES };
    await look('container, privileged', containerSubject('', privileged));
    await look('container, as Docker', containerSubject('', { layers, share }));
  }
  await look('container', containerSubject('', { layers }));
  await look(
    'machine',
    subjects.find(({ name }) => name === 'machine, forked'),
  );
  return {
    columns: looked.map(([name]) => name),
    rows: QUESTIONS.map(({ title, answer }) => ({
      title,
      findings: looked.map(([, facts]) => answer(facts, host)),
    })),
  };
}

function environment(machines: boolean): Record<string, string> {
  const facts = readHostFacts();
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: `${cpus().length} CPUs (${cpus()[0]?.model.trim() ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB`,
    'ran on CPUs': allowedCpus(),
    'host kernel': release(),
    KVM: machines ? (facts.kvmModules.find((name) => name !== 'kvm') ?? 'kvm') : 'none',
    node: process.version,
    cgroups: cgroupVersions(),
    ...(machines ? { 'machine’s memory': `${MACHINE_BYTES >> 20} MiB` } : {}),
  };
}

/** List of the CPUs that this process may use: 0-1 (proc_pid_status(5)). */
function allowedCpus(): string {
  return statusField('self', 'Cpus_allowed_list') ?? 'all';
}

function cgroupVersions(): string {
  const versions = new Set(
    hostHierarchies()
      .filter((hierarchy) => controllersOf(hierarchy).length > 0)
      .map(({ version }) => version),
  );
  return versions.size === 0
    ? 'none'
    : [...versions]
        .sort()
        .map((version) => `version ${version}`)
        .join(' and ');
}

function hostNotes(): string[] {
  const { limitations } = detectProfile(readHostFacts());
  return [...limitations];
}
