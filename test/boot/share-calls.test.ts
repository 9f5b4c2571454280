/**
 * Some 270 system-call checks on a shared folder, judged by what the folder itself and QEMU's virtiofsd say to the same checks
 * (test/shares/). Each difference has its reason in test/shares/differences.ts and in docs/devices/fs.md.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { AS_VIRTIOFSD, DIFFERENCES } from '../shares/differences.js';
import { type CliResult, run, tsvm } from '../support/cli.js';
import { initramfsWith, inRig, interpreted, temporaryDirectory } from '../support/guest.js';
import { answers, expectedAnswers, shareCalls, shareCallsProblem } from '../support/share-calls.js';
import { skipAll } from '../support/skip.js';
import { notRoot } from '../support/skip-reasons.js';

/** Timeout, less than a file of tests may take in the rig. */
const TIMEOUT_MS = 540_000;
/** Names of the checks of many: more than the guest's kernel reads of a folder at once. */
const MANY = 30;
/** Part of the names of checks that run. Where ring 0 is interpreted, all take half an hour: only those that the rig's file system leaves out. */
const ONLY = interpreted ? 'xattr.' : '.';
/** Checks whose answers a host's kernel and file system may change, at most. */
const MAX_NOT_COMPARED = 40;

const problem = notRoot() ?? shareCallsProblem();
/** The rig's own temporary folder is an overlay, which differs from all file systems. */
const root = temporaryDirectory(inRig ? '/dev/shm' : tmpdir());
const expected = new Map([...expectedAnswers()].filter(([name]) => name.includes(ONLY)));

describe('a shared folder', () => {
  skipAll(problem);

  let onHost: ReadonlyMap<string, string>;
  let inGuest: ReadonlyMap<string, string>;

  beforeAll(async () => {
    if (problem !== undefined) return;
    const [host, shared] = [join(root, 'host'), join(root, 'shared')];
    for (const folder of [host, shared]) mkdirSync(folder, { mode: 0o755 });
    const program = shareCalls();
    const initrd = await initramfsWith(root, { 'share-calls': program });
    onHost = answersOf(await run(program, [host, String(MANY), ONLY]));
    const script = `mkdir -p /mnt && mount -t virtiofs judge /mnt && exec /share-calls /mnt ${MANY} ${ONLY}`;
    const args = ['boot', '--initrd', initrd, '--share', `${shared}:judge,xattr`, '--', 'sh', '-c', script];
    inGuest = answersOf(await tsvm(args, { timeoutMs: TIMEOUT_MS - 20_000 }));
  }, TIMEOUT_MS);

  test('answers every check as the folder itself does, but for the differences that have a reason', () => {
    expect([...onHost.keys()].sort()).toEqual([...expected.keys()].sort());
    const comparable = new Map([...expected].filter(([name, { host }]) => onHost.get(name) === host));
    const others = [...expected.keys()].filter((name) => !comparable.has(name));
    expect(others.length, `the folder itself differs in ${others}`).toBeLessThanOrEqual(MAX_NOT_COMPARED);
    const agrees = (name: string): boolean => inGuest.get(name) === comparable.get(name)?.host;
    const found = [...comparable]
      .filter(([name]) => !agrees(name))
      .map(([name]) => [name, inGuest.get(name)]);
    const known = DIFFERENCES.flatMap(({ checks, mayAgree }) =>
      Object.entries(checks).filter(([name]) => !(mayAgree && agrees(name))),
    )
      .filter(([name]) => comparable.has(name))
      .map(([name, said]) => [name, answer(said, comparable.get(name)?.virtiofsd)]);
    expect(Object.fromEntries(found)).toEqual(Object.fromEntries(known));
  });

  test('leaves nothing behind', async () => {
    expect((await run('ls', ['-A', join(root, 'shared')])).stdout.toString()).toBe('');
  });
});

test('each difference is one of the table, once, and has its reason in the documentation', () => {
  const names = DIFFERENCES.flatMap(({ checks }) => Object.keys(checks));
  expect(new Set(names).size).toBe(names.length);
  const all = expectedAnswers();
  expect(names.filter((name) => !all.has(name))).toEqual([]);
  const documentation = readFileSync('docs/devices/fs.md', 'utf8').replaceAll(/\s+/g, ' ');
  for (const { why } of DIFFERENCES) expect(documentation).toContain(why);
});

function answer(said: string | RegExp, virtiofsd: string | undefined): unknown {
  if (said instanceof RegExp) return expect.stringMatching(said);
  return said === AS_VIRTIOFSD ? virtiofsd : said;
}

function answersOf({ status, stdout, stderr }: CliResult): Map<string, string> {
  expect(status, `${stdout}${stderr}`).toBe(0);
  return answers(stdout.toString('latin1'));
}
