/** The six commonest jobs of a sandbox, as docs/sandboxes.md has them; test/unit/snippets.test.ts compiles them. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const MAX_LINES = 27;
const PAGE = new URL('../../../docs/sandboxes.md', import.meta.url);

test('the six commonest jobs take no more than 27 lines', () => {
  const [, program = ''] = /```ts\n(.*?)```/s.exec(readFileSync(PAGE, 'utf8')) ?? [];
  const lines = program.split('\n').filter((line) => line !== '' && !line.startsWith('//'));
  for (const job of ['box.exec', 'box.spawn', 'box.files', 'box.waitForPort', 'box.fork', 'box.snapshot'])
    expect(program).toContain(job);
  expect(lines.length).toBeLessThanOrEqual(MAX_LINES);
});
