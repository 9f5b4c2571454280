/**
 * The ACPI sleep control, sleep status and reset registers of a hardware-reduced machine: `poweroff` and `reboot`.
 *
 * ACPI 6.5, 4.8.3.7 (sleep control and status), 4.8.3.6 (reset register).
 *
 * @spec acpi-6.5 4.8.3.6  Reset register                      #yes
 * @spec acpi-6.5 4.8.3.7  Sleep control and status registers  #partial  soft-off only
 */
import type { BusDevice } from '../../bus/bus-device.js';
import {
  ACPI_RESET_OFFSET,
  ACPI_RESET_VALUE,
  ACPI_S5_SLEEP_TYPE,
  ACPI_SLEEP_CONTROL_OFFSET,
} from '../../memory/layout.js';

/** Sleep control, sleep status, reset. */
export const ACPI_POWER_PORTS = 3;
const SLP_EN = 0x20;
const SLP_TYP_SHIFT = 2;
const SLP_TYP_MASK = 0x07;

export interface AcpiPowerOptions {
  onPowerOff(): void;
  onReset(): void;
}

export class AcpiPower implements BusDevice {
  readonly name = 'acpi-power';
  readonly #options: AcpiPowerOptions;

  constructor(options: AcpiPowerOptions) {
    this.#options = options;
  }

  /** SLP_EN reads zero, and the machine never wakes up from anything: all zeroes. */
  read(_offset: number, data: Uint8Array): void {
    data.fill(0);
  }

  write(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) {
      const value = data[i] as number;
      if (offset + i === ACPI_SLEEP_CONTROL_OFFSET && (value & SLP_EN) !== 0) {
        // Only soft-off is in the DSDT; a guest that asks for another state goes on running.
        if (((value >>> SLP_TYP_SHIFT) & SLP_TYP_MASK) === ACPI_S5_SLEEP_TYPE) this.#options.onPowerOff();
      } else if (offset + i === ACPI_RESET_OFFSET && value === ACPI_RESET_VALUE) {
        this.#options.onReset();
      }
    }
  }
}
