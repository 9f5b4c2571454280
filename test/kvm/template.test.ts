/** Templates of kernels of a few instructions: when one is booted, and when it is found. */
import { getEventListeners } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Machine, machineFromTemplate } from '../../src/index.js';
import { MANIFEST_NAME, SNAPSHOT_FORMAT } from '../../src/snapshot/format.js';
import { MIB } from '../../src/util/units.js';
import { temporaryDirectory } from '../support/guest.js';
import { tiny, tinyKernel } from '../support/tiny-kernel.js';

const root = temporaryDirectory();
const READY = 3;

test('machineFromTemplate() makes a template of another format anew, without a word', async () => {
  const kernel = join(root, 'kernel');
  writeFileSync(kernel, tinyKernel([...tiny.mark(READY), ...tiny.sleep()]));
  const directory = join(root, 'templates');
  /** Whether it was booted, or found. */
  const make = async (): Promise<'booted' | 'found'> => {
    let booted = false;
    const onBoot = (): void => {
      booted = true;
    };
    await using machine = await machineFromTemplate({ kernel, memoryBytes: 4 * MIB }, { directory, onBoot });
    expect(machine.state).toBe('ready');
    return booted ? 'booted' : 'found';
  };
  expect([await make(), await make()]).toEqual(['booted', 'found']);
  const key = readdirSync(directory).find((name) => /^[0-9a-f]{16}$/.test(name)) as string;
  const path = join(directory, key, MANIFEST_NAME);
  const warnings: unknown[] = [];
  const onWarning = (warning: unknown): void => void warnings.push(warning);
  process.on('warning', onWarning);
  try {
    for (const format of [SNAPSHOT_FORMAT - 1, SNAPSHOT_FORMAT + 1]) {
      const text = readFileSync(path, 'utf8');
      writeFileSync(path, text.replace(`"format":${SNAPSHOT_FORMAT}`, `"format":${format}`));
      expect([await make(), await make()]).toEqual(['booted', 'found']);
    }
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    process.off('warning', onWarning);
  }
  expect(warnings).toEqual([]);
  expect(readFileSync(path, 'utf8')).toContain(`"format":${SNAPSHOT_FORMAT},`);
});

test('machineFromTemplate() that is aborted while the template boots leaves no machine and no template', async () => {
  const kernel = join(root, 'never-ready');
  writeFileSync(kernel, tinyKernel(tiny.sleep()));
  const directory = join(root, 'aborted');
  const controller = new AbortController();
  const { signal } = controller;
  let template: Machine | undefined;
  const onBoot = (machine: Machine): void => {
    template = machine;
    machine.on('state', (state) => state === 'running' && controller.abort(new Error('enough')));
  };
  const making = machineFromTemplate({ kernel, memoryBytes: 4 * MIB }, { directory, onBoot, signal });
  await expect(making).rejects.toThrow('enough');
  expect([template?.state, getEventListeners(signal, 'abort')]).toEqual(['ended', []]);
  expect(readdirSync(directory).filter((name) => !name.endsWith('.lock'))).toEqual([]);
});
