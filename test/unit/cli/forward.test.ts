import { expect, test } from 'vitest';
import { parseForward } from '../../../src/cli/commands/ports.js';

test.each([
  ['80', { host: '127.0.0.1', hostPort: 0, port: 80 }],
  ['8080:80', { host: '127.0.0.1', hostPort: 8080, port: 80 }],
  ['0.0.0.0:8080:80', { host: '0.0.0.0', hostPort: 8080, port: 80 }],
  ['[::1]:8080:80', { host: '::1', hostPort: 8080, port: 80 }],
  ['127.0.0.1::80', { host: '127.0.0.1', hostPort: 0, port: 80 }],
])('%s', (text, forward) => {
  expect(parseForward(text)).toEqual(forward);
});

test.each(['', 'a', '80:', '1:2:3:4', '-1', '80/tcp', '65536', '65536:80', '0'])('%j is refused', (text) => {
  expect(() => parseForward(text)).toThrow(/port/);
});
