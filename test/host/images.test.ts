/** The command line of images under names. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { tsvmHere } from '../support/cli-here.js';
import { eventually } from '../support/eventually.js';
import { temporaryDirectory } from '../support/guest.js';
import { makeOciLayout } from '../support/oci-layout.js';
import { notRoot } from '../support/skip-reasons.js';

const folder = temporaryDirectory();
let count = 0;
const newPath = (): string => join(folder, String(count++));

/** A store of its own, with what a command line says of it. */
function newStore() {
  const env = {
    TSVM_IMAGE_DIR: newPath(),
    TSVM_TEMPLATE_DIR: newPath(),
    TSVM_GUEST_DIR: newPath(),
    TSVM_DISK_DIR: newPath(),
  };
  return {
    env,
    async tsvm(...args: string[]) {
      const { status, stdout, stderr } = await tsvmHere(args, env);
      return { status, stdout: stdout.toString(), stderr };
    },
  };
}
const layoutOf = (name: string): string => makeOciLayout(newPath(), [{ own: name }], { Cmd: ['sh'] }, name);

test('images are loaded, listed, tagged, saved and removed as Docker’s are', async () => {
  const { tsvm } = newStore();
  expect(await tsvm('load', '-i', layoutOf('debian:12'))).toMatchObject({
    status: 0,
    stdout: 'Loaded image: debian:12\n',
  });
  await tsvm('load', '-i', layoutOf('registry.example:5000/team/app:1.0'));
  expect((await tsvm('tag', 'debian:12', 'mine')).status).toBe(0);
  const { stdout } = await tsvm('images');
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.split(/ {2,}/));
  expect(lines[0]).toEqual(['REPOSITORY', 'TAG', 'IMAGE ID', 'CREATED', 'SIZE']);
  expect(lines.slice(1).map(([repository, tag]) => [repository, tag])).toEqual([
    ['debian', '12'],
    ['mine', 'latest'],
    ['registry.example:5000/team/app', '1.0'],
  ]);
  const id = lines[1]?.[2] ?? '';
  expect(id).toMatch(/^[0-9a-f]{12}$/);
  expect((await tsvm('images', '-q', 'mine')).stdout).toBe(`${id}\n`);
  expect((await tsvm('images', '-q', '--no-trunc', 'debian:12')).stdout).toMatch(/^sha256:[0-9a-f]{64}\n$/);
  expect((await tsvm('images', '-q', 'debian:13')).stdout).toBe('');
  expect((await tsvm('images', '--digests')).stdout).toMatch(/DIGEST .*\n.*sha256:[0-9a-f]{64}/);
  const all = JSON.parse((await tsvm('images', '--json')).stdout);
  expect(all[0].names).toEqual(['docker.io/library/debian:12', 'docker.io/library/mine:latest']);

  const archive = newPath();
  expect(await tsvm('save', '-o', archive, 'mine', id)).toMatchObject({ status: 0, stderr: '' });
  const other = newStore();
  expect((await other.tsvm('load', '-i', archive)).stdout).toBe('Loaded image: mine:latest\n');
  expect(
    readdirSync(folder).filter((name) => name.startsWith(`${archive.slice(folder.length + 1)}.`)),
  ).toEqual([]);

  expect(await tsvm('rmi', id)).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('has several names'),
  });
  expect((await tsvm('rmi', 'mine')).stdout).toBe('Untagged: docker.io/library/mine:latest\n');
  const gone = await tsvm('rmi', 'nothing', 'debian:12');
  expect(gone).toMatchObject({ status: 2, stderr: expect.stringContaining('there is no image "nothing"') });
  expect(gone.stdout).toMatch(/^Untagged: docker.io\/library\/debian:12\nDeleted: sha256:[0-9a-f]{64}\n$/);
  expect(await tsvm('rmi', '-f', 'nothing')).toMatchObject({ status: 0, stderr: '' });
});

