/** Users of images: names and numbers, and those that Linux does not have. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { userOf } from '../../../src/image/user.js';
import { temporaryDirectory } from '../../support/guest.js';

const root = temporaryDirectory();
mkdirSync(join(root, 'etc'));
writeFileSync(
  join(root, 'etc/passwd'),
  [
    'app:x:7:8::/home/app:/bin/sh',
    'huge:x:4294967296:4294967296::/:/bin/sh',
    'unchanged:x:4294967295:0::/:/bin/sh',
    'empty:x:::::',
    'half:x:1.5:0::/:/bin/sh',
    'signed:x:-1:0::/:/bin/sh',
    'hex:x:0x10:0::/:/bin/sh',
    'group:x:9:4294967296::/:/bin/sh',
    'short',
    '\u001b[2J:x:NaN:0::/:/bin/sh',
  ].join('\n'),
);
writeFileSync(join(root, 'etc/group'), 'staff:x:50:\nhuge:x:4294967296:\nempty:x::\n');

describe('userOf()', () => {
  test('is in every group that names it, as Docker has it: not where a group is given, nor a number without a name', () => {
    const image = temporaryDirectory();
    mkdirSync(join(image, 'etc'));
    const rows = ['app:x:7:8::/:', 'nap:x:9:8::/:', 'root:x:0:0::/:'];
    writeFileSync(join(image, 'etc/passwd'), rows.join('\n'));
    const groups = [
      'video:x:44:nap,app',
      'own:x:8:app',
      'audio:x:29:app',
      'again:x:44:app',
      'none:x:50:apps,',
      'disk:x:6:root',
    ];
    writeFileSync(join(image, 'etc/group'), groups.join('\n'));
    const of = (text: string) => userOf({ root: image }, text).groups;
    expect(of('app')).toEqual([44, 8, 29]);
    expect(of('7')).toEqual([44, 8, 29]);
    expect(of('nap')).toEqual([44]);
    expect(of('0')).toEqual([6]);
    for (const text of ['app:video', '7:44', '7:8', '10']) expect(of(text)).toBeUndefined();
  });

  test('refuses a group whose id Linux does not have, and more groups than a process may be in', () => {
    const image = temporaryDirectory();
    mkdirSync(join(image, 'etc'));
    writeFileSync(join(image, 'etc/passwd'), 'app:x:7:8::/:');
    writeFileSync(join(image, 'etc/group'), 'huge:x:4294967295:app');
    expect(() => userOf({ root: image }, 'app')).toThrow('is not a whole number from 0 to 4294967294');
    const rows = (count: number): string =>
      Array.from({ length: count }, (_, i) => `g${i}:x:${i}:app`).join('\n');
    writeFileSync(join(image, 'etc/group'), rows(1023));
    expect(userOf({ root: image }, 'app').groups).toHaveLength(1023);
    writeFileSync(join(image, 'etc/group'), rows(1024));
    expect(() => userOf({ root: image }, 'app')).toThrow(
      "'app' is in 1024 groups of the image, more than 1023",
    );
    expect(userOf({ root: image }, 'app:5').gid).toBe(5);
  });

  test('knows names and numbers', () => {
    expect(userOf({ root }, 'app')).toEqual({ uid: 7, gid: 8, home: '/home/app' });
    expect(userOf({ root }, '7')).toEqual({ uid: 7, gid: 8, home: '/home/app' });
    expect(userOf({ root }, '007:staff')).toEqual({ uid: 7, gid: 50, home: '/home/app' });
    expect(userOf({ root }, 'app:')).toEqual({ uid: 7, gid: 8, home: '/home/app' });
    expect(userOf({ root }, '4294967294:4294967294')).toMatchObject({ uid: 4294967294, gid: 4294967294 });
  });

  test.each([
    '4294967295',
    '4294967296',
    '18446744073709551616',
    '1:4294967296',
    'huge',
    'unchanged',
    'empty',
    'half',
    'signed',
    'hex',
    'group',
    'short',
    'app:huge',
    'app:empty',
    '\u001b[2J',
  ])('refuses %j: nobody becomes the superuser by an id that Linux does not have', (text) => {
    expect(() => userOf({ root }, text)).toThrow(/^[\x20-\x7e]*is not a whole number from 0 to 4294967294$/);
  });

  test('reads the image’s own tables, whatever links lead to them', () => {
    const rows = 'app:x:7:8::/home/app:/bin/sh\n';
    for (const [etc, passwd] of [
      ['/etc', '/lib/passwd'],
      ['../../../etc', '../lib/passwd'],
      ['.//lib/../lib/', 'passwd'],
      ['/../lib', '/../../lib/passwd'],
    ] as const) {
      const image = temporaryDirectory();
      mkdirSync(join(image, 'lib'));
      writeFileSync(join(image, 'lib/passwd'), rows);
      if (passwd === 'passwd' || etc === '/../lib') symlinkSync(etc, join(image, 'etc'));
      else {
        mkdirSync(join(image, 'etc'));
        symlinkSync(passwd, join(image, 'etc/passwd'));
      }
      expect(userOf({ root: image }, 'app')).toMatchObject({ uid: 7 });
      // The host has one of every name here.
      expect(() => userOf({ root: image }, 'nobody')).toThrow('in /etc/passwd of the image');
    }
  });

  test.each([
    '/etc',
    '../../../../../../etc',
    '/proc/1/root/etc',
    '/proc/self/root/etc',
    '/proc/self/cwd/../etc',
  ])('reads none of the host’s by way of %s', (etc) => {
    const image = temporaryDirectory();
    symlinkSync(etc, join(image, 'etc'));
    expect(() => userOf({ root: image }, 'root:root')).toThrow('of the image');
  });

  test.each(['', ':5', 'app:staff:x', ' 7', '+7', '-1', '1e3', '0x0', '7\0'])('refuses %j', (text) => {
    expect(() => userOf({ root }, text)).toThrow(/^[\x20-\x7e]*$/);
  });
});
