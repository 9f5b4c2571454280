/**
 * Two ports of our own: MARK, by which the guest says how far it has come, and EXIT_STATUS, by which its init hands over the exit status of
 * the command that it ran. MARK reads as what the machine offers, EXIT_STATUS as the version of that.
 *
 * @spec tsvm-guest "ports"  MARK and EXIT_STATUS  #yes
 */
import type { BusDevice } from '../../bus/bus-device.js';

/** MARK and EXIT_STATUS. */
export const BOOT_MARKS_PORTS = 2;

const MARK = 0;
const EXIT_STATUS = 1;

export interface BootMarksOptions {
  /** Offer of the machine, in one byte. Default 0: nothing. */
  readonly offer?: number;
  readonly version?: number;
  onMark(mark: number): void;
  onExitStatus(status: number): void;
}

export class BootMarks implements BusDevice {
  readonly name = 'boot-marks';
  readonly #options: BootMarksOptions;

  constructor(options: BootMarksOptions) {
    this.#options = options;
  }

  read(offset: number, data: Uint8Array): void {
    const { offer = 0, version = 0 } = this.#options;
    for (let i = 0; i < data.length; i++)
      data[i] = offset + i === MARK ? offer : offset + i === EXIT_STATUS ? version : 0;
  }

  write(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) {
      const value = data[i] as number;
      if (offset + i === MARK) this.#options.onMark(value);
      else if (offset + i === EXIT_STATUS) this.#options.onExitStatus(value);
    }
  }
}