test('an image that lost its name has none, and goes with system prune, which asks', async () => {
  const { tsvm, env } = newStore();
  for (const layout of [layoutOf('app:1'), layoutOf('app:1')]) {
    writeFileSync(join(layout, 'more'), '');
    await tsvm('load', '-i', layout);
  }
  await tsvm('load', '-i', makeOciLayout(newPath(), [{ other: '' }], {}, 'app:1'));
  expect((await tsvm('images')).stdout).toMatch(/^<none> +<none> +[0-9a-f]{12} /m);
  mkdirSync(env.TSVM_DISK_DIR, { mode: 0o700 });
  writeFileSync(join(env.TSVM_DISK_DIR, `web@${'0'.repeat(16)}`), 'x'.repeat(5000));
  expect((await tsvm('system', 'df')).stdout).toMatch(
    /^Images +[23] +0 .*\n(.*\n)*Disks +1 +0 +8 KiB +0 B\n(.*\n)*Guests +0/m,
  );
  expect(JSON.parse((await tsvm('system', 'df', '--json')).stdout)[0]).toMatchObject({ kind: 'Images' });
  expect(await tsvm('system', 'prune')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('--force'),
  });
  expect((await tsvm('system', 'prune', '--dry-run')).stdout).toMatch(
    /^image [^\n]*\n(image [^\n]*\n)?would free /,
  );
  expect((await tsvm('images', '-q')).stdout.trim().split('\n').length).toBeGreaterThan(1);
  expect((await tsvm('system', 'prune', '--force')).status).toBe(0);
  expect((await tsvm('images')).stdout).not.toContain('<none>');
  expect((await tsvm('images', '-q')).stdout.trim().split('\n')).toHaveLength(1);
  await tsvm('system', 'prune', '--all', '--force');
  expect(readdirSync(env.TSVM_DISK_DIR)).toHaveLength(1);
  expect((await tsvm('images', '-q')).stdout).toBe('');
  expect(
    readdirSync(join(env.TSVM_IMAGE_DIR, 'blobs/sha256')).filter((name) => !name.startsWith('.')),
  ).toEqual([]);
});

test('a name without a registry means the same to every command', async () => {
  const { tsvm, env } = newStore();
  const XDG_CONFIG_HOME = newPath();
  mkdirSync(join(XDG_CONFIG_HOME, 'tsvm'), { recursive: true });
  writeFileSync(
    join(XDG_CONFIG_HOME, 'tsvm/registries.json'),
    JSON.stringify({ unqualified: 'registry.example/team' }),
  );
  const here = async (...args: string[]) => await tsvmHere(args, { ...env, XDG_CONFIG_HOME });
  await tsvm('load', '-i', layoutOf('registry.example/team/app:1'));
  expect((await here('images', '-q', 'app')).stdout.toString()).toMatch(/^[0-9a-f]{12}\n$/);
  expect((await tsvm('images', '-q', 'app')).stdout).toBe('');
  expect(await here('tag', 'app:1', 'other')).toMatchObject({ status: 0, stderr: '' });
  expect(await here('save', '-o', newPath(), 'other')).toMatchObject({ status: 0, stderr: '' });
  const { stdout, status } = await here('rmi', 'app:1', 'other');
  expect(status).toBe(0);
  expect(stdout.toString()).toMatch(/^Untagged: registry.example\/team\/app:1\nUntagged: .*other:latest\n/);
});

/** Errors that the command line under way has said so far. */
function saidHere(): string {
  const { write } = process.stderr;
  return vi.isMockFunction(write)
    ? vi
        .mocked(write)
        .mock.calls.map(([text]) => text)
        .join('')
    : '';
}

