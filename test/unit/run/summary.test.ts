import { expect, test } from 'vitest';
import type { TestResult } from '../../run/record.js';
import { summarize, type TierResult } from '../../run/summary.js';

const passed: TestResult = { name: 'works', state: 'passed', seconds: 1 };
const tier = (tests: readonly TestResult[], more: Partial<TierResult> = {}): TierResult => ({
  name: 'unit',
  seconds: 5,
  ceilingSeconds: 10,
  files: [{ file: 'unit/a.test.ts', seconds: 4, tests, errors: [] }],
  ...more,
});
const lastLine = (text: string) => text.split('\n').at(-1);

test('summarize() counts, and ends with the sum', () => {
  const { text, failed } = summarize([tier([passed, passed])], [7.25, 8], 100, true);
  expect(failed).toBe(0);
  expect(lastLine(text)).toBe('2 passed, 0 failed, 0 skipped');
  expect(text).toMatch(/^unit +2 passed +0 failed +0 skipped +5 s of 10$/m);
  expect(text).toContain('4.0 s  unit: unit/a.test.ts');
  expect(text).toContain('Starts of a rig: 2, in 7.3, 8.0 s');
});

test('summarize() shows a failure with its errors, also of a file that did not load', () => {
  const bad: TestResult = { name: 'breaks', state: 'failed', seconds: 1, errors: ['Error: one\n  + 2'] };
  const file = { file: 'unit/b.test.ts', seconds: 0, tests: [], errors: ['SyntaxError'] };
  const { text, failed } = summarize([tier([bad]), tier([], { files: [file] })], [], 100, true);
  expect(failed).toBe(2);
  expect(text).toContain('FAILED unit: unit/a.test.ts: breaks\n    Error: one\n      + 2\n');
  expect(text).toContain('FAILED unit: unit/b.test.ts: (the file)\n    SyntaxError\n');
  expect(lastLine(text)).toBe('0 passed, 2 failed, 0 skipped');
});

test('summarize() fails a tier over its ceiling, and a run over the whole one', () => {
  const slow = summarize([tier([passed], { seconds: 11 })], [], 100, false);
  expect(slow.text).toContain('FAILED unit took 11 s; its ceiling is 10 s');
  expect(lastLine(slow.text)).toBe('1 passed, 1 failed, 0 skipped');
  const long = summarize([tier([passed]), tier([passed])], [], 9, false);
  expect(long.text).toContain('FAILED everything took 10 s; the ceiling is 9 s');
  const extra = summarize([tier([passed]), tier([passed], { name: 'kvm', extra: true })], [], 9, false);
  expect(extra.failed).toBe(0);
  expect(extra.text).toContain('all 5 s of 9, and 5 s for kvm');
});

test('summarize() lists every skip below its reason; one for what is missing fails a strict run', () => {
  const skips: TestResult[] = [
    { name: 'a', state: 'skipped', seconds: 0, note: 'missing: iasl is not installed' },
    { name: 'b', state: 'skipped', seconds: 0, note: 'not here: an interpreted KVM' },
    { name: 'c', state: 'skipped', seconds: 0 },
  ];
  const strict = summarize([tier(skips)], [], 100, true);
  expect(strict.text).toContain('  missing: iasl is not installed\n    unit: unit/a.test.ts: a\n');
  expect(strict.text).toContain('  not here: an interpreted KVM\n    unit: unit/a.test.ts: b\n');
  expect(strict.text).toContain('  NO REASON GIVEN\n    unit: unit/a.test.ts: c\n');
  expect(lastLine(strict.text)).toBe('0 passed, 1 failed, 3 skipped');
  expect(summarize([tier(skips)], [], 100, false).failed).toBe(0);
});
