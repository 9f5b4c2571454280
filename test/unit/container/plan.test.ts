/** The plan as the launcher reads it: kvm-addon/launcher/plan.h. */
import { describe, expect, test } from 'vitest';
import { cStrings, encodePlan, InnerPath, Slot, STEP_PATH } from '../../../src/container/plan.js';

const HEAD_BYTES = 88;
const STEP_BYTES = 64;

const encode = (steps: Parameters<typeof encodePlan>[0]['init']): Buffer =>
  Buffer.from(
    encodePlan({ cloneFlags: 0x2000_0000, host: [], init: steps, command: [], keeper: [], cleanup: [] }),
  );

describe('encodePlan()', () => {
  test('says how large it is, and where its lists are', () => {
    const step = { purpose: '', number: 59, arguments: [] };
    const bytes = Buffer.from(
      encodePlan({
        cloneFlags: 1,
        host: [step],
        init: [step, step],
        command: [step],
        keeper: [],
        cleanup: [step],
      }),
    );
    expect(bytes.readUInt32LE(4)).toBe(bytes.length);
    const lists = [0, 1, 2, 3, 4].map((i) => [
      bytes.readUInt32LE(24 + i * 8),
      bytes.readUInt32LE(28 + i * 8),
    ]);
    expect(lists).toEqual([
      [HEAD_BYTES, 1],
      [HEAD_BYTES + STEP_BYTES, 2],
      [HEAD_BYTES + 3 * STEP_BYTES, 1],
      [HEAD_BYTES + 4 * STEP_BYTES, 0],
      [HEAD_BYTES + 4 * STEP_BYTES, 1],
    ]);
  });

  test('has numbers, also negative ones, addresses of strings, and results of earlier calls', () => {
    const bytes = encode([
      { purpose: '', number: 257, arguments: [-100, '/x', undefined], into: new Slot(3), ignore: [2, 17] },
      { purpose: '', number: 3, arguments: [new Slot(3)] },
    ]);
    const first = HEAD_BYTES;
    expect(bytes.readUInt32LE(first)).toBe(257);
    expect([4, 6, 8].map((at) => bytes.readUInt16LE(first + at))).toEqual([3, 2, 17]);
    expect([...bytes.subarray(first + 10, first + 13)]).toEqual([0, 1, 0]);
    expect(bytes.readBigInt64LE(first + 16)).toBe(-100n);
    const at = Number(bytes.readBigUInt64LE(first + 24));
    expect(bytes.toString('latin1', at, at + 3)).toBe('/x\0');
    const second = HEAD_BYTES + STEP_BYTES;
    expect([bytes.readUInt16LE(second + 4), bytes[second + 10], bytes.readBigUInt64LE(second + 16)]).toEqual([
      0xffff,
      2,
      3n,
    ]);
  });

  test.each([2 ** 32, -(2 ** 31) - 1, Number.NaN, 0.5, Number.POSITIVE_INFINITY])(
    'has no argument %d: the kernel would see another number',
    (value) => {
      expect(() => encode([{ purpose: '', number: 117, arguments: [value] }])).toThrow(`argument ${value}`);
    },
  );

  test('has a path in the container where it is resolved, and nowhere else', () => {
    const path = new InnerPath('/of/an/image');
    const resolved = encode([{ purpose: '', number: STEP_PATH, arguments: [new Slot(1), path, 3] }]);
    expect(resolved.readUInt32LE(HEAD_BYTES)).toBe(0xffff_0001);
    expect([...resolved.subarray(HEAD_BYTES + 10, HEAD_BYTES + 13)]).toEqual([2, 1, 0]);
    for (const values of [[-100, path, 0], [path], [new Slot(1), '/plain', 0]]) {
      const number = values.length === 3 && values[1] !== path ? STEP_PATH : 257;
      expect(() => encode([{ purpose: 'x', number, arguments: values }])).toThrow('a path in x');
    }
  });

  test('leaves a step out with a slot that it does not take', () => {
    const bytes = encode([{ purpose: '', number: 428, arguments: [new Slot(1), ''], when: new Slot(9) }]);
    expect([...bytes.subarray(HEAD_BYTES + 10, HEAD_BYTES + 16)]).toEqual([2, 1, 0, 0, 0, 2]);
    expect(bytes.readBigUInt64LE(HEAD_BYTES + 16 + 5 * 8)).toBe(9n);
  });

  test('has the same string once, and pointers that the launcher puts right', () => {
    const bytes = encode([{ purpose: '', number: 59, arguments: ['same', cStrings(['a', 'b']), 'same'] }]);
    expect(bytes.readBigUInt64LE(HEAD_BYTES + 16)).toBe(bytes.readBigUInt64LE(HEAD_BYTES + 32));
    const array = Number(bytes.readBigUInt64LE(HEAD_BYTES + 24));
    const relocations = bytes.readUInt32LE(80);
    expect(bytes.readUInt32LE(84)).toBe(2);
    const pairs = [0, 1].map((i) => [0, 4].map((at) => bytes.readUInt32LE(relocations + i * 8 + at)));
    expect(pairs.map(([at]) => at)).toEqual([array, array + 8]);
    expect(pairs.map(([, to = 0]) => bytes.toString('latin1', to, to + 2))).toEqual(['a\0', 'b\0']);
    expect(bytes.readBigUInt64LE(array + 16)).toBe(0n);
  });
});
