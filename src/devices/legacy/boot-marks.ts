/**
 * Two ports of our own: MARK, by which the guest says how far it has come, and EXIT_STATUS, by which its init hands over
 * the exit status of the command that it ran. MARK reads as what the machine offers.
 */
import type { BusDevice } from '../../bus/bus-device.js';

/** MARK and EXIT_STATUS. */
export const BOOT_MARKS_PORTS = 2;

/** Marks that tsvm's own init sets; a guest may use the others as it likes. */
export const BOOT_MARK = { INIT: 1, COMMAND: 2, READY: 3, DONE: 4 } as const;

/** What MARK reads as in a machine with a channel; 0 without. Ports that are not there read 0xff. */
const OFFERS_CHANNEL = 0x43; // "C"

const MARK = 0;
const EXIT_STATUS = 1;

export interface BootMarksOptions {
  /** Tell the guest's init to wait for its command on the channel. */
  readonly channel?: boolean;
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
    data.fill(0);
    if (offset === MARK && this.#options.channel === true) data[0] = OFFERS_CHANNEL;
  }

  write(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) {
      const value = data[i] as number;
      if (offset + i === MARK) this.#options.onMark(value);
      else if (offset + i === EXIT_STATUS) this.#options.onExitStatus(value);
    }
  }
}
