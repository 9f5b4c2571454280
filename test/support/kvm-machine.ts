/** Machines for the kvm tier: a kernel of a few instructions, and everything that it printed. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createMachine, type Machine, type MachineConfig, type MachineEnd } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { ConsoleLog, endOf } from './guest.js';
import { tinyKernel } from './tiny-kernel.js';

/** Makes machines whose kernels are kept in `directory`. */
export function machineFactory(directory: string) {
  let kernels = 0;
  return async (code: readonly number[], more: MachineConfig = {}): Promise<TinyMachine> => {
    const kernel = join(directory, `kernel${++kernels}`);
    writeFileSync(kernel, tinyKernel(code));
    return new TinyMachine(await createMachine({ kernel, memoryBytes: 4 * MIB, ...more }));
  };
}

/** A machine with its console; gone at the end of the block. */
export class TinyMachine implements AsyncDisposable {
  readonly machine: Machine;
  readonly log: ConsoleLog;

  constructor(machine: Machine) {
    this.machine = machine;
    this.log = new ConsoleLog(machine);
  }

  /** Runs it to its end. */
  async run(): Promise<{ end: MachineEnd; output: Buffer }> {
    await this.machine.start();
    const end = await endOf(this.machine, this.log);
    return { end, output: Buffer.from(this.log.text, 'latin1') };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.machine.kill();
  }
}
