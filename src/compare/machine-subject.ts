/** Machines in this process: restored from a saved one, or forked from one that stays. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beginCommand } from '../guest/life.js';
import type { MachineConfig } from '../machine/config.js';
import type { Machine } from '../machine/machine.js';
import { openSavedMachine, type SavedMachine } from '../machine/restore.js';
import { bootToReady } from '../template/template.js';
import { Cleanup } from '../util/cleanup.js';
import { collectOutput } from './output.js';
import { machinePhases } from './phases.js';
import type { Instance, ProbeMode, Subject } from './subject.js';

/** Boots the machine that all are copies of; `signal` ends that. */
export async function machineSubjects(
  config: MachineConfig,
  signal: AbortSignal,
): Promise<readonly Subject[]> {
  const scratch = mkdtempSync(join(tmpdir(), 'tsvm-compare-'));
  const cleanup = new Cleanup();
  cleanup.defer(() => rmSync(scratch, { recursive: true, force: true }));
  try {
    signal.throwIfAborted();
    const parent = await bootToReady(config, {
      onBoot: (machine) => signal.addEventListener('abort', () => void machine.kill(), { once: true }),
    });
    cleanup.defer(() => parent.kill());
    signal.throwIfAborted();
    await parent.snapshot(join(scratch, 'saved'));
    await parent.pause();
    const saved = await openSavedMachine(join(scratch, 'saved'));
    cleanup.defer(() => saved[Symbol.asyncDispose]());
    return subjectsOf(parent, saved, config, cleanup);
  } catch (error) {
    await cleanup.run();
    throw error;
  }
}

function subjectsOf(
  parent: Machine,
  saved: SavedMachine,
  { devices = [] }: MachineConfig,
  cleanup: Cleanup,
): readonly Subject[] {
  return [
    {
      name: 'machine, restored',
      wall: 'machine',
      from: 'process',
      start: (mode) => startMachine(() => saved.restore({ devices }), mode),
      [Symbol.asyncDispose]: () => cleanup.run(),
    },
    {
      name: 'machine, forked',
      wall: 'machine',
      from: 'process',
      start: (mode) =>
        startMachine(async () => {
          const [fork] = await parent.fork(1);
          if (fork === undefined) throw new Error('there is no fork');
          return fork;
        }, mode),
      async [Symbol.asyncDispose]() {}, // with the other
    },
  ];
}

async function startMachine(make: () => Promise<Machine>, mode: ProbeMode): Promise<Instance> {
  const begun = performance.now();
  const since = (): number => performance.now() - begun;
  const machine = await make();
  const life = beginCommand(machine, {
    command: { argv: ['/probe', mode], env: {} },
    connect({ stderr }) {
      stderr.resume();
      return async () => {};
    },
  });
  const { channel } = life;
  const output = collectOutput(channel.stdout, since);
  if (mode !== 'idle') channel.stdin.end();
  if (machine.state === 'ready') await machine.start();
  const end = channel.exited.then((status) => {
    if (status !== 0) throw new Error(`the program ended with ${status} in a machine: ${output.text()}`);
    return since();
  });
  end.catch(() => {}); // whoever waits is told
  const firstMs = await Promise.race([output.firstMs, end]);
  return {
    firstMs,
    phases: machinePhases(machine.timeline().phases, begun, firstMs),
    processes: () => [],
    cgroupBytes: () => undefined,
    async ended() {
      channel.stdin.end();
      const ms = await end;
      await life.end();
      return { ms, output: output.text() };
    },
    stop: () => machine.kill(),
  };
}
