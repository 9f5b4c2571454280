/** The form of a command for guests/init. */
import { describe, expect, it, test } from 'vitest';
import { readCpio } from '../../../src/boot/cpio.js';
import { commandSegment, commandStrings } from '../../../src/guest/command.js';

describe('commandStrings()', () => {
  test.each([-1, 0.5, Number.NaN, 2 ** 32 - 1, 2 ** 32])('refuses %d as an id', (id) => {
    expect(() => commandStrings({ argv: [], user: { uid: id, gid: 0 } })).toThrow('command.user');
    expect(() => commandStrings({ argv: [], user: { uid: 0, gid: id } })).toThrow('command.user');
  });

  test.each(['', 'A=B'])('refuses %j as the name of a variable', (name) => {
    expect(() => commandStrings({ argv: [], env: { [name]: 'x' } })).toThrow('is not a name');
  });
});

describe('commandSegment()', () => {
  it('puts options, an empty string and arguments into /.tsvm/command', () => {
    const segment = commandSegment({ argv: ['echo', 'ä', ''], tty: false, env: { A: 'b' } });
    const [folder, file] = [...readCpio(segment)];
    expect([folder?.path, file?.path]).toEqual(['.tsvm', '.tsvm/command']);
    expect(Buffer.from(file?.data ?? []).toString()).toBe('tty=0\0env=A=b\0\0echo\0ä\0\0');
  });

  it('refuses a NUL, which would make one string two', () => {
    expect(() => commandSegment({ argv: ['a\0b'] })).toThrow(
      expect.objectContaining({ code: 'TSVM_CONFIG', message: expect.stringMatching(/NUL/) }),
    );
  });
});
