/** The form of a command for guests/init. */
import { describe, expect, it, test } from 'vitest';
import { readCpio } from '../../../src/boot/cpio.js';
import { checkCommand, commandSegment, commandStrings } from '../../../src/guest/command.js';

describe('checkCommand()', () => {
  it('refuses a NUL, which would make one string two', () => {
    expect(() => checkCommand({ argv: ['a\0b'] })).toThrow(
      expect.objectContaining({ code: 'TSVM_CONFIG', message: expect.stringMatching(/NUL/) }),
    );
  });

  test.each([
    [undefined, 'command: it must be an object'],
    [{ argv: ['ls', 1] }, 'command.argv: it must be a list of strings'],
    [{ argv: [], rows: 65_536 }, 'command.rows: it must be a whole number up to 65535'],
    [{ argv: [], shell: true }, 'command.shell: there is no such field in command'],
  ])('refuses %j, which is no command', (data, message) => {
    expect(() => checkCommand(data as never)).toThrow(message);
  });

  test.each([-1, 0.5, Number.NaN, 2 ** 32 - 1, 2 ** 32])('refuses %d as an id', (id) => {
    expect(() => checkCommand({ argv: [], user: { uid: id, gid: 0 } })).toThrow('command.user');
    expect(() => checkCommand({ argv: [], user: { uid: 0, gid: id } })).toThrow('command.user');
    expect(() => checkCommand({ argv: [], user: { uid: 0, gid: 0, groups: [1, id] } })).toThrow(
      'command.user',
    );
  });

  test.each(['', 'A=B'])('refuses %j as the name of a variable', (name) => {
    expect(() => checkCommand({ argv: [], env: { [name]: 'x' } })).toThrow('is not a name');
  });

  test('refuses more groups than init has room for', () => {
    const groups = (length: number) => Array.from({ length }, (_, i) => i);
    checkCommand({ argv: [], user: { uid: 1, gid: 1, groups: groups(1023) } });
    expect(() => checkCommand({ argv: [], user: { uid: 1, gid: 1, groups: groups(1024) } })).toThrow(
      'command.user: it must be an object with uid and gid, each a whole number from 0 to 4294967294, and groups',
    );
  });

  test('takes 4096 words, and 8192 variables beside those that init has', () => {
    const variables = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`V${i}`, '']));
    const own = { PATH: '/bin', HOME: '/', TERM: 'dumb' };
    checkCommand({ argv: new Array(4096).fill('x'), env: { ...own, ...variables(8192) } });
    expect(() => checkCommand({ argv: new Array(4097).fill('x') })).toThrow('command: 4097 words');
    expect(() => checkCommand({ argv: [], env: variables(8193) })).toThrow('command: 8193 variables');
  });
});

describe('commandStrings()', () => {
  test('has the groups of a user, its own first, and says that the working directory is to be made', () => {
    const user = { uid: 7, gid: 8, groups: [44, 29] };
    const options = (command: object) => commandStrings({ argv: [], tty: false, ...command }).slice(1, -1);
    expect(options({ user })).toEqual(['uid=7', 'gid=8', 'groups=8,44,29']);
    expect(options({ user: { uid: 7, gid: 8 } })).toEqual(['uid=7', 'gid=8']);
    expect(options({ cwd: '/srv', makeCwd: true })).toEqual(['cwd=/srv', 'makecwd=1']);
    expect(options({ makeCwd: true })).toEqual([]);
  });
});

describe('commandSegment()', () => {
  it('puts options, an empty string and arguments into /.tsvm/command', () => {
    const segment = commandSegment({ argv: ['echo', 'ä', ''], tty: false, env: { A: 'b' } });
    const [folder, file] = [...readCpio(segment)];
    expect([folder?.path, file?.path]).toEqual(['.tsvm', '.tsvm/command']);
    expect(Buffer.from(file?.data ?? []).toString()).toBe('tty=0\0env=A=b\0\0echo\0ä\0\0');
  });
});
