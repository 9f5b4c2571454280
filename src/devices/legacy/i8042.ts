/**
 * What is left of the keyboard controller: the way to reset a PC.
 *
 * There is no keyboard. The status register always says "output full, input empty": whoever is about to send a command
 * (Linux with `reboot=k`) need not wait, and whoever looks for a controller drains it in vain a few times and
 * concludes at once that there is none (Linux drivers/input/serio/i8042.c, i8042_flush; SeaBIOS src/hw/ps2port.c).
 */
import type { BusDevice } from '../../bus/bus-device.js';
import { checkStateVersion, type VersionedState } from '../../util/state.js';

/** Ports 0x60 to 0x64. */
export const I8042_PORTS = 5;

const DATA = 0;
const COMMAND_STATUS = 4;

const STATUS_OUTPUT_FULL = 0x01;
const COMMAND_WRITE_OUTPUT_PORT = 0xd1;
const COMMAND_PULSE_RESET = 0xfe;
/** Of the output port: the CPU's reset line, active low. */
const OUTPUT_PORT_RESET = 0x01;

export interface I8042Options {
  /** The guest asked for a reset. */
  onReset(): void;
}

/** Saved state of an {@link I8042}. */
export interface I8042State extends VersionedState {
  readonly outputPortNext: boolean;
}

export class I8042 implements BusDevice {
  readonly name = 'i8042';
  readonly #options: I8042Options;
  #outputPortNext = false;

  constructor(options: I8042Options) {
    this.#options = options;
  }

  read(offset: number, data: Uint8Array): void {
    data.fill(0xff);
    if (offset === COMMAND_STATUS) data[0] = STATUS_OUTPUT_FULL;
    else if (offset === DATA) data[0] = 0;
  }

  write(offset: number, data: Uint8Array): void {
    const value = data[0];
    if (offset === COMMAND_STATUS) {
      this.#outputPortNext = value === COMMAND_WRITE_OUTPUT_PORT;
      if (value === COMMAND_PULSE_RESET) this.#options.onReset();
    } else if (offset === DATA && this.#outputPortNext) {
      this.#outputPortNext = false;
      if (((value as number) & OUTPUT_PORT_RESET) === 0) this.#options.onReset();
    }
  }

  save(): I8042State {
    return { version: 1, outputPortNext: this.#outputPortNext };
  }

  restore(state: I8042State): void {
    checkStateVersion(this.name, state, 1);
    this.#outputPortNext = state.outputPortNext;
  }
}