/** Holds the lock of a store's blobs until it is told to let go. */
async function holdBlobs({ TSVM_IMAGE_DIR }: { readonly TSVM_IMAGE_DIR: string }, mode: string) {
  const lock = join(TSVM_IMAGE_DIR, 'blobs/sha256/.lock');
  const holder = spawn('flock', [mode, lock, 'sh', '-c', 'echo held; read _'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(holder.stdout, 'data');
  return holder;
}

test('what waits for somebody says so, and an archive that is not finished leaves nothing', async () => {
  const { tsvm, env } = newStore();
  await tsvm('load', '-i', layoutOf('app:1'));
  const puller = await holdBlobs(env, '--shared');
  const removal = tsvm('rmi', 'app:1');
  await eventually(saidHere).toBe('tsvm: waiting for a process that fetches or saves images\n');
  puller.stdin.end();
  expect(await removal).toMatchObject({ status: 0 });

  await tsvm('load', '-i', layoutOf('app:2'));
  const remover = await holdBlobs(env, '--exclusive');
  const archive = newPath();
  const save = tsvm('save', '-o', archive, 'app:2');
  await eventually(saidHere).toBe('tsvm: waiting for a process that removes images\n');
  process.emit('SIGINT');
  expect(await save).toMatchObject({ status: 130 });
  expect(readdirSync(folder).filter((name) => join(folder, name).startsWith(archive))).toEqual([]);
  remover.stdin.end();
});

test('words that name no image are refused with what to do', async () => {
  const { tsvm } = newStore();
  for (const [words, said] of [
    [['run', '--pull', 'never', '--image', 'nothing:1', '--', 'true'], 'no image of that name is kept'],
    [['run', '--pull', 'sometimes', '--image', 'nothing:1', '--', 'true'], '--pull'],
    [['run', '--image', 'No Name', '--', 'true'], "image name 'No Name'"],
    [['tag', 'nothing', 'x'], 'there is no image "nothing"'],
    [['tag', 'nothing', `x@sha256:${'0'.repeat(64)}`], 'an image’s digest cannot be chosen'],
    [['save', '-o', join(folder, 'x'), 'nothing'], 'there is no image "nothing"'],
    [['load', '-i', join(folder, 'nowhere')], 'there is no such file or directory'],
    [['rmi', 'A:B:C'], 'there is no image "A:B:C"'],
  ] as const) {
    const { status, stderr } = await tsvm(...words);
    expect([words, status, stderr]).toEqual([words, 2, expect.stringContaining(said)]);
  }
  expect(existsSync(join(folder, 'x'))).toBe(false);
});

test('a full disk in the middle leaves nothing half-made, and other images as they are', async ({ skip }) => {
  skip(notRoot() !== undefined, notRoot());
  const layout = makeOciLayout(newPath(), [{ large: 'x'.repeat(10) }], {}, 'large:1');
  const small = layoutOf('small:1');
  const big = newPath();
  mkdirSync(big);
  spawnSync('sh', ['-c', `head -c 8000000 /dev/urandom > ${big}/random`]);
  const large = makeOciLayout(newPath(), [{ directory: big }], {}, 'large:2');
  const mount = newPath();
  mkdirSync(mount);
  const cli = new URL('../../dist/bin/tsvm.cjs', import.meta.url).pathname;
  const run = `node ${cli}`;
  const script = `mount -t tmpfs -o size=4m,mode=700 none ${mount} && export TSVM_IMAGE_DIR=${mount} &&
    ${run} load -i ${small} && ${run} load -i ${layout} && ! ${run} load -i ${large} && ${run} images && ls -A ${mount}/blobs/sha256 ${mount}`;
  const { status, stdout, stderr } = spawnSync('unshare', ['-m', 'sh', '-c', script], { encoding: 'utf8' });
  expect([status, stderr]).toEqual([0, expect.stringMatching(/no space left[^\n]*\nhint: make space there/)]);
  expect(stdout).toMatch(/^small +1 /m);
  expect(stdout).not.toMatch(/partial|unpacking/);
  expect(stdout).not.toMatch(/^large +2/m);
  expect(readFileSync(join(small, 'oci-layout'), 'utf8')).toContain('1.0.0');
});
