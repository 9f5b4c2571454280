/**
 * The debug port that SeaBIOS and others print to. It reads 0xE9, by which they know that somebody listens
 * (SeaBIOS src/hw/serialio.c, debug_io_port).
 *
 * @spec seabios "debug_io_port"  Debug console, which reads 0xE9  #yes
 */
import type { BusDevice, FastRegister } from '../../bus/bus-device.js';

/** One port. */
export const DEBUG_CONSOLE_PORTS = 1;
const READBACK = 0xe9;

export interface DebugConsoleOptions {
  /** Bytes in order. The array is valid during the call only. */
  onOutput(bytes: Uint8Array): void;
}

export class DebugConsole implements BusDevice {
  readonly name = 'debug-console';
  readonly fastRegisters: readonly FastRegister[];
  readonly #options: DebugConsoleOptions;

  constructor(options: DebugConsoleOptions) {
    this.#options = options;
    this.fastRegisters = [
      { kind: 'load', offset: 0, cell: Uint8Array.of(READBACK) },
      { kind: 'stream', offset: 0, enabled: Uint8Array.of(1), onBytes: (bytes) => options.onOutput(bytes) },
    ];
  }

  read(_offset: number, data: Uint8Array): void {
    data.fill(READBACK);
  }

  write(_offset: number, data: Uint8Array): void {
    this.#options.onOutput(data);
  }
}
