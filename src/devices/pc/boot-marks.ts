/**
 * Three ports of our own: MARK, by which the guest says how far it has come; EXIT_STATUS, by which its init hands over the exit status of
 * the command that it ran; and AGENT, which is only read. MARK reads as what the machine offers, EXIT_STATUS as the version of that, AGENT as
 * the wish for an agent.
 *
 * @spec tsvm-guest "ports"  MARK, EXIT_STATUS and AGENT  #yes
 */
import type { BusDevice } from '../../bus/bus-device.js';

/** MARK, EXIT_STATUS and AGENT. */
export const BOOT_MARKS_PORTS = 3;

const MARK = 0;
const EXIT_STATUS = 1;
const AGENT = 2;

export interface BootMarksOptions {
  /** Offer of the machine, in one byte. Default 0: nothing. */
  readonly offer?: number;
  readonly version?: number;
  /** Wish for an agent, in one byte. Default 0: none. */
  readonly agent?: number;
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
    const { offer = 0, version = 0, agent = 0 } = this.#options;
    const values: Readonly<Record<number, number>> = {
      [MARK]: offer,
      [EXIT_STATUS]: version,
      [AGENT]: agent,
    };
    for (let i = 0; i < data.length; i++) data[i] = values[offset + i] ?? 0;
  }

  write(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) {
      const value = data[i] as number;
      if (offset + i === MARK) this.#options.onMark(value);
      else if (offset + i === EXIT_STATUS) this.#options.onExitStatus(value);
    }
  }
}
