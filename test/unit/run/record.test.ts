import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type FileResult,
  failuresOf,
  formatRecord,
  type LaneRecord,
  RecordReader,
} from '../../run/record.js';

function read(pieces: readonly string[]) {
  const records: LaneRecord[] = [];
  const lines: string[] = [];
  const reader = new RecordReader(
    (record) => records.push(record),
    (line) => lines.push(line),
  );
  for (const piece of pieces) reader.push(piece);
  reader.end();
  return { records, lines };
}

test('RecordReader finds records among what tests print, wherever the output is cut', () => {
  const result: FileResult = {
    file: 'boot/a.test.ts',
    seconds: 1.5,
    tests: [{ name: 'one\ntwo', state: 'failed', seconds: 1, errors: ['a\u001eb'] }],
    errors: [],
  };
  const said: LaneRecord[] = [
    { kind: 'ready' },
    { kind: 'begin', file: result.file },
    { kind: 'end', result },
  ];
  const text = `first\nno end${said.map(formatRecord).join('printed')}last`;
  fc.assert(
    fc.property(fc.array(fc.nat(text.length)), (cuts) => {
      const places = [0, ...cuts.toSorted((a, b) => a - b), text.length];
      const pieces = places.slice(1).map((end, index) => text.slice(places[index], end));
      expect(read(pieces)).toEqual({
        records: said,
        lines: ['first', 'no end', 'printed', 'printed', 'last'],
      });
    }),
  );
});

test('failuresOf() has the failed tests, and the file where something failed outside of them', () => {
  const failed = { name: 'a', state: 'failed', seconds: 0, errors: ['x'] } as const;
  const passed = { name: 'b', state: 'passed', seconds: 0 } as const;
  const file = { file: 'f', seconds: 0, tests: [failed, passed], errors: [] };
  expect(failuresOf(file)).toEqual([failed]);
  expect(failuresOf({ ...file, errors: ['hook'] })).toEqual([
    failed,
    { name: '(the file)', state: 'failed', seconds: 0, errors: ['hook'] },
  ]);
});
