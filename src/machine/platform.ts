/** Who sits where: the devices of a machine on its two buses, with their interrupts and their way out. */
import assert from 'node:assert';
import { Bus } from '../bus/bus.js';
import type { BusDevice } from '../bus/bus-device.js';
import type { Irq } from '../bus/irq.js';
import { ACPI_POWER_PORTS, AcpiPower } from '../devices/pc/acpi-power.js';
import { BOOT_MARKS_PORTS, BootMarks } from '../devices/pc/boot-marks.js';
import { DEBUG_CONSOLE_PORTS, DebugConsole } from '../devices/pc/debug-console.js';
import { I8042 } from '../devices/pc/i8042.js';
import { Rtc } from '../devices/pc/rtc.js';
import { Serial } from '../devices/pc/serial.js';
import { VmGeneration } from '../devices/pc/vm-generation.js';
import { offerOf } from '../guest/init-ways.js';
import { OFFER, OFFER_AGENT, PROTOCOL_VERSION } from '../guest/protocol.js';
import type { GuestMemory } from '../memory/guest-memory.js';
import {
  ACPI_EVENT_IRQ,
  ACPI_POWER_PORT,
  BOOT_MARKS_PORT,
  DEBUG_CONSOLE_PORT,
  I8042_IRQ,
  I8042_PORT,
  I8042_PORTS,
  RTC_PORT,
  RTC_PORTS,
  ramRanges,
  SERIAL_IRQ,
  SERIAL_PORT,
  SERIAL_PORTS,
  VIRTIO_GSIS,
  VIRTIO_MMIO_ADDR,
  VIRTIO_MMIO_BYTES,
  VIRTIO_MMIO_STRIDE,
} from '../memory/layout.js';
import { allDone } from '../util/cleanup.js';
import { checkState } from '../util/state.js';
import type { DeviceState, VirtioDevice } from '../virtio/device.js';
import { VirtioMmio, type VirtioMmioState } from '../virtio/transport/mmio.js';
import { DEFAULT_MEMORY_BYTES, type MachineConfig } from './config.js';
import type { Terminal } from './console.js';
import type { Space, Wiring } from './wiring.js';

/** Events of the devices, for the machine. */
export interface PlatformEvents {
  onMark(code: number): void;
  onExitStatus(status: number): void;
  onPowerOff(): void;
  onReset(): void;
  onDeviceError(device: string, reason: string): void;
  /** Something threw in a device that must not. */
  onDeviceFault(device: string, error: unknown): void;
}

export interface PlatformOptions {
  readonly config: MachineConfig;
  readonly memory: GuestMemory;
  readonly wiring: Wiring;
  /** VM generation ID for the guest, if it is to have one. */
  readonly generation: Uint8Array;
  readonly terminal: Terminal;
  /** In the order of their slots. */
  readonly devices: readonly VirtioDevice[];
  readonly events: PlatformEvents;
}

/** A virtio device in its slot. */
export interface DeviceSlot {
  readonly addr: number;
  readonly length: number;
  readonly gsi: number;
  readonly transport: VirtioMmio;
}

/** Saved state of every device. */
export interface PlatformState {
  /** State of the devices at ports that have one, by the names of their rows. */
  readonly board: Readonly<Record<string, DeviceState>>;
  readonly slots: readonly VirtioMmioState[];
  /** True if the guest has a VM generation ID. */
  readonly generation: boolean;
}

/** A device at ports, on the board of the machine. */
interface BoardRow {
  /** Name of the device's state in a saved machine: it stays as it is. */
  readonly name: string;
  readonly base: number;
  readonly length: number;
  /** Default true. */
  readonly present?: boolean;
  readonly device: () => BusDevice;
}

/** The devices at ports, a row each. Ports that firmware tables tell the guest too are named in memory/layout.ts. */
function boardRows({ config, terminal, events, wiring }: PlatformOptions): readonly BoardRow[] {
  return [
    {
      name: 'i8042',
      base: I8042_PORT,
      length: I8042_PORTS,
      device: () => new I8042({ irq: wiring.rareIrq(I8042_IRQ), onReset: events.onReset }),
    },
    {
      name: 'rtc',
      base: RTC_PORT,
      length: RTC_PORTS,
      device: () => new Rtc({ now: Date.now, firmware: firmwareFacts(config) }),
    },
    {
      name: 'serial',
      base: SERIAL_PORT,
      length: SERIAL_PORTS,
      present: config.console !== 'none',
      device: () => serialPort(wiring.irq(SERIAL_IRQ), config, terminal),
    },
    {
      name: 'debug-console',
      base: DEBUG_CONSOLE_PORT,
      length: DEBUG_CONSOLE_PORTS,
      present: config.firmware !== undefined,
      device: () => new DebugConsole({ onOutput: terminal.onOutput }),
    },
    {
      name: 'boot-marks',
      base: BOOT_MARKS_PORT,
      length: BOOT_MARKS_PORTS,
      device: () =>
        new BootMarks({
          ...events,
          offer: offerOf(config),
          version: PROTOCOL_VERSION,
          agent: config.agent === true ? OFFER_AGENT : OFFER.NOTHING,
        }),
    },
    {
      name: 'acpi-power',
      base: ACPI_POWER_PORT,
      length: ACPI_POWER_PORTS,
      device: () => new AcpiPower(events),
    },
  ];
}

