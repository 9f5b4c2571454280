/** User that pasta runs as. */
import { describe, expect, test } from 'vitest';
import { networkUser } from '../../../src/container/user-network.js';

describe('networkUser()', () => {
  test.each([
    [[[0, 0, 2 ** 32 - 1]], 65_534],
    [[[0, 100_000, 65_536]], 65_534],
    [[[0, 0, 1000]], 999],
    [
      [
        [0, 0, 1],
        [1, 100_001, 10],
      ],
      10,
    ],
    [[[0, 100_000, 1]], 0],
    [
      [
        [65_534, 0, 1],
        [0, 5, 1],
      ],
      0,
    ],
  ])('of %j is an id that is not root’s on the host', (ranges, id) => {
    const map = ranges.map(([container = 0, host = 0, count = 0]) => ({ container, host, count }));
    expect(networkUser(map, map)).toEqual({ uid: id, gid: id });
  });

  test('refuses maps that have none', () => {
    const map = [{ container: 0, host: 0, count: 1 }];
    expect(() => networkUser(map, [{ container: 0, host: 7, count: 1 }])).toThrow('not root’s on the host');
  });
});
