import { expect, test } from 'vitest';
import { parseRowFilters, parseRowFormat } from '../../../src/cli/options/row-format.js';

const row = { name: 'web', state: 'Running' };

test.each([
  ['{{.Name}}', 'web'],
  ['{{ .name }}\\t{{.STATE}}\\n', 'web\tRunning\n'],
  ['no field', 'no field'],
  ['{.Name} {{.Name}}{{.Name}}', '{.Name} webweb'],
])('parseRowFormat(%j) writes %j', (text, line) =>
  expect(parseRowFormat(text, Object.keys(row))(row)).toBe(line),
);

test.each(['{{.Nope}}', '{{Name}}', '{{}}', '{{json .}}', '{{.constructor}}'])(
  'parseRowFormat() refuses %s',
  (text) => expect(() => parseRowFormat(text, Object.keys(row))).toThrow(/^--format: there is no field/),
);

const filters = {
  name: ({ name }: typeof row, value: string) => name.includes(value),
  status: ({ state }: typeof row, value: string) => state === value,
};

test.each([
  [[], true],
  [['name=e'], true],
  [['name=x'], false],
  [['name=x', 'name=we'], true],
  [['name=web', 'status=Ended'], false],
])('parseRowFilters(%j) is %s of a row', (typed, expected) =>
  expect(parseRowFilters(typed, filters)(row)).toBe(expected),
);

test.each(['', 'name', 'name=', '=x', 'constructor=x', 'size=1'])('parseRowFilters() refuses %j', (text) =>
  expect(() => parseRowFilters([text], filters)).toThrow(/^--filter: .* is not NAME=VALUE/),
);
