import { vi } from 'vitest';
import type { Machine, MachineEnd } from '../../../src/machine/machine.js';

/** A machine that is played: it ends when it is killed. */
export function playedMachine() {
  let end: (end: MachineEnd) => void = () => {};
  const ended = new Promise<MachineEnd>((resolve) => {
    end = resolve;
  });
  const start = vi.fn(async () => {});
  const kill = vi.fn(async () => end({ kind: 'stopped' }));
  const machine = { state: 'ready', config: {}, on: () => {}, start, kill, wait: () => ended };
  return machine as unknown as Machine & { start: typeof start; kill: typeof kill };
}
