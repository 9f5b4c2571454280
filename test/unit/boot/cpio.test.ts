import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { commandSegment, readCpio, writeCpio } from '../../../src/boot/cpio.js';
import { S_IFCHR, S_IFDIR, S_IFREG } from '../../../src/util/file-mode.js';
import { missingProgram } from '../../support/skip-reasons.js';

const noCpio = missingProgram('cpio');

function cpio(args: string[], input: Uint8Array): string {
  const { stdout, stderr, status } = spawnSync('cpio', args, { input });
  expect(status, stderr.toString()).toBe(0);
  return stdout.toString('latin1');
}

describe('writeCpio()', () => {
  it('aligns names and data to 4 bytes and ends with the trailer', () => {
    const archive = writeCpio([{ path: 'ab', mode: S_IFREG | 0o644, data: Buffer.from('hello') }]);
    const text = Buffer.from(archive).toString('latin1');
    expect(archive.length % 4).toBe(0);
    expect(text.slice(0, 6)).toBe('070701');
    expect(text.slice(14, 22)).toBe('000081A4');
    expect(text.slice(54, 62)).toBe('00000005');
    expect(text.slice(110, 121)).toBe('ab\0\0\0\0hello'.slice(0, 11));
    expect(text.indexOf('TRAILER!!!\0')).toBeGreaterThan(120);
  });

  it('makes archives that cpio lists and unpacks', ({ skip }) => {
    skip(noCpio !== undefined, noCpio);
    const archive = writeCpio([
      { path: 'dev', mode: S_IFDIR | 0o755 },
      { path: 'dev/console', mode: S_IFCHR | 0o600, device: { major: 5, minor: 1 } },
      { path: 'a-longer-name', mode: S_IFREG | 0o755, data: Buffer.from('x'.repeat(1001)) },
      { path: 'empty', mode: S_IFREG | 0o600 },
    ]);
    const listing = cpio(['-itv', '--quiet'], archive);
    expect(listing).toMatch(/^drwxr-xr-x +2 root +root/m);
    expect(listing).toMatch(/^crw------- .* 5, +1 .*dev\/console$/m);
    expect(listing).toMatch(/^-rwxr-xr-x .* 1001 .*a-longer-name$/m);
    expect(cpio(['-i', '--quiet', '--to-stdout', 'a-longer-name'], archive)).toBe('x'.repeat(1001));
  });
});

describe('readCpio()', () => {
  const entries = [
    { path: 'dev', mode: S_IFDIR | 0o755 },
    { path: 'a-longer-name', mode: S_IFREG | 0o755, data: Buffer.from('x'.repeat(1001)) },
    { path: 'empty', mode: S_IFREG | 0o600 },
  ];

  it('reads what writeCpio() wrote, up to the trailer', () => {
    const archive = Buffer.concat([writeCpio(entries), Buffer.from('more')]);
    const read = [...readCpio(archive)].map(({ path, mode, data }) => [path, mode, data?.length]);
    expect(read).toEqual(entries.map(({ path, mode, data }) => [path, mode, data?.length ?? 0]));
  });

  it('reads names that NUL bytes follow, as a guest’s initramfs has them', () => {
    const archive = writeCpio([{ path: `bin/busybox${'\0'.repeat(9)}`, mode: S_IFREG | 0o755 }]);
    expect([...readCpio(archive)].map(({ path }) => path)).toEqual(['bin/busybox']);
  });

  it('refuses an archive that is cut anywhere', () => {
    const archive = writeCpio(entries);
    for (let length = 0; length < archive.length - 1; length += 13)
      expect(() => [...readCpio(archive.subarray(0, length))]).toThrowError(/damaged: no archive member/);
  });
});

describe('commandSegment()', () => {
  it('puts options, an empty string and arguments into /.tsvm/command', () => {
    const segment = commandSegment({ options: ['tty=0', 'env=A=b'], argv: ['echo', 'ä', ''] });
    const expected = Buffer.from('tty=0\0env=A=b\0\0echo\0ä\0\0');
    expect(Buffer.from(segment).includes(Buffer.concat([Buffer.from('.tsvm/command\0'), expected]))).toBe(
      true,
    );
    if (noCpio === undefined)
      expect(cpio(['-i', '--quiet', '--to-stdout', '.tsvm/command'], segment)).toBe(
        expected.toString('latin1'),
      );
  });

  it('refuses a NUL, which would make one string two', () => {
    expect(() => commandSegment({ options: [], argv: ['a\0b'] })).toThrowError(/NUL/);
  });
});
