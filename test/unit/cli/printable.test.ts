/** Words of guests, snapshots and records on the operator's terminal: read, not obeyed. */
import { afterEach, expect, test, vi } from 'vitest';
import { runProgram } from '../../../src/cli/program.js';
import { explainEnd } from '../../../src/cli/session/machine-end.js';
import { formatTable } from '../../../src/cli/table.js';
import { printable, printableLines } from '../../../src/util/printable.js';

afterEach(() => vi.restoreAllMocks());

/** A title that is set, a line that is erased, a key that is typed (DECRQSS and OSC 52 likewise), in both sets of control characters. */
const HOSTILE = '\x1b]0;owned\x07\x1b[2K\x9b2J\r\u202ereversed';
const SHOWN = '\\u001b]0;owned\\u0007\\u001b[2K\\u009b2J\\r\\u202ereversed';

function said(): string {
  const calls = vi.mocked(process.stderr.write).mock.calls;
  return calls.map(([text]) => String(text)).join('');
}

test('printable() shows what a terminal would obey', () => {
  expect(printable(HOSTILE)).toBe(SHOWN);
  expect(printable('an honest \t line, übrig')).toBe('an honest \\t line, übrig');
  expect(printableLines(`one\n${HOSTILE}`)).toBe(`one\n${SHOWN}`);
  expect(formatTable(['NAME'], [[HOSTILE]])).toBe(`NAME\n${SHOWN}\n`);
});

test.each([
  { kind: 'panic', message: HOSTILE },
  { kind: 'kvm-error', message: HOSTILE, registers: 'rip=0' },
  { kind: 'bug', message: HOSTILE, report: 'at one\nat two' },
] as const)('explainEnd() of a $kind shows what a terminal would obey', (end) => {
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  explainEnd(end);
  expect(said()).toContain(SHOWN);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  expect(said()).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
});

test('an error is shown, whatever the names in it', async () => {
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  await runProgram(['node', 'tsvm', 'restore', `/nowhere/${HOSTILE}`]);
  expect(said()).toContain(SHOWN);
  expect(said()).not.toContain('\x1b');
});
