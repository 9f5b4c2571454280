/** `tsvm compare`, whole, with few of each. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Comparison } from '../../src/compare/compare.js';
import { tsvm } from '../support/cli.js';
import { traces, until } from '../support/container.js';
import { dockerForFile } from '../support/docker-daemon.js';
import { inRig, temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
const env = { TSVM_IMAGE_DIR: join(folder, 'images'), TSVM_TEMPLATE_DIR: join(folder, 'templates') };
/** Docker is compared but in the rig, where it takes seconds to start each; test/container/engines.test.ts has it there. */
const withDocker = !inRig;
const SUBJECTS = [
  'tsvm run --no-template',
  'tsvm run',
  'tsvm run --isolation container',
  'machine, restored',
  'machine, forked',
  'container',
  'container, by runc',
  'container, by crun',
  'container, by bwrap',
  'container, by podman',
  ...(withDocker ? ['container, by docker'] : []),
];

if (withDocker) dockerForFile(folder);

test('starts each, says what they hold, and what they hold back', async () => {
  const before = traces();
  const [json, html] = [join(folder, 'out.json'), join(folder, 'out.html')];
  const args = ['compare', '--runs', '1', '--counts', '1,3', '--cpus', '0', '--json', json, '--html', html];
  const result = await tsvm(args, { env, timeoutMs: 280_000 });
  expect([result.status, result.stderr]).toEqual([0, '']);
  const comparison = JSON.parse(readFileSync(json, 'utf8')) as Comparison;
  expect(comparison.starts.map(({ subject }) => subject).sort()).toEqual([...SUBJECTS].sort());
  for (const { firstMs, exitMs } of comparison.starts)
    expect(exitMs[0]).toBeGreaterThanOrEqual(firstMs[0] ?? Number.NaN);
  expect(comparison.memory.map(({ subject, points }) => [subject, points.length])).toEqual(
    comparison.starts.slice(1).map(({ subject }) => [subject, 2]),
  );
  expect(comparison.environment['ran on CPUs']).toBe('0');
  const phasesOf = (name: string) =>
    comparison.starts.find(({ subject }) => subject === name)?.phases.map((phase) => phase.name);
  expect(phasesOf('tsvm run --no-template')).toEqual([
    ...['process', 'create', 'memory', 'kernel', 'program', 'exit'],
  ]);
  expect(phasesOf('machine, forked')).toEqual(['process', 'create', 'memory', 'program', 'exit']);
  const kernel = comparison.isolation?.rows.find(({ title }) => title === 'kernel');
  expect(comparison.isolation?.columns).toEqual([
    'no wall',
    'container, privileged',
    'container, as Docker',
    'container',
    'machine',
  ]);
  expect(kernel?.findings.map(({ verdict }) => verdict)).toEqual(['open', 'open', 'open', 'open', 'wall']);
  const open = comparison.isolation?.columns.map(
    (_, i) =>
      comparison.isolation?.rows.filter(({ findings }) => findings[i]?.verdict === 'open').length ?? 0,
  );
  expect(open?.toSorted((a, b) => b - a)).toEqual(open); // each wall holds back no less than the one before
  expect(open?.at(-1)).toBe(0);
  expect(readFileSync(html, 'utf8')).toContain('</svg>');
  expect(result.stdout.toString()).toContain('in 1 GiB (extrapolated from 3)');
  expect(traces()).toEqual(before);
}, 300_000);

test('a signal ends it, and nothing is left', async () => {
  const before = traces();
  // Once it writes there it listens.
  const images = join(folder, `images-${process.hrtime.bigint()}`);
  const result = await tsvm(['compare', '--part', 'memory', '--counts', '1000'], {
    env: { ...env, TSVM_IMAGE_DIR: images },
    onStart: (child) => void until('it has begun', () => existsSync(images)).then(() => child.kill('SIGINT')),
    timeoutMs: 100_000,
  });
  expect(result.status).toBe(130);
  expect(traces()).toEqual(before);
});
