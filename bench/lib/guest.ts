/** The default guest as the benchmarks boot it: quiet, one CPU, the serial console, `true` as its command. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeCpio } from '../../src/boot/cpio.js';
import {
  createMachine,
  type Guest,
  type Machine,
  type MachineConfig,
  type MachineTimeline,
} from '../../src/index.js';
import { S_IFREG } from '../../src/util/file-mode.js';
import { MIB } from '../../src/util/units.js';
import type { BenchHost } from './benchmark.js';

/** Enough for the guest, and little to initialise. */
export const GUEST_MEMORY_BYTES = 64 * MIB;

export function guestOf(host: BenchHost): Guest {
  if (host.guest === undefined) throw new Error('the default guest is not built');
  return host.guest;
}

export function guestConfig(
  host: BenchHost,
  argv: readonly string[],
  more: MachineConfig = {},
): MachineConfig {
  return {
    ...guestOf(host),
    memoryBytes: GUEST_MEMORY_BYTES,
    command: { argv, tty: false },
    ...more,
  };
}

/** Boots, waits for the end, and says what it took. Throws, with the console, if the guest's command did not succeed. */
export async function runGuest(config: MachineConfig): Promise<MachineTimeline> {
  const machine = await createMachine(config);
  let text = '';
  machine.on('console', (bytes) => {
    text += Buffer.from(bytes).toString('latin1');
  });
  await machine.start();
  const end = await machine.wait();
  if (end.kind !== 'power-off' || end.exitStatus !== 0)
    throw new Error(`the guest ended with ${JSON.stringify(end)}; its console:\n${text}`);
  return machine.timeline();
}

/** Boots until the guest's command runs. */
export async function bootGuest(config: MachineConfig): Promise<Machine> {
  const machine = await createMachine(config);
  const running = new Promise<void>((resolve) => {
    machine.on('mark', ({ name }) => {
      if (name === 'command') resolve();
    });
  });
  const ended = machine.wait().then((end) => {
    throw new Error(`the guest ended before its command ran: ${JSON.stringify(end)}`);
  });
  await machine.start();
  await Promise.race([running, ended]);
  ended.catch(() => {}); // it ends later, as asked
  return machine;
}

/** The guest's initramfs with a program of bench/guest in it, as /io or /stream. */
export function initramfsWithProgram(host: BenchHost, scratch: string, name: 'io' | 'stream'): string {
  const path = join(scratch, `initramfs-${name}.cpio`);
  const program = readFileSync(new URL(`../../${name}`, import.meta.url));
  const base = readFileSync(guestOf(host).initrd);
  const padding = Buffer.alloc((4 - (base.length % 4)) % 4);
  writeFileSync(
    path,
    Buffer.concat([base, padding, writeCpio([{ path: name, mode: S_IFREG | 0o755, data: program }])]),
  );
  return path;
}

/** What one run of `io` took: the guest's own clock, and what it cost the host. */
export interface IoRun {
  readonly seconds: number;
  /** Of the process, all threads. */
  readonly cpuSeconds: number;
  readonly exitsToJavaScript: number;
  /** Exits that KVM counted, most of which it serves itself; NaN where it has no counters. */
  readonly kvmExits: number;
}

/** Runs `io` in a fresh machine. */
export async function runIo(config: MachineConfig): Promise<IoRun> {
  const machine = await createMachine(config);
  let tail = '';
  let start: Snapshot | undefined;
  let result: IoRun | undefined;
  machine.on('console', (bytes) => {
    tail = (tail + Buffer.from(bytes).toString('latin1')).slice(-64);
    if (start === undefined && tail.includes('<begin>')) start = snapshot(machine);
    const match = /<end (\d+)>/.exec(tail);
    if (match === null || start === undefined || result !== undefined) return;
    const stop = snapshot(machine);
    result = {
      seconds: Number(match[1]) / 1e9,
      cpuSeconds: stop.cpuSeconds - start.cpuSeconds,
      exitsToJavaScript: stop.exitsToJavaScript - start.exitsToJavaScript,
      kvmExits: stop.kvmExits - start.kvmExits,
    };
  });
  await machine.start();
  const end = await machine.wait();
  if (result === undefined)
    throw new Error(`the guest ended with ${JSON.stringify(end)}; its last words: ${tail}`);
  return result;
}

interface Snapshot {
  readonly cpuSeconds: number;
  readonly exitsToJavaScript: number;
  readonly kvmExits: number;
}

function snapshot(machine: Machine): Snapshot {
  const { exits, kvmStats } = machine.timeline();
  return {
    cpuSeconds: cpuSeconds(),
    exitsToJavaScript: exits.toJavaScript - exits.byHostProfile,
    kvmExits: kvmStats?.['exits'] ?? Number.NaN,
  };
}

/** CPU time of this process so far, user and system, all threads. */
export function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}