export class Platform {
  readonly ports = new Bus();
  readonly mmio = new Bus();
  readonly slots: readonly DeviceSlot[];
  readonly #wiring: Wiring;
  /** Devices at ports, by the names of their rows. */
  readonly #board = new Map<string, BusDevice>();
  readonly generation: VmGeneration;

  constructor(options: PlatformOptions) {
    const { memory, wiring, generation, events, devices } = options;
    this.#wiring = wiring;
    for (const { name, base, length, present = true, device: make } of boardRows(options)) {
      if (!present) continue;
      const device = make();
      this.#attach('port', base, length, device);
      this.#board.set(name, device);
    }
    this.generation = new VmGeneration(memory, wiring.rareIrq(ACPI_EVENT_IRQ), generation);
    this.slots = devices.map((device, index) => this.#addSlot(index, device, memory, events));
  }

  #addSlot(index: number, device: VirtioDevice, memory: GuestMemory, events: PlatformEvents): DeviceSlot {
    const gsi = VIRTIO_GSIS[index];
    assert(gsi !== undefined, 'more devices than a configuration may ask for');
    const addr = VIRTIO_MMIO_ADDR + index * VIRTIO_MMIO_STRIDE;
    const transport = new VirtioMmio({
      device,
      memory,
      irq: this.#wiring.irq(gsi),
      events: {
        needsReset: (name, reason) => events.onDeviceError(name, reason),
        fault: (name, error) => events.onDeviceFault(name, error),
      },
    });
    this.#attach('memory', addr, VIRTIO_MMIO_BYTES, transport);
    return { addr, length: VIRTIO_MMIO_STRIDE, gsi, transport };
  }

  #attach(space: Space, addr: number, length: number, device: BusDevice): void {
    (space === 'port' ? this.ports : this.mmio).attach(addr, length, device);
    this.#wiring.add(space, addr, device);
  }

  /** Presses Ctrl-Alt-Del. False if the guest has no driver that waits for keys. */
  pressCtrlAltDel(): boolean {
    const keyboard = [...this.#board.values()].find((device) => device instanceof I8042);
    return keyboard?.pressCtrlAltDel() === true;
  }

  /**
   * Waits for requests in flight, and takes no new ones: afterwards no device touches guest memory. If one cannot, this rejects,
   * but only when all others have.
   */
  async pause(): Promise<void> {
    await allDone(this.slots.map((slot) => slot.transport.core.pause()));
  }

  resume(): void {
    this.generation.resume();
    for (const slot of this.slots) slot.transport.core.resume();
  }

  /** Only while paused. */
  save(): PlatformState {
    const board: Record<string, DeviceState> = {};
    for (const [name, device] of this.#board) {
      const state = device.save?.();
      if (state !== undefined) board[name] = { ...state };
    }
    return {
      board,
      slots: this.slots.map(({ transport }) => transport.save()),
      generation: this.generation.save(),
    };
  }

  /**
   * Into devices that have done nothing yet; guest memory must be in place. They stay paused until `resume`.
   *
   * @param fresh - whether the guest is to take new random numbers, since it is a copy
   */
  restore(state: PlatformState, fresh = true): void {
    let restored = 0;
    for (const [name, device] of this.#board) {
      if (device.restore === undefined) continue;
      const saved = Object.hasOwn(state.board, name) ? state.board[name] : undefined;
      checkState(saved !== undefined, `it has no ${name}`);
      device.restore(saved);
      restored++;
    }
    checkState(Object.keys(state.board).length === restored, 'it has a device that this machine has not');
    checkState(state.slots.length === this.slots.length, `it has ${state.slots.length} virtio devices`);
    this.generation.restore(state.generation, fresh);
    this.slots.forEach(({ transport }, i) => {
      transport.restore(state.slots[i] as VirtioMmioState);
    });
  }
}

/** The serial port; the machine's console, unless that is elsewhere. */
function serialPort(irq: Irq, config: MachineConfig, terminal: Terminal): Serial {
  const serial = new Serial({ irq, onOutput: terminal.onOutput, onDrain: () => terminal.onDrain() });
  if (config.console !== 'virtio')
    terminal.connect({ input: (bytes) => serial.input(bytes), resize: () => {} });
  return serial;
}

function firmwareFacts(config: MachineConfig) {
  const [low, high] = ramRanges(config.memoryBytes ?? DEFAULT_MEMORY_BYTES);
  return { lowMemoryBytes: low?.length ?? 0, highMemoryBytes: high?.length ?? 0, cpuCount: config.cpus ?? 1 };
}
