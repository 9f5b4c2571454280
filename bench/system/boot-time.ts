/**
 * Process start to init, beside QEMU's microvm: the same kernel, initramfs, memory and command, on the same KVM, in turn.
 *
 * QEMU ends at the first write to a port of our choice (isa-debug-exit): at init's first instruction (boot mark), or at
 * the power-off after the command. The time is from the start of the process to its end. For tsvm the first of the two is
 * that time less what its timeline puts between init and the end; so both pay for their own start and clean-up.
 */
import { join } from 'node:path';
import { ACPI_POWER_PORT, BOOT_MARKS_PORT } from '../../src/memory/layout.js';
import { MIB } from '../../src/util/units.js';
import { type Benchmark, type Measurement, needsQemuBeside } from '../lib/benchmark.js';
import { GUEST_MEMORY_BYTES } from '../lib/guest.js';
import { exitAtPort, initramfsWith, qemuArguments, qemuStatus, SLEEP_S5, timeProcess } from '../lib/qemu.js';
import { readPhases, TSVM } from '../lib/tsvm-command.js';

const MARK_INIT = 1;

export const bootTime: Benchmark = {
  name: 'boot-time',
  summary: 'process start to init, beside QEMU microvm',
  defaultRuns: () => 7,
  unfit: needsQemuBeside,
  async run({ host, runs, scratch, log }) {
    const timelinePath = join(scratch, 'timeline.json');
    const initrd = initramfsWith(host, scratch, ['true']);
    const samples = new Map<string, number[]>();
    const add = (name: string, ms: number): void => {
      samples.set(name, [...(samples.get(name) ?? []), ms]);
    };
    // The first round fills the page cache and does not count.
    for (let round = 0; round <= runs; round++) {
      const node = await timeProcess(process.execPath, ['-e', '0'], 0);
      const tsvm = await timeProcess(process.execPath, tsvmArguments(timelinePath), 0);
      const qemuInit = await timeProcess(
        'qemu-system-x86_64',
        qemuArguments(host, initrd, exitAtPort(BOOT_MARKS_PORT)),
        qemuStatus(MARK_INIT),
      );
      const qemuEnd = await timeProcess(
        'qemu-system-x86_64',
        qemuArguments(host, initrd, exitAtPort(ACPI_POWER_PORT)),
        qemuStatus(SLEEP_S5),
      );
      if (round === 0) continue;
      const at = readPhases(timelinePath);
      const afterInit = at('end') - at('init');
      add('tsvm, to init', tsvm - afterInit);
      add('QEMU microvm, to init', qemuInit);
      add('tsvm to init / QEMU to init', (tsvm - afterInit) / qemuInit);
      add('tsvm to init / QEMU to init, Node apart', (tsvm - afterInit - node) / qemuInit);
      add('tsvm, `true` and power-off', tsvm);
      add('QEMU microvm, `true` and power-off', qemuEnd);
      add('node -e 0', node);
      add('of tsvm: Node and modules', at('create'));
      add('of tsvm: reading the initramfs', at('files-read') - at('create'));
      add('of tsvm: making the VM', at('vm-created') - at('files-read'));
      add('of tsvm: loading the guest, with the kernel’s file', at('guest-loaded') - at('vm-created'));
      add('of tsvm: guest, entry to init', at('init') - at('start'));
      add('of tsvm: guest, init to power-off', afterInit);
      add('of tsvm: clean-up and exit', tsvm - at('end'));
      log(
        `round ${round} of ${runs}: to init, tsvm ${(tsvm - afterInit).toFixed(0)} ms, QEMU ${qemuInit.toFixed(0)} ms`,
      );
    }
    return [...samples].map(
      ([metric, values]): Measurement => ({
        metric,
        unit: metric.includes('/') ? 'ratio' : 'ms',
        samples: values,
        ...(metric === 'tsvm to init / QEMU to init' ? { target: { atMost: 1 } } : {}),
      }),
    );
  },
};

function tsvmArguments(timelinePath: string): string[] {
  return [TSVM, 'boot', '--memory', `${GUEST_MEMORY_BYTES / MIB}M`, '--timeline', timelinePath, '--', 'true'];
}
