/**
 * A 16550A UART: the console that every kernel can use first.
 *
 * The transmitter is always empty, so no guest ever waits for it. Input waits in a bounded queue on the host's side and
 * moves into the 16-byte FIFO only while the guest listens (RTS, or the receive interrupt, as a modem line would have
 * it), so that a driver that clears its FIFO when it opens the port loses nothing that was typed before.
 *
 * There is no line noise: overrun, parity, framing and break never occur, and the modem lines never change outside
 * loopback. So reading LSR and MSR has no side effect, which makes them `load` registers; THR is a `stream`.
 *
 * Registers: National Semiconductor PC16550D data sheet, June 1995, section 8.
 *
 * @spec pc16550d 8  Registers  #yes  no line noise, and modem lines that never change
 */
import type { BusDevice, FastRegister } from '../../bus/bus-device.js';
import type { Irq } from '../../bus/irq.js';
import { ByteQueue } from '../../util/byte-queue.js';
import { checkState, type StateOf, stateOf, type VersionedState } from '../../util/state.js';

/** Keystrokes and pasted or piped text that wait for the guest; what does not fit stays with the sender. */
const INPUT_QUEUE_BYTES = 4096;
const FIFO_BYTES = 16;

const DATA = 0; // RBR, THR; DLL with DLAB
const IER = 1; // DLM with DLAB
const IIR_FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;

const IER_RDI = 0x01;
const IER_THRI = 0x02;
const IER_MASK = 0x0f;

const IIR_NO_INT = 0x01;
const IIR_THRI = 0x02;
const IIR_RDI = 0x04;
const IIR_TIMEOUT = 0x0c;
const IIR_FIFO_ENABLED = 0xc0;

const FCR_ENABLE = 0x01;
const FCR_CLEAR_RX = 0x02;
const FCR_TRIGGERS = [1, 4, 8, 14] as const;

const LCR_DLAB = 0x80;

const MCR_RTS = 0x02;
const MCR_LOOP = 0x10;
const MCR_MASK = 0x1f;

const LSR_DR = 0x01;
const LSR_THRE = 0x20;
const LSR_TEMT = 0x40;

const MSR_CTS = 0x10;
const MSR_DSR = 0x20;
const MSR_RI = 0x40;
const MSR_DCD = 0x80;
const MSR_CONNECTED = MSR_CTS | MSR_DSR | MSR_DCD;

/** Interrupt conditions, as bits of the set of those pending. */
const PENDING_RX = 1;
const PENDING_TX = 2;

export interface SerialOptions {
  readonly irq: Irq;
  /** Bytes that the guest sent, in order. The array is valid during the call only. */
  onOutput(bytes: Uint8Array): void;
  /** There is room for input again after `input` took less than it was given. */
  onDrain?(): void;
}

const STATE_VERSION = 1;
/** Fields of its saved state. */
const STATE = {
  ier: 'u8',
  fcr: 'u8',
  lcr: 'u8',
  mcr: 'u8',
  scr: 'u8',
  divisor: 'u16',
  listening: 'boolean',
  threPending: 'boolean',
  fifo: 'bytes',
  queue: 'bytes',
} as const;

/**
 * A serial port of a PC: what the guest sends comes out at once, what it gets waits for it.
 *
 * @example
 * ```ts
 * import { Bus } from '../../bus/bus.js';
 * import { SERIAL_PORT, SERIAL_PORTS } from '../../memory/layout.js';
 * import { Serial } from './serial.js';
 *
 * const serial = new Serial({
 *   irq: { trigger: () => console.log('interrupt') },
 *   onOutput: (bytes) => process.stdout.write(bytes),
 * });
 * new Bus().attach(SERIAL_PORT, SERIAL_PORTS, serial);
 * serial.input(Buffer.from('ls\n'));
 * ```
 */
export class Serial implements BusDevice {
  readonly name = 'serial';
  readonly fastRegisters: readonly FastRegister[];
  readonly #options: SerialOptions;
  readonly #lsr = Uint8Array.of(LSR_THRE | LSR_TEMT);
  readonly #msr = Uint8Array.of(MSR_CONNECTED);
  readonly #streaming = Uint8Array.of(1);
  readonly #one = new Uint8Array(1);
  readonly #fifo = new ByteQueue(FIFO_BYTES);
  readonly #queue = new ByteQueue(INPUT_QUEUE_BYTES);
  #ier = 0;
  #fcr = 0;
  #lcr = 0;
  #mcr = 0;
  #scr = 0;
  #divisor = 12; // 9600 baud
  /** Until the guest first writes MCR it is taken to listen, so that the simplest polling guest gets its input. */
  #listening = true;
  /** The transmitter ran empty and IIR has not told so yet. */
  #threPending = false;
  #pending = 0;
  #refusedInput = false;

