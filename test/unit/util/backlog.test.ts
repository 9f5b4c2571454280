import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Backlog } from '../../../src/util/backlog.js';
import { LastBytes } from '../../../src/util/last-bytes.js';
import { budget, patience } from '../../support/fuzz.js';

const pieces = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 40 });

test(
  'Backlog.take() gives what was pushed, in order, up to its bound and no further',
  () => {
    fc.assert(
      fc.property(pieces, fc.integer({ min: 0, max: 300 }), (all, most) => {
        const backlog = new Backlog(most);
        const kept = all.filter((bytes) => backlog.push(bytes));
        expect(backlog.length).toBe(kept.reduce((sum, { length }) => sum + length, 0));
        expect(backlog.length).toBeLessThanOrEqual(most);
        expect(Buffer.compare(backlog.take(), Buffer.concat(kept))).toBe(0);
        expect([backlog.length, backlog.take().length]).toEqual([0, 0]);
      }),
      budget(300, 21),
    );
  },
  patience(15_000),
);

test('Backlog.push() copies, and what was taken stays as it was', () => {
  const backlog = new Backlog(10);
  const bytes = Uint8Array.of(1, 2);
  backlog.push(bytes);
  bytes.fill(9);
  const taken = backlog.take();
  backlog.push(Uint8Array.of(7));
  expect([...taken]).toEqual([1, 2]);
});

test(
  'LastBytes.bytes are the last of all that was pushed',
  () => {
    fc.assert(
      fc.property(pieces, fc.integer({ min: 1, max: 100 }), (all, most) => {
        const last = new LastBytes(most);
        let said = Buffer.alloc(0);
        for (const bytes of all) {
          last.push(bytes);
          said = Buffer.concat([said, bytes]);
          expect(Buffer.compare(last.bytes, said.subarray(Math.max(0, said.length - most)))).toBe(0);
        }
      }),
      budget(300, 21),
    );
  },
  patience(15_000),
);
