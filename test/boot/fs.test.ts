/** virtio-fs with a real guest: a folder of the host's, one that is only read, and a file system in TypeScript. */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { MemoryFileSystem, share } from '../../src/index.js';
import { temporaryDirectory } from '../support/guest.js';
import { Shell } from '../support/shell.js';

const root = temporaryDirectory();
const work = join(root, 'work');
const tools = join(root, 'tools');
const secret = join(root, 'secret');

beforeAll(() => {
  for (const path of [work, tools]) mkdirSync(path);
  writeFileSync(secret, 'secret');
  writeFileSync(join(tools, 'hello'), '#!/bin/sh\necho "hello, $1"\n', { mode: 0o755 });
  symlinkSync('../secret', join(work, 'up'));
});

test('a guest works in a folder of the host, with what it may read and run, and does not get out', async () => {
  await using shell = await Shell.booted({
    devices: [
      share({ path: work, tag: 'work' }),
      share({ path: tools, tag: 'tools', readOnly: true }),
      share({ fileSystem: new MemoryFileSystem({ 'etc/motd': 'from memory\n' }), tag: 'memory' }),
    ],
  });
  await shell.run(
    'mkdir /w /t /m; mount -t virtiofs work /w; mount -t virtiofs tools /t; mount -t virtiofs memory /m',
  );
  expect(await shell.run('/t/hello you; echo x > /t/new; ls /t')).toMatch(
    /^hello, you\n.*Read-only.*\nhello\n$/,
  );
  expect(await shell.run('cat /m/etc/motd; echo more >> /m/etc/motd; cat /m/etc/motd')).toBe(
    'from memory\nfrom memory\nmore\n',
  );

  await shell.run(
    'cd /w; mkdir -p a/b; echo one > a/b/c; ln -s c a/b/link; ln a/b/c hard; mv a moved; chmod 4751 hard',
  );
  expect(readFileSync(join(work, 'moved/b/c'), 'utf8')).toBe('one\n');
  expect(readlinkSync(join(work, 'moved/b/link'))).toBe('c');
  expect(statSync(join(work, 'hard'))).toMatchObject({ nlink: 2, mode: 0o100751 });
  writeFileSync(join(work, 'from-host'), 'host\n');
  expect(await shell.run('cat from-host moved/b/link; cat up')).toMatch(/^host\none\ncat: .*No such file/);

  // Every byte comes through, by pages and past them.
  await shell.run('head -c 300000 /dev/urandom > big; cp big copy; sync');
  const sum = await shell.run('sha256sum < big; sha256sum < copy');
  expect(new Set(sum.trim().split('\n')).size).toBe(1);
  expect(readFileSync(join(work, 'big')).equals(readFileSync(join(work, 'copy')))).toBe(true);
  await shell.run('tar cf all.tar moved hard && mkdir out && tar xf all.tar -C out');
  expect(readFileSync(join(work, 'out/moved/b/c'), 'utf8')).toBe('one\n');

  await shell.run('rm -r out moved hard all.tar copy; exec 3<big; rm big');
  expect(await shell.run('wc -c <&3')).toBe('300000\n');
  expect(readdirSync(work).sort()).toEqual(['from-host', 'up']);
  expect(readFileSync(secret, 'utf8')).toBe('secret');
  await shell.run('cd /; umount /w; umount /t; umount /m');
  await expect(shell.machine.snapshot(join(root, 'saved'))).rejects.toThrow(/fs/);
});

test('a restored guest, and a fork, go on with the files that they have open', async () => {
  const path = join(root, 'snapshot');
  const devices = [share({ path: work, tag: 'work' })];
  {
    await using shell = await Shell.booted({ devices });
    await shell.run(
      'mkdir /w; mount -t virtiofs work /w; cd /w; mkdir logs; exec 3>logs/out; echo before >&3; sync',
    );
    await shell.machine.snapshot(path);
    const [forked] = await shell.machine.fork(1);
    await using fork = new Shell(forked!);
    await fork.run('echo fork >&3; echo made > by-fork');
    expect(readFileSync(join(work, 'logs/out'), 'utf8')).toBe('before\nfork\n');
    expect(await shell.run('cat by-fork; pwd')).toBe('made\n/w\n');
  }
  await using shell = await Shell.restored(path, { devices });
  await shell.run('echo restored >&3; echo made > by-restored; ls');
  expect(readFileSync(join(work, 'logs/out'), 'utf8')).toBe('before\nrestored\n');
  expect(existsSync(join(work, 'by-restored'))).toBe(true);
});
