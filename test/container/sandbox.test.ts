/** Sandboxes over containers. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { Sandbox } from '../../src/sandbox/sandbox.js';
import { makeBusyboxRoot } from '../support/container.js';
import { temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
const image = join(folder, 'root');
const isolation = 'container';
process.env['TSVM_RUN_DIR'] = join(folder, 'run');

beforeAll(() => {
  makeBusyboxRoot(image);
  mkdirSync(join(image, 'etc'), { recursive: true });
  writeFileSync(join(image, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n');
  writeFileSync(join(image, 'etc/group'), 'root:x:0:\nann:x:1001:\nmore:x:1002:ann\n');
});

describe('a sandbox over a container', () => {
  test('runs commands, each with its status and its output', async () => {
    await using box = await Sandbox.create({ isolation, image });
    expect(box).toMatchObject({ isolation: 'container', machine: undefined });
    expect(await box.exec('echo out; echo err >&2; exit 3')).toMatchObject({
      exitCode: 3,
      stdout: 'out\n',
      stderr: 'err\n',
    });
    expect((await box.exec(['cat'], { stdin: 'in' })).stdout).toBe('in');
    await expect(box.exec('exit 4', { check: true })).rejects.toMatchObject({ code: 'TSVM_EXIT_STATUS' });
    await expect(box.exec(['nothing'])).rejects.toMatchObject({ code: 'TSVM_COMMAND_NOT_FOUND' });
    await expect(box.exec('sleep 100', { timeoutMs: 50 })).rejects.toMatchObject({ code: 'TSVM_TIMEOUT' });
    // A command whose time was up is gone.
    expect((await box.exec('pgrep sleep')).stdout).toBe('');
  });

  test('gives the lines of a job while it runs', async () => {
    await using box = await Sandbox.create({ isolation, image });
    const job = box.spawn('read name; echo "hello $name"; echo bye; exit 5', { stdin: 'pipe' });
    job.stdin.end('ann\n');
    const lines: string[] = [];
    for await (const line of job.lines()) lines.push(line);
    expect(lines).toEqual(['hello ann', 'bye']);
    expect(await job.wait()).toEqual({ exitCode: 5, outOfMemory: false });
    await using sleeper = box.spawn('sleep 100');
    await sleeper.kill();
    expect(await sleeper.wait()).toMatchObject({ exitCode: 143, signal: 15 });
  });

  test('reads and writes files', async () => {
    await using box = await Sandbox.create({ isolation, image });
    await box.files.write('/box/in/a.json', '{"a":1}');
    expect((await box.exec('cat /box/in/a.json')).stdout).toBe('{"a":1}');
    expect(await box.files.readText('/box/in/a.json')).toBe('{"a":1}');
    expect((await box.files.list('/box', { depth: 2 })).map(({ path }) => path.toString())).toEqual([
      'in',
      'in/a.json',
    ]);
    expect((await box.files.stat('/box/in/a.json')).size).toBe(7);
    await box.files.remove('/box', { recursive: true });
    await expect(box.files.readText('/box/in/a.json')).rejects.toMatchObject({
      code: 'TSVM_FILE',
      message: 'cannot read /box/in/a.json: no such file or directory',
    });
  });

  test('has the environment, user, directory and volumes that it was made with', async () => {
    const shared = join(folder, 'shared');
    mkdirSync(shared);
    writeFileSync(join(shared, 'x'), 'from the host');
    await using box = await Sandbox.create({
      isolation,
      image,
      env: { A: 'a', B: 'b' },
      user: 'ann',
      cwd: '/srv/work',
      volumes: { '/mnt/rw': { source: shared }, '/mnt/ro': { source: shared, readOnly: true } },
      memory: '256M',
      cpus: 0.5,
    });
    expect((await box.exec('id -u; id -g; id -G; pwd; echo $A $B $HOME', { env: { B: 'c' } })).stdout).toBe(
      '1000\n1001\n1001 1002\n/srv/work\na c /home/ann\n',
    );
    expect((await box.exec('id -u', { user: 'root' })).stdout).toBe('0\n');
    expect((await box.exec('cat /mnt/ro/x; echo y >/mnt/rw/y', { user: 0 })).stdout).toBe('from the host');
    expect(readFileSync(join(shared, 'y'), 'utf8')).toBe('y\n');
    expect((await box.exec('echo y >/mnt/ro/z', { user: 0 })).stderr).toContain('Read-only file system');
    await expect(box.exec('true', { user: 'nobody' })).rejects.toMatchObject({ code: 'TSVM_SANDBOX' });
  });

  test('is reached at its ports', async () => {
    await using box = await Sandbox.create({ isolation, image, ports: [8080] });
    await box.files.mkdir('/www');
    await box.files.write('/www/index.html', 'hello');
    await using _ = box.spawn('httpd -f -p 127.0.0.1:8080 -h /www');
    await box.waitForPort(8080, { timeoutMs: 10_000 });
    expect(await (await fetch(`${box.url(8080)}/index.html`)).text()).toBe('hello');
    await expect(box.waitForPort(9, { timeoutMs: 50 })).rejects.toMatchObject({ code: 'TSVM_TIMEOUT' });
  });

  test('watches files, and moves trees as archives', async () => {
    await using box = await Sandbox.create({ isolation, image });
    const { files } = box;
    await files.untar('/copy', files.tar('/etc'));
    expect(await files.readText('/copy/passwd')).toBe(await files.readText('/etc/passwd'));
    expect([await files.exists('/copy/group'), await files.exists('/copy/none')]).toEqual([true, false]);
    const changes = files.watch('/copy');
    expect((await changes.next()).value).toMatchObject({ kind: 'watching' });
    await files.write('/copy/new', new Blob(['web']).stream());
    expect((await changes.next()).value).toMatchObject({ path: 'new' });
    await changes.return(undefined);
    expect(await files.readText('/copy/new')).toBe('web');
  });

  test('ends when it was idle for its time, and not while a command runs', async () => {
    await using box = await Sandbox.create({ isolation, image, timeoutMs: 300 });
    expect((await box.exec('sleep 1; echo done')).stdout).toBe('done\n');
    await vi.waitFor(() => expect(box.exec('true')).rejects.toMatchObject({ code: 'TSVM_STATE' }), {
      timeout: 5000,
      interval: 1000,
    });
    await expect(Sandbox.create({ isolation, onTimeout: 'pause' })).rejects.toMatchObject({
      code: 'TSVM_CONFIG',
    });
  });

  test('is found by its name from elsewhere, as long as it lives', async () => {
    const box = await Sandbox.create({ isolation, image, name: 'web', labels: { job: 'a' } });
    await box.exec('echo kept >/kept');
    await expect(Sandbox.create({ isolation, image, name: 'web' })).rejects.toMatchObject({
      code: 'TSVM_STATE',
    });
    expect(Sandbox.list()).toMatchObject([{ name: 'web', isolation: 'container' }]);
    expect(Sandbox.list({ labels: { job: 'a' } })).toHaveLength(1);
    expect(Sandbox.list({ labels: { job: 'b' } })).toEqual([]);
    const again = await Sandbox.connect('web');
    expect((await again.exec('cat /kept; hostname')).stdout).toBe('kept\nweb\n');
    expect(again).toMatchObject({ name: 'web', isolation: 'container' });
    again.close();
    expect((await box.exec('true')).exitCode).toBe(0);
    await box.kill();
    expect(Sandbox.list()).toEqual([]);
    await expect(Sandbox.connect('web')).rejects.toMatchObject({ code: 'TSVM_STATE' });
    await expect(box.exec('true')).rejects.toMatchObject({ code: 'TSVM_STATE' });
  });

  test('is ended by whoever connected to it', async () => {
    await using box = await Sandbox.create({ isolation, image, name: 'other' });
    const job = box.spawn('sleep 100');
    await job.started;
    await (await Sandbox.connect('other')).kill();
    await expect(job.wait()).rejects.toMatchObject({ code: 'TSVM_AGENT' });
    expect(Sandbox.list()).toEqual([]);
  });
});

describe('what cannot be', () => {
  test.each([
    [{ isolation: 'jail' }, 'isolation'],
    [{ memory: 'much' }, 'memory'],
    [{ volumes: { here: { source: '.' } } }, 'volumes'],
    [{ ports: [0] }, 'ports'],
    [{ isolation: 'machine', cpus: 0.5 }, 'cpus'],
    [{ imagine: 1 }, 'imagine'],
    [{ timeoutMs: 0 }, 'timeoutMs'],
  ])('%j', async (options, named) => {
    await expect(Sandbox.create(options as object)).rejects.toMatchObject({
      code: 'TSVM_CONFIG',
      message: expect.stringContaining(named),
    });
  });

  test('a container is not copied, paused or saved', async () => {
    await using box = await Sandbox.create({ isolation, image });
    for (const call of [box.fork(), box.pause(), box.resume()])
      await expect(call).rejects.toMatchObject({ code: 'TSVM_SANDBOX' });
  });

  test('an image that is not here', async () => {
    await expect(Sandbox.create({ isolation, image: './nothing' })).rejects.toMatchObject({
      code: 'TSVM_IMAGE',
    });
  });

  test('a user that is not there: nothing is left', async () => {
    await expect(Sandbox.create({ isolation, image, user: 'who', name: 'gone' })).rejects.toMatchObject({
      code: 'TSVM_SANDBOX',
    });
    expect(Sandbox.list()).toEqual([]);
  });
});
