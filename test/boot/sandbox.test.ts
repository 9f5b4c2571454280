/** Sandboxes over machines. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Machine } from '../../src/machine/machine.js';
import { Sandbox } from '../../src/sandbox/sandbox.js';
import { makeBusyboxRoot, until } from '../support/container.js';
import { temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
process.env['TSVM_RUN_DIR'] = join(folder, 'run');
process.env['TSVM_TEMPLATE_DIR'] = join(folder, 'templates');
const memory = '64M';

process.env['TSVM_SANDBOX_DIR'] = join(folder, 'sandboxes');

describe('a sandbox over a machine', () => {
  test('runs commands, moves files, is reached at its ports, and is copied', async () => {
    await using box = await Sandbox.create({ memory, env: { A: 'a' }, cwd: '/srv', ports: [8080] });
    expect(box.isolation).toBe('machine');
    expect(await box.exec('echo $A; pwd; exit 3')).toMatchObject({ exitCode: 3, stdout: 'a\n/srv\n' });
    await box.files.write('/srv/x', 'hello');
    const job = box.spawn('httpd -f -p 127.0.0.1:8080 -h /srv');
    await box.waitForPort(8080, { timeoutMs: 60_000 });
    expect(await (await fetch(`${box.url(8080)}/x`)).text()).toBe('hello');
    const copies = await box.fork(2);
    try {
      const said = await Promise.all(copies.map((copy) => copy.exec('cat x; echo more >>x; cat x')));
      expect(said.map(({ stdout }) => stdout)).toEqual(['hellohellomore\n', 'hellohellomore\n']);
      expect(await box.files.readText('/srv/x')).toBe('hello');
    } finally {
      await Promise.all(copies.map((copy) => copy.kill()));
    }
    await box.pause();
    expect(box.machine).toMatchObject({ state: 'paused' });
    await box.resume();
    expect((await box.exec('true')).exitCode).toBe(0);
    await box.snapshot('warm');
    for (let i = 0; i < 2; i++) {
      await using again = await Sandbox.from('warm');
      expect((await again.exec('cat x; echo $A; echo more >x')).stdout).toBe('helloa\n');
      await again.waitForPort(8080, { timeoutMs: 60_000 });
      expect(await (await fetch(`${again.url(8080)}/x`)).text()).toBe('more\n');
    }
    await expect(Sandbox.from('cold')).rejects.toMatchObject({ code: 'TSVM_SANDBOX' });
    await job.kill();
    expect(await job.wait()).toMatchObject({ signal: 15 });
  });

  test('has volumes, and is found by its name', async () => {
    const shared = join(folder, 'shared');
    mkdirSync(shared);
    writeFileSync(join(shared, 'x'), 'from the host');
    const volumes = { '/mnt/rw': { source: shared }, '/mnt/ro': { source: shared, readOnly: true } };
    await using box = await Sandbox.create({ memory, volumes, name: 'web' });
    expect((await box.exec('cat /mnt/ro/x; echo y >/mnt/rw/y; hostname')).stdout).toBe('from the hostweb\n');
    expect(readFileSync(join(shared, 'y'), 'utf8')).toBe('y\n');
    expect((await box.exec('echo y >/mnt/ro/z')).exitCode).toBe(1);
    expect(Sandbox.list()).toMatchObject([{ name: 'web', isolation: 'machine' }]);
    const again = await Sandbox.connect('web');
    expect((await again.exec('hostname')).stdout).toBe('web\n');
    again.close();
    await box.kill();
    expect(Sandbox.list()).toEqual([]);
  });

  test('that nobody uses is paused, and goes on with the next call', async () => {
    await using box = await Sandbox.create({ memory, timeoutMs: 1000, onTimeout: 'pause' });
    await until('it is paused', () => (box.machine as Machine).state === 'paused');
    expect((await box.exec('echo on')).stdout).toBe('on\n');
  });

  test('has the root of an image, and a network card', async () => {
    const image = join(folder, 'root');
    makeBusyboxRoot(image);
    await using box = await Sandbox.create({ memory, image, network: 'user' });
    expect((await box.exec('ls -d /bin/busybox; echo x >/x; cat /x; ls /sys/class/net')).stdout).toBe(
      '/bin/busybox\nx\neth0\nlo\n',
    );
  });
});
