import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { copyFromLocalStore } from '../../../src/image/source/local-store.js';
import { temporaryDirectory } from '../../support/guest.js';

const folder = temporaryDirectory();
afterEach(() => vi.unstubAllEnvs());

/** Complaint of a copy by a skopeo that prints `line` and fails. */
async function complaintOf(line: string): Promise<string> {
  mkdirSync(join(folder, 'bin'), { recursive: true });
  writeFileSync(join(folder, 'line'), line);
  writeFileSync(join(folder, 'bin/skopeo'), `#!/bin/sh\ncat ${folder}/line >&2\nexit 1\n`, { mode: 0o755 });
  vi.stubEnv('PATH', `${join(folder, 'bin')}:${process.env['PATH']}`);
  const refused = (error: Error): string => error.message;
  return await copyFromLocalStore('docker-daemon:a:1', join(folder, 'out')).then(() => '', refused);
}

const logged = (text: string): string => `time="2026-01-01T00:00:00Z" level=fatal msg="${text}"`;

test.each([
  [logged('initializing source: \\"a\\" is not there'), 'initializing source: "a" is not there'],
  [logged('\\x00'), logged('\\x00')],
  ['something else', 'something else'],
])('what skopeo says is a sentence: %s', async (line, sentence) => {
  expect(await complaintOf(line)).toContain(`image docker-daemon:a:1: ${sentence}`);
});
