import { expect, test } from 'vitest';
import { Timeline } from '../../../src/machine/report/timeline.js';

test('Timeline.guestMark() keeps the first mark of each code, and counts the others', () => {
  const timeline = new Timeline();
  let read = 0;
  timeline.mark('start');
  for (let i = 0; i < 100_000; i++) timeline.guestMark(i & 0xff, `mark-${i & 0xff}`, () => ++read);
  timeline.mark('end');
  expect(timeline.entries).toHaveLength(258);
  expect(timeline.entries[8]).toMatchObject({ name: 'mark-7', insnEmulation: 8, count: 391 });
  expect(timeline.entries.at(-1)?.name).toBe('end');
  expect(read).toBe(256);
});
