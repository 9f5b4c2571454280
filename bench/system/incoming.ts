/**
 * A saved Linux that prints all the time: from the start of a process to what it prints first. `tsvm restore` beside QEMU's
 * `-incoming`, in turn; each goes on with a state that it saved itself, of the same kernel, initramfs, memory and command.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MIB } from '../../src/util/units.js';
import { type BenchContext, type Benchmark, type Measurement, needsQemuBeside } from '../lib/benchmark.js';
import { bootGuest, guestConfig } from '../lib/guest.js';
import { initramfsWith, qemuArguments } from '../lib/qemu.js';
import { TSVM } from '../lib/tsvm-command.js';

const COMMAND = ['sh', '-c', 'while :; do echo x; done'];
/** By then it prints, whatever the kernel said before. */
const PRINTED_BYTES = 2000;
const QEMU = 'qemu-system-x86_64';

export const incoming: Benchmark = {
  name: 'incoming',
  summary: 'tsvm restore to the guest’s first output, beside QEMU microvm with -incoming',
  defaultRuns: () => 10,
  unfit: needsQemuBeside,
  async run(context) {
    const { runs, log } = context;
    const directory = await saveOurs(context);
    const { args, state } = await saveTheirs(context);
    const samples = new Map<string, number[]>();
    const add = (name: string, value: number): void => {
      samples.set(name, [...(samples.get(name) ?? []), value]);
    };
    // The first round fills the page cache and does not count.
    for (let round = 0; round <= runs; round++) {
      const node = await firstOutput(process.execPath, ['-e', 'console.log()']);
      const ours = await firstOutput(process.execPath, [TSVM, 'restore', directory]);
      const theirs = await firstOutput(QEMU, [...args, '-serial', 'stdio', '-incoming', `exec:cat ${state}`]);
      if (round === 0) continue;
      add('tsvm restore, to the first output', ours);
      add('QEMU microvm -incoming, to the first output', theirs);
      add('tsvm / QEMU', ours / theirs);
      add('tsvm / QEMU, Node apart', (ours - node) / theirs);
      add('node, to its first output', node);
      log(`round ${round} of ${runs}: tsvm ${ours.toFixed(0)} ms, QEMU ${theirs.toFixed(0)} ms`);
    }
    return [
      ...[...samples].map(
        ([metric, values]): Measurement => ({
          metric,
          unit: metric.includes('/') ? 'ratio' : 'ms',
          samples: values,
        }),
      ),
      { metric: 'state that QEMU saved', unit: 'MiB', samples: [statSync(state).size / MIB] },
    ];
  },
};

async function saveOurs({ host, scratch }: BenchContext): Promise<string> {
  const directory = join(scratch, 'printing');
  await using machine = await bootGuest(guestConfig(host, COMMAND));
  let printed = 0;
  const prints = new Promise<void>((resolve) => {
    machine.on('console', (bytes) => {
      printed += bytes.length;
      if (printed > PRINTED_BYTES) resolve();
    });
  });
  await prints;
  await machine.snapshot(directory);
  return directory;
}

async function saveTheirs({ host, scratch }: BenchContext): Promise<{ args: string[]; state: string }> {
  const args = qemuArguments(host, initramfsWith(host, scratch, COMMAND), []);
  const [output, monitor, state] = ['output', 'monitor', 'state'].map((name) => join(scratch, name));
  const qemu = spawn(
    QEMU,
    [...args, '-serial', `file:${output}`, '-monitor', `unix:${monitor},server,nowait`],
    {
      stdio: 'ignore',
    },
  );
  try {
    while (!(existsSync(`${output}`) && statSync(`${output}`).size > PRINTED_BYTES)) await sleep(100);
    const socket = connect(`${monitor}`);
    await once(socket, 'connect');
    // The monitor answers again when the migration, which is in the foreground, is done.
    socket.write(`migrate "exec:cat > ${state}"\nquit\n`);
    socket.resume();
    await once(qemu, 'exit');
    socket.destroy();
  } finally {
    qemu.kill('SIGKILL');
  }
  return { args, state: `${state}` };
}

/** Milliseconds from just before the process is made until something comes out of it; then it is killed. */
async function firstOutput(command: string, args: readonly string[]): Promise<number> {
  const start = performance.now();
  const child: ChildProcess = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const printed = await Promise.race([
    once(child.stdout as NonNullable<ChildProcess['stdout']>, 'data'),
    exited,
  ]);
  const ms = performance.now() - start;
  if (!Buffer.isBuffer(printed[0])) throw new Error(`${command} ${args.join(' ')} ended and printed nothing`);
  child.kill('SIGKILL');
  await exited;
  return ms;
}
