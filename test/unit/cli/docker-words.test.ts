import { expect, test } from 'vitest';
import { looksLikeImage } from '../../../src/cli/docker-words.js';

test.each([
  'debian:12',
  'debian:bookworm-slim',
  'library/debian:12',
  'ghcr.io/owner/app',
  'ghcr.io/owner/app:1.0',
  'localhost:5000/app:latest',
  `app@sha256:${'0'.repeat(64)}`,
])('looksLikeImage() takes %s for an image', (word) => expect(looksLikeImage(word)).toBe(true));

test.each([
  'uname',
  'bin/busybox',
  './debian:12',
  '/bin/a:b',
  'run.sh',
  '../a.b/c',
  'my-tool_2',
  '',
  'A:B:C',
])('looksLikeImage() takes %j for a program', (word) => expect(looksLikeImage(word)).toBe(false));
