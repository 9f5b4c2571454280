/** Machines from templates, as far as they go without a KVM. */
import { expect, test, vi } from 'vitest';
import { machineFromTemplate } from '../../../src/template/template.js';
import { temporaryDirectory } from '../../support/guest.js';

test('machineFromTemplate() refuses facts that are none before it looks for a template', async () => {
  const onBoot = vi.fn();
  const options = { directory: temporaryDirectory(), facts: { hostname: 'x'.repeat(65) }, onBoot };
  await expect(machineFromTemplate({ kernel: '/nope' }, options)).rejects.toThrow(/^hostname: /);
  expect(onBoot).not.toHaveBeenCalled();
});
