/**
 * Two ports of our own: MARK, by which the guest says how far it has come, and EXIT_STATUS, by which its init hands over
 * the exit status of the command that it ran. MARK reads as what the machine offers.
 *
 * @spec tsvm-guest "ports"  MARK and EXIT_STATUS  #yes
 */
import type { BusDevice } from '../../bus/bus-device.js';

/** MARK and EXIT_STATUS. */
export const BOOT_MARKS_PORTS = 2;

/** What MARK reads as: "C", "S", or 0. Ports that are not there read 0xff. */
export const BOOT_OFFER = { NOTHING: 0, CHANNEL: 0x43, STOP_PORT: 0x53 } as const;

const MARK = 0;
const EXIT_STATUS = 1;

export interface BootMarksOptions {
  /** What the guest's init finds at its first virtio-console: the channel, the stop port, or nothing. */
  readonly offer?: number;
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
    if (offset === MARK) data[0] = this.#options.offer ?? BOOT_OFFER.NOTHING;
  }

  write(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) {
      const value = data[i] as number;
      if (offset + i === MARK) this.#options.onMark(value);
      else if (offset + i === EXIT_STATUS) this.#options.onExitStatus(value);
    }
  }
}
