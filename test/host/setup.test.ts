/** Refusals of scripts/setup, scripts/quickstart and scripts/pack when they cannot go on, and what an interrupt leaves. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run } from '../support/cli.js';
import { eventually } from '../support/eventually.js';
import { temporaryDirectory } from '../support/guest.js';

const project = join(import.meta.dirname, '../..');
const root = temporaryDirectory();

/** A shell that has scripts/lib.sh, and runs `script`. */
const shell = (script: string): string[] => [
  '-c',
  `cd "${project}" && source scripts/lib.sh && ${script}`,
  'setup',
];
/** A step that says `text` and fails. */
const failing = (text: string): string[] => shell(`step 'the work' sh -c 'echo "${text}" >&2; exit 3'`);

test.for([
  [
    'a full disk',
    'cp: error writing x: No space left on device',
    /^setup: the work: the disk is full: .* has .* left, /,
  ],
  ['no network, for npm', 'npm error code EAI_AGAIN', /^setup: the work: no network: EAI_AGAIN$/],
  [
    'no network, for apt',
    'W: Temporary failure resolving deb',
    /^setup: the work: no network: .* resolving deb$/,
  ],
  [
    'no lists of apt’s',
    'E: Unable to locate package cmake',
    /^setup: the work: apt knows no package cmake: .*apt-get update$/,
  ],
] as const)('a step that fails of %s says it in one line', async ([, text, line]) => {
  const { status, stderr } = await run('bash', failing(text));
  expect(stderr.split('\n')).toEqual([expect.stringContaining('the work'), expect.stringMatching(line), '']);
  expect(status).toBe(1);
});

test('another failure has its status and what was said last', async () => {
  const { stderr } = await run('bash', failing('what now'));
  expect(stderr).toMatch(/\nsetup: the work: it ended with 3, and said last:\n {2}what now\n$/);
});

test('where there is no apt, set-up says so before it does anything', async () => {
  const bin = join(root, 'bin');
  mkdirSync(bin);
  for (const name of ['bash', 'dirname', 'uname']) symlinkSync(`/usr/bin/${name}`, join(bin, name));
  for (const script of ['quickstart', 'setup']) {
    const { status, stderr } = await run(join(project, 'scripts', script), [], { env: { PATH: bin } });
    expect(stderr).toMatch(new RegExp(`^${script}: this is not Debian: .*\n$`));
    expect(status).toBe(1);
  }
});

test('where apt has no lists, the guest on Debian’s kernel says so, or takes the version that it took last', async () => {
  const guests = join(root, 'guests');
  const last = join(guests, 'parts/last-kernel-debian');
  mkdirSync(join(root, 'lists/partial'), { recursive: true });
  mkdirSync(last, { recursive: true });
  const config = join(root, 'apt.conf');
  writeFileSync(config, `Dir::State::lists "${root}/lists"; Dir::Cache "${root}";`);
  const needs = () =>
    run(join(project, 'guests/build'), ['needs', 'debian'], {
      env: { APT_CONFIG: config, TSVM_GUEST_DIR: guests },
    });
  const without = await needs();
  expect(without.stderr).toMatch(
    /^guests\/build: apt knows no package linux-image-amd64: apt-get update .*\n$/,
  );
  expect(without.status).toBe(1);
  writeFileSync(join(last, 'inputs'), 'package linux-image-6.1.0-1-amd64 6.1.1-1\n');
  expect(await needs()).toMatchObject({ status: 0, stderr: '' });
});

test.for([
  ['is there and what builds it is not installed, is taken as it is', true, false, 0],
  ['is there and so is what builds it, is built anew if its recipe has changed', true, true, 1],
  ['is not there, is built', false, false, 1],
] as const)('a guest that %s', async ([name, built, installed, expected]) => {
  const folder = join(root, name);
  mkdirSync(join(folder, 'guests', built ? 'default' : ''), { recursive: true });
  mkdirSync(join(folder, 'bin'));
  const script = `#!/bin/sh\n${installed ? 'echo installed' : 'exit 1'}\n`;
  writeFileSync(join(folder, 'bin/dpkg-query'), script, { mode: 0o755 });
  const env = {
    TSVM_GUEST_DIR: join(folder, 'guests'),
    PATH: `${join(folder, 'bin')}:${process.env['PATH']}`,
  };
  const { status, stderr } = await run('bash', shell('is_taken_as_it_is default'), { env });
  expect([status, stderr]).toEqual([expected, '']);
});

test('where no guest was built, packing says so, whether or not there is a folder for guests', async () => {
  for (const TSVM_GUEST_DIR of [root, join(root, 'none')]) {
    const { status, stderr } = await run(join(project, 'scripts/pack'), [root], { env: { TSVM_GUEST_DIR } });
    expect([status, stderr]).toEqual([1, 'pack: build the guest first: guests/build\n']);
  }
});

/** Interrupts `script` once the file `begun` is there; its exit status. */
async function interrupted(script: string): Promise<number | null> {
  const begun = join(root, 'begun');
  rmSync(begun, { force: true });
  const child = spawn('bash', shell(script), { env: { ...process.env, AT: root }, stdio: 'ignore' });
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
  await eventually(() => existsSync(begun)).toBe(true);
  child.kill('SIGINT');
  return await exited;
}

test('an interrupt ends the step’s command, but one that must not be cut short comes to its end', async () => {
  expect(await interrupted(`step x sh -c 'echo $$ >$AT/pid; >$AT/begun; exec sleep 1000'`)).toBe(130);
  const pid = Number(readFileSync(join(root, 'pid'), 'utf8'));
  await eventually(() => existsSync(`/proc/${pid}`)).toBe(false);
  expect(await interrupted(`whole=1 step x sh -c '>$AT/begun; sleep 1; >$AT/whole'`)).toBe(130);
  expect(existsSync(join(root, 'whole'))).toBe(true);
});