  constructor(options: SerialOptions) {
    this.#options = options;
    this.fastRegisters = [
      { kind: 'stream', offset: DATA, enabled: this.#streaming, onBytes: (bytes) => this.#transmit(bytes) },
      { kind: 'load', offset: LSR, cell: this.#lsr },
      { kind: 'load', offset: MSR, cell: this.#msr },
    ];
  }

  /** Input from the host. Returns how many bytes were taken; after less than all, `onDrain` tells when to go on. */
  input(bytes: Uint8Array): number {
    const taken = this.#queue.push(bytes);
    this.#refusedInput ||= taken < bytes.length;
    this.#receive();
    return taken;
  }

  read(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) data[i] = this.#readRegister(offset + i);
  }

  write(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) this.#writeRegister(offset + i, data[i] as number);
  }

  #readRegister(offset: number): number {
    const dlab = (this.#lcr & LCR_DLAB) !== 0;
    switch (offset) {
      case DATA: {
        if (dlab) return this.#divisor & 0xff;
        const byte = this.#fifo.shift() ?? 0;
        // Without FIFOs each byte is an interrupt of its own, although the next may be there at once.
        if ((this.#fcr & FCR_ENABLE) === 0) this.#update();
        this.#receive();
        return byte;
      }
      case IER:
        return dlab ? this.#divisor >>> 8 : this.#ier;
      case IIR_FCR:
        return this.#readIir();
      case LCR:
        return this.#lcr;
      case MCR:
        return this.#mcr;
      case LSR:
        return this.#lsr[0] as number;
      case MSR:
        return this.#msr[0] as number;
      case SCR:
        return this.#scr;
      default:
        return 0xff;
    }
  }

  #readIir(): number {
    const fifos = (this.#fcr & FCR_ENABLE) !== 0 ? IIR_FIFO_ENABLED : 0;
    if ((this.#pending & PENDING_RX) !== 0) {
      // Less than the trigger level means that no more comes: the character timeout, here without the wait.
      return fifos | (this.#fifo.length >= this.#trigger() ? IIR_RDI : IIR_TIMEOUT);
    }
    if ((this.#pending & PENDING_TX) !== 0) {
      this.#threPending = false; // 8.6.3: reading IIR, if it is the source, clears it
      this.#update();
      return fifos | IIR_THRI;
    }
    return fifos | IIR_NO_INT;
  }

  #writeRegister(offset: number, value: number): void {
    const dlab = (this.#lcr & LCR_DLAB) !== 0;
    switch (offset) {
      case DATA:
        if (dlab) {
          this.#divisor = (this.#divisor & 0xff00) | value;
        } else if ((this.#mcr & MCR_LOOP) !== 0) {
          this.#one[0] = value;
          this.#fifo.push(this.#one); // a full FIFO drops it: there is no overrun to tell of
          this.#transmitted();
        } else {
          this.#one[0] = value;
          this.#transmit(this.#one);
        }
        return;
      case IER:
        if (dlab) {
          this.#divisor = (this.#divisor & 0x00ff) | (value << 8);
          return;
        }
        // Enabling the interrupt while the transmitter is empty raises it anew; drivers test for that.
        if ((value & IER_THRI) !== 0 && (this.#ier & IER_THRI) === 0) this.#threPending = true;
        this.#ier = value & IER_MASK;
        this.#receive();
        return;
      case IIR_FCR:
        if (((value ^ this.#fcr) & FCR_ENABLE) !== 0 || (value & FCR_CLEAR_RX) !== 0) this.#fifo.clear();
        this.#fcr = value & (FCR_ENABLE | 0xc0);
        this.#receive();
        return;
      case LCR:
        this.#lcr = value;
        this.#updateStreaming();
        return;
      case MCR:
        this.#mcr = value & MCR_MASK;
        this.#listening = false;
        this.#updateStreaming();
        this.#updateModemStatus();
        this.#receive();
        return;
      case SCR:
        this.#scr = value;
        return;
      default: // LSR and MSR are read-only
        return;
    }
  }

  /** The FIFO level that counts as "data available". */
  #trigger(): number {
    return (this.#fcr & FCR_ENABLE) !== 0 ? (FCR_TRIGGERS[this.#fcr >>> 6] ?? 1) : 1;
  }

  #transmit(bytes: Uint8Array): void {
    this.#options.onOutput(bytes);
    this.#transmitted();
  }

  #transmitted(): void {
    this.#threPending = true;
    this.#update();
  }

  /** Moves input on, as far as the guest listens and the FIFO has room. */
  #receive(): void {
    const looped = (this.#mcr & MCR_LOOP) !== 0;
    const listening = this.#listening || (this.#mcr & MCR_RTS) !== 0 || (this.#ier & IER_RDI) !== 0;
    if (listening && !looped) {
      const depth = (this.#fcr & FCR_ENABLE) !== 0 ? FIFO_BYTES : 1;
      while (this.#fifo.length < depth) {
        const byte = this.#queue.shift();
        if (byte === undefined) break;
        this.#one[0] = byte;
        this.#fifo.push(this.#one);
      }
    }
    this.#update();
    if (this.#refusedInput && this.#queue.length <= INPUT_QUEUE_BYTES / 2) {
      this.#refusedInput = false;
      this.#options.onDrain?.();
    }
  }

  /** Brings LSR and the pending interrupts up to date, with one edge for every condition that is newly pending. */
  #update(): void {
    this.#lsr[0] = LSR_THRE | LSR_TEMT | (this.#fifo.length > 0 ? LSR_DR : 0);
    const pending =
      ((this.#ier & IER_RDI) !== 0 && this.#fifo.length > 0 ? PENDING_RX : 0) |
      ((this.#ier & IER_THRI) !== 0 && this.#threPending ? PENDING_TX : 0);
    const fresh = pending & ~this.#pending;
    this.#pending = pending;
    if (fresh !== 0) this.#options.irq.trigger();
  }

  #updateStreaming(): void {
    this.#streaming[0] = (this.#lcr & LCR_DLAB) === 0 && (this.#mcr & MCR_LOOP) === 0 ? 1 : 0;
  }

  /** 8.8: in loopback DTR, RTS, OUT1 and OUT2 come back as DSR, CTS, RI and DCD. */
  #updateModemStatus(): void {
    const mcr = this.#mcr;
    if ((mcr & MCR_LOOP) === 0) {
      this.#msr[0] = MSR_CONNECTED;
      return;
    }
    this.#msr[0] =
      ((mcr & 0x01) !== 0 ? MSR_DSR : 0) |
      ((mcr & 0x02) !== 0 ? MSR_CTS : 0) |
      ((mcr & 0x04) !== 0 ? MSR_RI : 0) |
      ((mcr & 0x08) !== 0 ? MSR_DCD : 0);
  }

  save(): StateOf<typeof STATE> {
    return {
      version: STATE_VERSION,
      ier: this.#ier,
      fcr: this.#fcr,
      lcr: this.#lcr,
      mcr: this.#mcr,
      scr: this.#scr,
      divisor: this.#divisor,
      listening: this.#listening,
      threPending: this.#threPending,
      fifo: this.#fifo.toArray(),
      queue: this.#queue.toArray(),
    };
  }

  restore(saved: VersionedState): void {
    const state = stateOf(this.name, saved, STATE_VERSION, STATE);
    checkState(state.fifo.length <= FIFO_BYTES, 'serial: FIFO too long');
    checkState(state.queue.length <= INPUT_QUEUE_BYTES, 'serial: input queue too long');
    this.#ier = state.ier & IER_MASK;
    this.#fcr = state.fcr & (FCR_ENABLE | 0xc0);
    this.#lcr = state.lcr;
    this.#mcr = state.mcr & MCR_MASK;
    this.#scr = state.scr;
    this.#divisor = state.divisor;
    this.#listening = state.listening;
    this.#threPending = state.threPending;
    this.#fifo.clear();
    this.#fifo.push(Uint8Array.from(state.fifo));
    this.#queue.clear();
    this.#queue.push(Uint8Array.from(state.queue));
    this.#updateStreaming();
    this.#updateModemStatus();
    this.#pending = 0; // an edge too many is harmless, one too few is a guest that waits for ever
    this.#update();
  }
}
