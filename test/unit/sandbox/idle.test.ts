import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Sandbox } from '../../../src/sandbox/sandbox.js';
import { fakeSandbox } from '../../support/fake-agent.js';

/** Sandbox with an idle policy, and what is done to it. */
function idleSandbox(onTimeout: 'kill' | 'pause'): { box: Sandbox; done: string[] } {
  const done: string[] = [];
  const does = (what: string) => async (): Promise<void> => void done.push(what);
  const { backing } = fakeSandbox({ pause: does('pause'), resume: does('resume'), kill: does('kill') });
  return { box: new Sandbox(backing, { timeoutMs: 150, onTimeout }), done };
}

test('a sandbox that nobody uses is ended', async () => {
  const { box, done } = idleSandbox('kill');
  await sleep(300);
  expect(done).toEqual(['kill']);
  await box.kill();
  expect(done).toEqual(['kill']);
});

test('one that is used is not, as long as a command runs', async () => {
  const { box, done } = idleSandbox('kill');
  await box.exec('sleep 0.4');
  const job = box.spawn('sleep 0.4');
  await job.wait();
  expect(done).toEqual([]);
  await sleep(300);
  expect(done).toEqual(['kill']);
});

test('one that was paused goes on with the next call, once', async () => {
  const { box, done } = idleSandbox('pause');
  await sleep(300);
  expect(done).toEqual(['pause']);
  await Promise.all([box.exec('true'), box.exec('true'), box.exec('true')]);
  expect(done).toEqual(['pause', 'resume']);
  await sleep(300);
  await box.resume();
  expect(done).toEqual(['pause', 'resume', 'pause', 'resume']);
  await box.kill();
  await sleep(300);
  expect(done).toEqual(['pause', 'resume', 'pause', 'resume', 'kill']);
});

test('one that cannot be resumed says so to each call, and is tried again', async () => {
  let broken = true;
  const { backing } = fakeSandbox({
    pause: async () => {},
    resume: async () => {
      if (broken) throw new Error('it stands still');
    },
  });
  const box = new Sandbox(backing, { timeoutMs: 100, onTimeout: 'pause' });
  await sleep(250);
  await expect(box.exec('true')).rejects.toThrow('it stands still');
  await expect(box.exec('true')).rejects.toThrow('it stands still');
  broken = false;
  expect((await box.exec('true')).exitCode).toBe(0);
  await box.kill();
});

test('a copy has the policy of its original', async () => {
  const ended: string[] = [];
  const copy = fakeSandbox({ kill: async () => void ended.push('copy') }).backing;
  const { backing } = fakeSandbox({ fork: async () => [copy] });
  const box = new Sandbox(backing, { timeoutMs: 100, onTimeout: 'kill' });
  await box.fork();
  await sleep(300);
  expect(ended).toEqual(['copy']);
});
