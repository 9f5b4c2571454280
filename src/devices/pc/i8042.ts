/**
 * The keyboard controller of a PC, with a keyboard that can press one chord: Ctrl-Alt-Del, by which a guest is asked to
 * restart. It is the way to reset a PC too.
 *
 * Intel 8042, as an AT has it: IBM, Personal System/2 Technical Reference, "Keyboard and Auxiliary Device Controller". What
 * drivers make of it: Linux drivers/input/serio/i8042.c and drivers/input/keyboard/atkbd.c; SeaBIOS src/hw/ps2port.c. There is no
 * mouse, and every command is answered at once: drivers poll for half a second where nothing comes.
 *
 * @spec ibm-ps2 "Keyboard and Auxiliary Device Controller"  Keyboard controller  #partial  a keyboard with one chord, no mouse
 */
import type { BusDevice } from '../../bus/bus-device.js';
import type { Irq } from '../../bus/irq.js';
import { I8042_COMMAND_OFFSET, I8042_DATA_OFFSET } from '../../memory/layout.js';
import { checkState, type StateOf, stateOf, type VersionedState } from '../../util/state.js';

const STATUS_OUTPUT_FULL = 0x01;
/** Self-test passed. */
const STATUS_SYSTEM = 0x04;
/** The last write went to the command port. */
const STATUS_COMMAND = 0x08;
/** Not locked with a key. */
const STATUS_UNLOCKED = 0x10;

/** The controller's command byte. */
const CONTROL_KEYBOARD_INTERRUPT = 0x01;
const CONTROL_SYSTEM = 0x04;
const CONTROL_KEYBOARD_DISABLED = 0x10;
const CONTROL_AUX_DISABLED = 0x20;
/** Scan codes of set 2 are passed on as those of set 1. */
const CONTROL_TRANSLATE = 0x40;

const COMMAND = {
  readControl: 0x20,
  writeControl: 0x60,
  disableAux: 0xa7,
  enableAux: 0xa8,
  testAux: 0xa9,
  selfTest: 0xaa,
  testKeyboard: 0xab,
  disableKeyboard: 0xad,
  enableKeyboard: 0xae,
  readOutputPort: 0xd0,
  writeOutputPort: 0xd1,
  loopKeyboard: 0xd2,
  loopAux: 0xd3,
  sendAux: 0xd4,
  pulseReset: 0xfe,
} as const;

const SELF_TEST_PASSED = 0x55;
const TEST_PASSED = 0x00;
/** "The clock line is stuck low": there is no mouse. */
const TEST_AUX_FAILED = 0x01;

/** Of the output port: the CPU's reset line, active low, and the A20 gate. */
const OUTPUT_PORT_RESET = 0x01;
const OUTPUT_PORT_A20 = 0x02;

const KEYBOARD = {
  setLeds: 0xed,
  echo: 0xee,
  scanCodeSet: 0xf0,
  identify: 0xf2,
  typematic: 0xf3,
  enable: 0xf4,
  disable: 0xf5,
  defaults: 0xf6,
  reset: 0xff,
} as const;
const ACK = 0xfa;
const RESEND = 0xfe;
const KEYBOARD_TEST_PASSED = 0xaa;
const KEYBOARD_ID = [0xab, 0x83];
const SCAN_CODE_SET = 2;

/** Ctrl, Alt and Del down, then up. */
const CTRL_ALT_DEL_SET_1 = [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d];
const CTRL_ALT_DEL_SET_2 = [0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14];

const NOTHING: readonly number[] = [];

/** Room for what waits to be read: as much as any answer or chord needs, twice. */
const QUEUE_BYTES = 32;

export interface I8042Options {
  readonly irq: Irq;
  /** The guest asked for a reset. */
  onReset(): void;
}

const STATE_VERSION = 2;
/** Fields of its saved state. */
const STATE = {
  control: 'u8',
  status: 'u8',
  /** Bytes that wait to be read. */
  queue: 'bytes',
  /** The command that waits for its byte at the data port, of the controller or of the keyboard; or 0. */
  controllerCommand: 'u8',
  keyboardCommand: 'u8',
} as const;

export class I8042 implements BusDevice {
  readonly name = 'i8042';
  readonly #options: I8042Options;
  #control = CONTROL_SYSTEM | CONTROL_KEYBOARD_DISABLED | CONTROL_AUX_DISABLED;
  #status = STATUS_SYSTEM | STATUS_UNLOCKED;
  #queue: number[] = [];
  #controllerCommand = 0;
  #keyboardCommand = 0;

  constructor(options: I8042Options) {
    this.#options = options;
  }

