/** Files in a machine's memory: where each goes, KVM's slots for them, and what becomes of a machine whose file is gone. */
import type { Bus } from '../bus/bus.js';
import type { PmemBackend } from '../devices/backends/pmem.js';
import { TsvmError } from '../errors.js';
import type { PmemFile } from '../host/disk/pmem-file.js';
import { describeFileError } from '../host/files.js';
import { physicalAddressBits } from '../kvm/cpuid.js';
import { kvmCall } from '../kvm/kvm.js';
import { Ram } from '../kvm/ram.js';
import type { Vm } from '../kvm/vm.js';
import type { MemoryRegion } from '../memory/guest-memory.js';
import { type Gpa, PMEM_GRANULE_BYTES, pmemAddr } from '../memory/layout.js';
import type { NativeAddon } from '../native/binding.js';
import { Cleanup } from '../util/cleanup.js';
import { alignUp, formatBytes, PAGE_BYTES } from '../util/units.js';

export interface PmemSlotsOptions {
  readonly addon: NativeAddon;
  readonly vm: Vm;
  readonly memoryBytes: number;
  onLost(message: string): void;
}

/** A file in guest memory, and where. */
interface MappedFile {
  readonly addr: Gpa;
  readonly file: PmemFile;
  readonly memory: Ram;
}

export class PmemSlots {
  readonly #options: PmemSlotsOptions;
  readonly #files: MappedFile[] = [];
  #memoryKept = false;

  constructor(options: PmemSlotsOptions) {
    this.#options = options;
  }

  /**
   * Maps `file`, which is this machine's from now on, before the guest runs. The slot is registered late, which costs
   * milliseconds in the kernel (SRCU grace period): only who has one pays.
   *
   * @throws TsvmError `TSVM_PMEM`; then the file is closed.
   */
  async add(file: PmemFile): Promise<PmemBackend> {
    const cleanup = new Cleanup();
    cleanup.defer(() => file.close());
    try {
      const sizeBytes = alignUp(file.sizeBytes, PMEM_GRANULE_BYTES);
      const addr = this.#nextAddr(file.path, sizeBytes);
      const memory = this.#map(file, addr, sizeBytes);
      cleanup.defer(() => {
        if (!this.#memoryKept) memory.close();
      });
      kvmCall(`give the machine ${file.path} as memory`, () => this.#options.vm.addReadOnlyMemory(memory));
      this.#files.push({ addr, file, memory });
      return { addr, sizeBytes, close: () => cleanup.run() };
    } catch (error) {
      await cleanup.run();
      throw error;
    }
  }

  /** From now on what is mapped stays so: something may still read it. */
  keepMemory(): void {
    this.#memoryKept = true;
  }

  #nextAddr(path: string, sizeBytes: number): Gpa {
    const { vm, memoryBytes } = this.#options;
    const last = this.#files.at(-1);
    const addr = pmemAddr(memoryBytes, last === undefined ? 0 : last.addr + last.memory.sizeBytes);
    const reach = 2 ** physicalAddressBits(vm.cpuid[0]);
    if (addr + sizeBytes > reach) {
      throw new TsvmError(
        'TSVM_PMEM',
        `pmem ${path}: ${formatBytes(sizeBytes)} is more than the guest's CPU can reach (${formatBytes(reach)})`,
        { hint: 'give it as a disk: `blk({ path, readOnly: true })`' },
      );
    }
    return addr;
  }

  /** What the file lacks of whole granules reads as zeroes. */
  #map(file: PmemFile, addr: Gpa, length: number): Ram {
    const memory = new Ram(this.#options.addon, [{ addr, length }], () => this.#lose(file), 'tsvm-pmem');
    try {
      const count = Math.ceil(file.sizeBytes / PAGE_BYTES);
      memory.mapFiles([{ first: 0, count, fd: file.fd, fileOffset: 0 }]);
      return memory;
    } catch (cause) {
      memory.close();
      throw new TsvmError('TSVM_PMEM', `cannot map pmem ${file.path}: ${describeFileError(cause)}`, {
        hint: 'put the file on a file system of a disk, or on tmpfs',
        cause,
      });
    }
  }

  /** For devices: a guest may have them read from it. */
  get mapped(): readonly MemoryRegion[] {
    return this.#files.flatMap(({ memory }) => memory.mapped);
  }

  /** What KVM asks the monitor for: writes, which are dropped, and memory that the file no longer has. */
  watch(bus: Bus): void {
    for (const { addr, file, memory } of this.#files) {
      bus.attach(addr, memory.sizeBytes, {
        name: 'pmem',
        read: (_offset, data) => {
          data.fill(0);
          this.#lose(file);
        },
        write: () => {},
      });
    }
  }

  /** A guest that loses memory crashes of it: if it did, says so first. */
  probe(): void {
    for (const { file } of this.#files) if (file.isTruncated) this.#lose(file);
  }

  #lose(file: PmemFile): void {
    this.#options.onLost(
      file.isTruncated
        ? `pmem ${file.path} was truncated while the machine ran with it`
        : `pmem ${file.path}: the host cannot read a page of it; its disk may be failing`,
    );
  }
}
