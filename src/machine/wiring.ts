/**
 * Connects what devices declare as data to what the kernel offers: interrupts to irqfd, doorbells to ioeventfd, fast
 * registers to the vCPU threads. With this, no device knows KVM.
 */
import type { BusDevice, FastRegister } from '../bus/bus-device.js';
import type { Irq } from '../bus/irq.js';
import { kvmCall } from '../kvm/kvm.js';
import type { NativeAddon, NativeEventFd, NativeFastRegister, NativeVm } from '../native/binding.js';
import type { Guard } from '../util/guard.js';

/** Bytes that one `stream` register gathers before the guest has to wait for the JavaScript thread. */
const STREAM_CAPACITY_BYTES = 64 * 1024;

export type Space = 'port' | 'memory';

export class Wiring {
  readonly #addon: NativeAddon;
  readonly #vm: NativeVm;
  readonly #guard: Guard;
  readonly #events: NativeEventFd[] = [];
  readonly #fast: NativeFastRegister[] = [];
  readonly #streams = new Map<number, (bytes: Uint8Array) => void>();
  #closed = false;

  constructor(addon: NativeAddon, vm: NativeVm, guard: Guard) {
    this.#addon = addon;
    this.#vm = vm;
    this.#guard = guard;
  }

  /** An edge-triggered line into the interrupt controllers. Of a machine that has ended, it leads nowhere. */
  irq(gsi: number): Irq {
    const event = this.#event();
    kvmCall(`connect interrupt ${gsi}`, () => this.#vm.irqfd(event, gsi, true));
    return {
      trigger: () => {
        if (!this.#closed) event.signal();
      },
    };
  }

  /** Makes the same for a line that is hardly ever raised: by a call, which costs no file descriptor. It is raised when `trigger` returns. */
  rareIrq(gsi: number): Irq {
    return {
      trigger: () => {
        if (this.#closed) return;
        kvmCall(`raise interrupt ${gsi}`, () => {
          this.#vm.irqLine(gsi, 1);
          this.#vm.irqLine(gsi, 0);
        });
      },
    };
  }

  /** Takes note of a device's fast registers at the address where the bus has it. */
  add(space: Space, addr: number, device: BusDevice): void {
    for (const register of device.fastRegisters ?? []) this.#add(space, addr + register.offset, register);
  }

  #add(space: Space, addr: number, register: FastRegister): void {
    const nativeSpace = space === 'port' ? 0 : 1;
    switch (register.kind) {
      case 'doorbell': {
        const event = this.#event();
        event.listen(this.#guard.wrap(`a doorbell at 0x${addr.toString(16)}`, () => register.onWrite()));
        kvmCall('connect a doorbell', () =>
          this.#vm.ioeventfd(event, nativeSpace, addr, 4, register.value, true),
        );
        return;
      }
      case 'load':
        this.#fast.push({ space: nativeSpace, kind: 'load', addr, cell: register.cell });
        return;
      case 'clear-bits': {
        const { cell } = register;
        const bytes = new Uint8Array(cell.buffer, cell.byteOffset, 4);
        this.#fast.push({ space: nativeSpace, kind: 'clear-bits', addr, cell: bytes });
        return;
      }
      case 'stream':
        this.#streams.set(this.#fast.length, (bytes) => register.onBytes(bytes));
        this.#fast.push({
          space: nativeSpace,
          kind: 'stream',
          addr,
          cell: register.enabled,
          capacityBytes: STREAM_CAPACITY_BYTES,
        });
        return;
      default:
        register satisfies never;
    }
  }

  /** Hands the registers to the vCPU threads. Before the first vCPU runs. */
  connect(): void {
    const onStream = (index: number, bytes: Uint8Array): void => this.#streams.get(index)?.(bytes);
    this.#vm.onStream(this.#guard.wrap('the output of a serial port', onStream));
    this.#vm.setFastRegisters(this.#fast);
  }

  close(): void {
    this.#closed = true;
    for (const event of this.#events) event.close();
  }

  #event(): NativeEventFd {
    const event = kvmCall('make an eventfd', () => this.#addon.createEventFd());
    this.#events.push(event);
    return event;
  }
}
