/** Users of images: names and numbers, and those that Linux does not have. */
import { mkdirSync, writeFileSync } from 'node:fs';
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

  test.each(['', ':5', 'app:staff:x', ' 7', '+7', '-1', '1e3', '0x0', '7\0'])('refuses %j', (text) => {
    expect(() => userOf({ root }, text)).toThrow(/^[\x20-\x7e]*$/);
  });
});
