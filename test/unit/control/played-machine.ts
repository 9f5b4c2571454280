import { PassThrough } from 'node:stream';
import { vi } from 'vitest';
import type { Machine, MachineEnd } from '../../../src/machine/machine.js';

/** A machine that is played: it ends when it is killed. */
export function playedMachine() {
  let end: (end: MachineEnd) => void = () => {};
  const ended = new Promise<MachineEnd>((resolve) => {
    end = resolve;
  });
  const start = vi.fn(async () => {});
  const kill = vi.fn(async () => {
    machine.state = 'ended';
    end({ kind: 'stopped' });
  });
  const listeners = new Set<object>();
  const on = (): Disposable => {
    const listener = {};
    listeners.add(listener);
    return { [Symbol.dispose]: () => void listeners.delete(listener) };
  };
  const machine = { state: 'ready', config: {}, on, listeners, start, kill, wait: () => ended };
  return machine as unknown as Machine & { start: typeof start; kill: typeof kill; listeners: Set<object> };
}

/** A machine that is played, whose guest waits for a command, or has one. */
export function playedWithChannel(send: () => void, hasCommand = false) {
  const machine = playedMachine();
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const exited = machine.wait().then(() => {
    for (const stream of [stdout, stderr]) stream.end();
    return undefined;
  });
  const channel = { stdin, stdout, stderr, exited, send, hasCommand };
  return Object.assign(machine as object, { channel }) as unknown as typeof machine;
}
