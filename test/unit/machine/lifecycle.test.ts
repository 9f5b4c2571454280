/** The end of a machine, whatever of it there is by then. */
import { expect, onTestFinished, test, vi } from 'vitest';
import { Lifecycle } from '../../../src/machine/lifecycle.js';
import { Timeline } from '../../../src/machine/report/timeline.js';

const STOPPED = { kind: 'stopped' } as const;

function lifecycle() {
  const life = new Lifecycle(new Timeline());
  const seen: string[] = [];
  life.events.on('state', (state) => seen.push(`state ${state}`));
  life.events.on('end', ({ kind }) => seen.push(`end ${kind}`));
  return { life, seen };
}

test('Lifecycle.finish() stops, then releases in reverse order, then tells; the first end counts', async () => {
  const { life, seen } = lifecycle();
  life.cleanup.defer(() => seen.push('second released'));
  life.cleanup.defer(() => seen.push('first released'));
  life.onFinish(() => seen.push('vCPUs stop'));
  life.finish({ kind: 'triple-fault' });
  expect([life.isOver, life.state, seen]).toEqual([true, 'ready', ['vCPUs stop']]);
  await life.kill();
  expect(seen.slice(1)).toEqual(['first released', 'second released', 'state ended', 'end triple-fault']);
  expect(await life.ended).toEqual({ kind: 'triple-fault' });
});

test('Lifecycle.onFinish() of a machine that ended while it was put together calls at once', async () => {
  const { life, seen } = lifecycle();
  life.memoryLost('gone');
  life.onFinish(() => seen.push('vCPUs stop'));
  expect(seen).toEqual(['vCPUs stop']);
  expect(await life.ended).toEqual({ kind: 'kvm-error', message: 'gone', registers: '' });
});

test('Lifecycle.kill() tells of a release that fails, for the guest may believe in what is not there', async () => {
  const { life } = lifecycle();
  life.cleanup.defer(() => Promise.reject(new Error('the disk is full')));
  await life.kill();
  expect(await life.ended).toEqual({ kind: 'kvm-error', message: 'the disk is full', registers: '' });
});

test('Lifecycle ends by a listener that throws, and warns of one that throws after the end', async () => {
  const { life } = lifecycle();
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  onTestFinished(() => warn.mockRestore());
  life.events.on('state', () => {
    throw new Error('no good');
  });
  life.state = 'running';
  expect(await life.ended).toMatchObject({ kind: 'bug', message: expect.stringContaining('no good') });
  expect(warn.mock.calls.map(([message]) => message)).toEqual([
    "a fault in a listener for 'state': Error: no good, after the machine's end",
  ]);
});

test('Lifecycle keeps the first mark of each code, and the console for whoever listens', async () => {
  const { life } = lifecycle();
  const heard: string[] = [];
  life.events.on('console', (bytes) => heard.push(Buffer.from(bytes).toString()));
  life.events.on('mark', ({ name }) => heard.push(name));
  life.terminal.onOutput(Buffer.from('hello'));
  life.mark(1, () => 7);
  life.mark(9, () => undefined);
  expect(heard).toEqual(['hello', 'init', 'mark-9']);
  expect(life.timeline.entries).toMatchObject([{ name: 'init', insnEmulation: 7 }, { name: 'mark-9' }]);
  await life.kill();
  expect(await life.ended).toEqual(STOPPED);
});
