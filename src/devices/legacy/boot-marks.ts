/**
 * Two write-only ports of our own: MARK, by which the guest says how far it has come (for measurements), and
 * EXIT_STATUS, by which its init hands over the exit status of the command that it ran.
 */
import type { BusDevice } from '../../bus/bus-device.js';

/** MARK and EXIT_STATUS. */
export const BOOT_MARKS_PORTS = 2;

/** Marks that tsvm's own init sets; a guest may use the others as it likes. */
export const BOOT_MARK = { INIT: 1, COMMAND: 2 } as const;

const MARK = 0;
const EXIT_STATUS = 1;

export interface BootMarksOptions {
  onMark(mark: number): void;
  onExitStatus(status: number): void;
}

export class BootMarks implements BusDevice {
  readonly name = 'boot-marks';
  readonly #options: BootMarksOptions;

  constructor(options: BootMarksOptions) {
    this.#options = options;
  }

  read(_offset: number, data: Uint8Array): void {
    data.fill(0);
  }

  write(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) {
      const value = data[i] as number;
      if (offset + i === MARK) this.#options.onMark(value);
      else if (offset + i === EXIT_STATUS) this.#options.onExitStatus(value);
    }
  }
}
