/** Who sits where: the devices of a machine on its two buses, with their interrupts and their way out. */
import assert from 'node:assert';
import { Bus } from '../bus/bus.js';
import type { BusDevice } from '../bus/bus-device.js';
import { ACPI_POWER_PORTS, AcpiPower } from '../devices/pc/acpi-power.js';
import { BOOT_MARKS_PORTS, BootMarks } from '../devices/pc/boot-marks.js';
import { DEBUG_CONSOLE_PORTS, DebugConsole } from '../devices/pc/debug-console.js';
import { I8042, I8042_PORTS, type I8042State } from '../devices/pc/i8042.js';
import { RTC_PORTS, Rtc, type RtcState } from '../devices/pc/rtc.js';
import { SERIAL_PORTS, Serial, type SerialState } from '../devices/pc/serial.js';
import { VmGeneration } from '../devices/pc/vm-generation.js';
import { offerOf } from '../guest/agent.js';
import { PROTOCOL_VERSION } from '../guest/protocol.js';
import type { GuestMemory } from '../memory/guest-memory.js';
import {
  ACPI_EVENT_IRQ,
  ACPI_POWER_PORT,
  BOOT_MARKS_PORT,
  DEBUG_CONSOLE_PORT,
  I8042_IRQ,
  I8042_PORT,
  RTC_PORT,
  ramRanges,
  SERIAL_IRQ,
  SERIAL_PORT,
  VIRTIO_GSIS,
  VIRTIO_MMIO_ADDR,
  VIRTIO_MMIO_BYTES,
  VIRTIO_MMIO_STRIDE,
} from '../memory/layout.js';
import { allDone } from '../util/cleanup.js';
import { checkState } from '../util/state.js';
import type { VirtioDevice } from '../virtio/device.js';
import { VirtioMmio, type VirtioMmioState } from '../virtio/transport/mmio.js';
import { DEFAULT_MEMORY_BYTES, type MachineConfig } from './config.js';
import type { Terminal } from './console.js';
import type { Space, Wiring } from './wiring.js';

/** What devices tell the machine. */
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
  readonly terminal: Terminal;
  /** In the order of their slots. */
  readonly devices: readonly VirtioDevice[];
  readonly events: PlatformEvents;
}

/** A virtio device in its slot. */
export interface Slot {
  readonly addr: number;
  readonly length: number;
  readonly gsi: number;
  readonly transport: VirtioMmio;
}

/** Saved state of every device. */
export interface PlatformState {
  /** Null for a machine without a serial port. */
  readonly serial: SerialState | null;
  readonly i8042: I8042State;
  readonly rtc: RtcState;
  readonly slots: readonly VirtioMmioState[];
  /** Whether the guest has a VM generation ID. Absent: it has none. */
  readonly generation?: boolean | undefined;
}

export class Platform {
  readonly ports = new Bus();
  readonly mmio = new Bus();
  readonly slots: readonly Slot[];
  readonly #wiring: Wiring;
  readonly #serial: Serial | undefined;
  readonly #i8042: I8042;
  readonly #rtc: Rtc;
  readonly generation: VmGeneration;

  constructor(options: PlatformOptions) {
    const { config, memory, wiring, events, terminal, devices } = options;
    this.#wiring = wiring;
    const kind = config.console ?? 'serial';
    if (kind !== 'none') {
      const serial = new Serial({
        irq: wiring.irq(SERIAL_IRQ),
        onOutput: terminal.onOutput,
        onDrain: () => terminal.onDrain(),
      });
      this.#serial = serial;
      this.#attach('port', SERIAL_PORT, SERIAL_PORTS, serial);
      if (kind === 'serial') terminal.connect({ input: (bytes) => serial.input(bytes), resize: () => {} });
    }
    this.#i8042 = new I8042({ irq: wiring.irq(I8042_IRQ), onReset: events.onReset });
    this.#attach('port', I8042_PORT, I8042_PORTS, this.#i8042);
    this.#rtc = new Rtc({ now: Date.now, firmware: firmwareFacts(config) });
    this.#attach('port', RTC_PORT, RTC_PORTS, this.#rtc);
    this.#attach(
      'port',
      BOOT_MARKS_PORT,
      BOOT_MARKS_PORTS,
      new BootMarks({ ...events, offer: offerOf(config), version: PROTOCOL_VERSION }),
    );
    this.#attach('port', ACPI_POWER_PORT, ACPI_POWER_PORTS, new AcpiPower(events));
    if (config.firmware !== undefined) {
      const debugConsole = new DebugConsole({ onOutput: terminal.onOutput });
      this.#attach('port', DEBUG_CONSOLE_PORT, DEBUG_CONSOLE_PORTS, debugConsole);
    }
    this.generation = new VmGeneration(memory, wiring.rareIrq(ACPI_EVENT_IRQ));
    this.slots = devices.map((device, index) => this.#addSlot(index, device, memory, events));
  }

  #addSlot(index: number, device: VirtioDevice, memory: GuestMemory, events: PlatformEvents): Slot {
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
    return this.#i8042.pressCtrlAltDel();
  }

  /**
   * Waits for requests in flight, and takes no new ones: afterwards no device touches guest memory. If one cannot, this rejects,
   * but only when all others have.
   */
  async pause(): Promise<void> {
    await allDone(this.slots.map((slot) => slot.transport.pause()));
  }

  resume(): void {
    this.generation.resume();
    for (const slot of this.slots) slot.transport.resume();
  }

  /** Only while paused. */
  save(): PlatformState {
    return {
      serial: this.#serial?.save() ?? null,
      i8042: this.#i8042.save(),
      rtc: this.#rtc.save(),
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
    checkState((state.serial !== null) === (this.#serial !== undefined), 'the serial port');
    checkState(state.slots.length === this.slots.length, `it has ${state.slots.length} virtio devices`);
    if (state.serial !== null) this.#serial?.restore(state.serial);
    this.#i8042.restore(state.i8042);
    this.#rtc.restore(state.rtc);
    this.generation.restore(state.generation === true, fresh);
    this.slots.forEach(({ transport }, i) => {
      transport.restore(state.slots[i] as VirtioMmioState);
    });
  }
}

function firmwareFacts(config: MachineConfig) {
  const [low, high] = ramRanges(config.memoryBytes ?? DEFAULT_MEMORY_BYTES);
  return { lowMemoryBytes: low?.length ?? 0, highMemoryBytes: high?.length ?? 0, cpuCount: config.cpus ?? 1 };
}
