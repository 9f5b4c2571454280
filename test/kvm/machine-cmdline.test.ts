/** Words that tell the kernel of its console, as a whole machine composes them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeMachine } from '../../src/control/firecracker/make-machine.js';
import { createMachine } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { temporaryDirectory } from '../support/guest.js';
import { tiny, tinyKernel } from '../support/tiny-kernel.js';

const kernel = join(temporaryDirectory(), 'kernel');
writeFileSync(kernel, tinyKernel(tiny.powerOff()));

test.each([
  [{}, /^console=ttyS0( |$)/],
  [{ cmdline: 'quiet', console: 'virtio' }, /^quiet console=hvc0( |$)/],
  [{ cmdline: 'quiet console=ttyS1' }, /^quiet console=ttyS1(?!.*console=)/],
  [{ cmdline: 'quiet', console: 'none' }, /^quiet(?!.*console=)/],
] as const)('createMachine() of %j names the console once', async (config, cmdline) => {
  await using machine = await createMachine({ kernel, memoryBytes: 4 * MIB, ...config });
  expect(machine.cmdline).toMatch(cmdline);
});

test("makeMachine() leaves Firecracker's boot_args alone, which may name no console", async () => {
  await using machine = await makeMachine({
    'boot-source': { kernel_image_path: kernel, boot_args: 'quiet' },
    'machine-config': { vcpu_count: 1, mem_size_mib: 4 },
  });
  expect(machine.cmdline).toMatch(/^quiet(?!.*console=)/);
});