  /** True while a driver waits for keys. */
  get isListenedTo(): boolean {
    return (
      (this.#control & (CONTROL_KEYBOARD_INTERRUPT | CONTROL_KEYBOARD_DISABLED)) ===
      CONTROL_KEYBOARD_INTERRUPT
    );
  }

  /** Presses Ctrl-Alt-Del and lets go. Returns false, and does nothing, if no driver waits for keys, or reads them. */
  pressCtrlAltDel(): boolean {
    if (!this.isListenedTo) return false;
    return this.#answer((this.#control & CONTROL_TRANSLATE) !== 0 ? CTRL_ALT_DEL_SET_1 : CTRL_ALT_DEL_SET_2);
  }

  read(offset: number, data: Uint8Array): void {
    data.fill(0xff);
    if (offset === I8042_COMMAND_OFFSET)
      data[0] = this.#status | (this.#queue.length > 0 ? STATUS_OUTPUT_FULL : 0);
    else if (offset === I8042_DATA_OFFSET) data[0] = this.#take();
  }

  write(offset: number, data: Uint8Array): void {
    const value = data[0] as number;
    if (offset === I8042_COMMAND_OFFSET) {
      this.#status |= STATUS_COMMAND;
      this.#answer(this.#obey(value));
    } else if (offset === I8042_DATA_OFFSET) {
      this.#status &= ~STATUS_COMMAND;
      const command = this.#controllerCommand;
      this.#controllerCommand = 0;
      this.#answer(command === 0 ? this.#keyboard(value) : this.#obeyWith(command, value));
    }
  }

  /** The next byte of many comes with an interrupt of its own. */
  #take(): number {
    const value = this.#queue.shift() ?? 0;
    this.#interrupt();
    return value;
  }

  /** False: there is no room. */
  #answer(bytes: readonly number[]): boolean {
    if (this.#queue.length + bytes.length > QUEUE_BYTES) return false;
    const wasEmpty = this.#queue.length === 0;
    this.#queue.push(...bytes);
    if (wasEmpty) this.#interrupt();
    return true;
  }

  #interrupt(): void {
    if (this.#queue.length > 0 && (this.#control & CONTROL_KEYBOARD_INTERRUPT) !== 0)
      this.#options.irq.trigger();
  }

  /** Answer of the controller to a command. */
  #obey(command: number): readonly number[] {
    this.#controllerCommand = 0;
    switch (command) {
      case COMMAND.readControl:
        return [this.#control];
      case COMMAND.testAux:
        return [TEST_AUX_FAILED];
      case COMMAND.selfTest:
        return [SELF_TEST_PASSED];
      case COMMAND.testKeyboard:
        return [TEST_PASSED];
      case COMMAND.readOutputPort:
        return [OUTPUT_PORT_RESET | OUTPUT_PORT_A20];
      case COMMAND.disableAux:
        this.#control |= CONTROL_AUX_DISABLED;
        return NOTHING;
      case COMMAND.enableAux:
        this.#control &= ~CONTROL_AUX_DISABLED;
        return NOTHING;
      case COMMAND.disableKeyboard:
        this.#control |= CONTROL_KEYBOARD_DISABLED;
        return NOTHING;
      case COMMAND.enableKeyboard:
        this.#control &= ~CONTROL_KEYBOARD_DISABLED;
        return NOTHING;
      case COMMAND.pulseReset:
        this.#options.onReset();
        return NOTHING;
      case COMMAND.writeControl:
      case COMMAND.writeOutputPort:
      case COMMAND.loopKeyboard:
      case COMMAND.loopAux:
      case COMMAND.sendAux:
        this.#controllerCommand = command;
        return NOTHING;
      default:
        return NOTHING;
    }
  }

  /** Answer of the controller to the byte that a command waited for. */
  #obeyWith(command: number, value: number): readonly number[] {
    switch (command) {
      case COMMAND.writeControl:
        this.#control = value;
        this.#interrupt(); // what waits already is told of as well
        return NOTHING;
      case COMMAND.writeOutputPort:
        if ((value & OUTPUT_PORT_RESET) === 0) this.#options.onReset();
        return NOTHING;
      case COMMAND.loopKeyboard:
      case COMMAND.loopAux: // without the mark of the mouse, so that a driver sees that there is none
        return [value];
      default: // sendAux: nobody is there to hear it
        return [RESEND];
    }
  }

  /** Answer of the keyboard. */
  #keyboard(value: number): readonly number[] {
    const command = this.#keyboardCommand;
    this.#keyboardCommand = 0;
    if (command === KEYBOARD.scanCodeSet && value === 0) return [ACK, SCAN_CODE_SET];
    if (command !== 0) return [ACK];
    switch (value) {
      case KEYBOARD.echo:
        return [KEYBOARD.echo];
      case KEYBOARD.identify:
        return [ACK, ...KEYBOARD_ID];
      case KEYBOARD.reset:
        return [ACK, KEYBOARD_TEST_PASSED];
      case KEYBOARD.setLeds:
      case KEYBOARD.scanCodeSet:
      case KEYBOARD.typematic:
        this.#keyboardCommand = value;
        return [ACK];
      case KEYBOARD.enable:
      case KEYBOARD.disable:
      case KEYBOARD.defaults:
        return [ACK];
      default:
        return [RESEND];
    }
  }

  save(): StateOf<typeof STATE> {
    return {
      version: STATE_VERSION,
      control: this.#control,
      status: this.#status,
      queue: [...this.#queue],
      controllerCommand: this.#controllerCommand,
      keyboardCommand: this.#keyboardCommand,
    };
  }

  restore(saved: VersionedState): void {
    const state = stateOf(this.name, saved, STATE_VERSION, STATE);
    checkState(state.queue.length <= QUEUE_BYTES, `${this.name} has ${state.queue.length} bytes waiting`);
    this.#control = state.control;
    this.#status = state.status;
    this.#queue = [...state.queue];
    this.#controllerCommand = state.controllerCommand;
    this.#keyboardCommand = state.keyboardCommand;
  }
}
