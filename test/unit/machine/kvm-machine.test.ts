/** Ends of a machine by its user: asked, pressed, and with its plug pulled. */
import { getEventListeners } from 'node:events';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { MachineCore } from '../../../src/machine/core.js';
import { KvmMachine } from '../../../src/machine/kvm-machine.js';
import { Lifecycle } from '../../../src/machine/lifecycle.js';
import { Timeline } from '../../../src/machine/report/timeline.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
afterEach(() => void vi.useRealTimers());

const OFF = { kind: 'power-off', exitStatus: undefined } as const;

/** A machine that runs, whose guest powers off when `obeys` says so. */
function running(obeys: (insist: boolean) => boolean) {
  const lifecycle = new Lifecycle(new Timeline());
  lifecycle.state = 'running';
  const asked: boolean[] = [];
  const channel = {
    requestStop(insist: boolean): boolean {
      asked.push(insist);
      if (obeys(insist)) lifecycle.finish(OFF);
      return true;
    },
  };
  const platform = { pressCtrlAltDel: () => false };
  const machineWith = (parts: object): KvmMachine =>
    new KvmMachine({ lifecycle, parts: { platform, ...parts } } as unknown as MachineCore);
  return { lifecycle, asked, machine: machineWith({ channel }), deaf: machineWith({}) };
}

test('Machine.stop() of a guest that obeys ends with its power-off', async () => {
  const { machine, asked } = running(() => true);
  await machine.stop();
  expect([await machine.wait(), asked]).toEqual([OFF, [false]]);
});

test('Machine.stop() insists after the time that it was given', async () => {
  const { machine, asked } = running((insist) => insist);
  const stopped = machine.stop(60_000);
  await vi.advanceTimersByTimeAsync(59_999);
  expect(asked).toEqual([false]);
  await vi.advanceTimersByTimeAsync(1);
  await stopped;
  expect([await machine.wait(), asked]).toEqual([OFF, [false, true]]);
});

test('Machine.stop() pulls the plug of a guest that does not obey', async () => {
  const { machine, asked, lifecycle } = running(() => false);
  const stopped = machine.stop();
  await vi.advanceTimersByTimeAsync(10_000);
  expect([asked, lifecycle.isOver]).toEqual([[false, true], false]);
  await vi.advanceTimersByTimeAsync(2000);
  await stopped;
  expect(await machine.wait()).toEqual({ kind: 'stopped' });
});

test.each([
  ['where nobody listens in the guest', ({ deaf }: ReturnType<typeof running>) => deaf.stop()],
  ['that is given no time', ({ machine }: ReturnType<typeof running>) => machine.stop(0)],
  [
    'that is paused',
    ({ machine, lifecycle }: ReturnType<typeof running>) => {
      lifecycle.state = 'paused';
      return machine.stop();
    },
  ],
])('Machine.stop() of a machine %s pulls the plug at once', async (_what, stop) => {
  const at = running(() => true);
  await stop(at);
  expect([await at.machine.wait(), at.asked]).toEqual([{ kind: 'stopped' }, []]);
});

test.each([-1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31])('Machine.stop(%s) is refused', async (ms) => {
  const { machine, lifecycle } = running(() => true);
  await expect(machine.stop(ms)).rejects.toMatchObject({ code: 'TSVM_CONFIG' });
  expect(lifecycle.isOver).toBe(false);
});

test.each(['kill', Symbol.asyncDispose] as const)(
  'Machine.%s pulls the plug and asks nobody',
  async (way) => {
    const { machine, asked } = running(() => true);
    await Promise.all([machine[way](), machine.kill()]);
    await machine.stop();
    expect([await machine.wait(), asked]).toEqual([{ kind: 'stopped' }, []]);
  },
);

test('Machine.stop() that is aborted insists on nothing, and Machine.wait() leaves the machine alone', async () => {
  const { machine, asked, lifecycle } = running(() => false);
  const controller = new AbortController();
  const { signal } = controller;
  const reason = new Error('enough');
  const given = [machine.stop(60_000, { signal }), machine.wait({ signal })];
  for (const one of given) one.catch(() => {});
  await vi.advanceTimersByTimeAsync(1000);
  controller.abort(reason);
  for (const one of given) await expect(one).rejects.toBe(reason);
  await vi.advanceTimersByTimeAsync(120_000);
  expect([asked, lifecycle.isOver, getEventListeners(signal, 'abort')]).toEqual([[false], false, []]);
  await machine.kill();
});
