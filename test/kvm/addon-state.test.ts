import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { KVM_API_VERSION, KVM_CAP, MSR_LSTAR, MSR_STAR, MSR_SYSCALL_MASK } from '../../src/kvm/constants.js';
import { loadAddon, type VcpuStruct, type VmStruct } from '../../src/native/binding.js';
import { asm, CODE_ADDR, code, enterLongMode, TinyGuest } from '../support/guest-code.js';

/** Address of its clock that a guest gives KVM; bit 0: it is in use (Documentation/virt/kvm/x86/msr.rst). */
const MSR_KVM_SYSTEM_TIME_NEW = 0x4b56_4d01;

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

test('openKvm() gives version, capabilities, CPUID and MSRs', () => {
  const kvm = loadAddon().openKvm('/dev/kvm');
  expect(kvm.apiVersion()).toBe(KVM_API_VERSION);
  expect(kvm.checkExtension(KVM_CAP.KVM_CAP_IRQCHIP)).toBe(1);
  const cpuid = kvm.supportedCpuid();
  expect(cpuid.length).toBeGreaterThan(0);
  expect(cpuid.length % 40).toBe(0);
  expect([...kvm.msrIndexList()]).toContain(MSR_LSTAR);
  kvm.close();
  expect(() => kvm.createVm()).toThrow(expect.objectContaining({ code: 'EBADF' }));
});

test('errors carry code, errno and syscall', () => {
  const addon = loadAddon();
  expect(() => addon.openKvm('/dev/none')).toThrow(
    expect.objectContaining({
      code: 'ENOENT',
      errno: -2,
      syscall: 'open',
      message: expect.stringContaining('ENOENT'),
    }),
  );
  expect(() => addon.openKvm('/dev/null').apiVersion()).toThrow(
    expect.objectContaining({ code: 'ENOTTY', errno: -25, syscall: 'KVM_GET_API_VERSION' }),
  );
  using guest = new TinyGuest();
  expect(() => guest.vm.createVcpu(0)).toThrow(
    expect.objectContaining({ code: 'EEXIST', errno: -17, syscall: 'KVM_CREATE_VCPU' }),
  );
});

test('arguments of the wrong kind throw and touch nothing', () => {
  const addon = loadAddon();
  using guest = new TinyGuest();
  const wrong = (value: unknown): never => value as never;
  expect(() => addon.createMemory(-1, 'x')).toThrow(RangeError);
  expect(() => addon.createMemory(1.5, 'x')).toThrow(RangeError);
  expect(() => guest.vm.setMemorySlot(1, 0, 0x10_0000, 0x10_0000, guest.memory, 0x7_0000)).toThrow(
    RangeError,
  );
  expect(() => guest.vm.setMemorySlot(1, 0, 0x10_0000, 0x1000, wrong({}), 0)).toThrow(TypeError);
  expect(() => guest.vm.irqfd(wrong(guest.memory), 5, true)).toThrow(TypeError);
  expect(() => guest.vcpu.setStruct('kvm_regs', new Uint8Array(3))).toThrow(RangeError);
  expect(() => guest.vcpu.getStruct(wrong('kvm_nonsense'))).toThrow(RangeError);
  expect(() => guest.vcpu.onExit(wrong(1))).toThrow(TypeError);
  expect(() => new (guest.vm.constructor as new () => unknown)()).toThrow(TypeError);
});

const vcpuStructs: Record<VcpuStruct, number> = {
  kvm_regs: 144,
  kvm_sregs: 312,
  kvm_fpu: 416,
  kvm_xsave: 4096,
  kvm_xcrs: 392,
  kvm_lapic_state: 1024,
  kvm_mp_state: 4,
  kvm_vcpu_events: 64,
  kvm_debugregs: 128,
};

test.each(Object.entries(vcpuStructs) as [VcpuStruct, number][])(
  '%s is read, written back and the same',
  (name, size) => {
    using guest = new TinyGuest({ irqchip: true });
    const before = guest.vcpu.getStruct(name);
    expect(before).toHaveLength(size);
    guest.vcpu.setStruct(name, before);
    expect(guest.vcpu.getStruct(name)).toEqual(before);
  },
);

test('kvm_fpu and kvm_debugregs keep what is set', () => {
  using guest = new TinyGuest({ irqchip: true });
  const fpu = guest.vcpu.getStruct('kvm_fpu');
  fpu.fill(0x5a, 160, 160 + 16); // XMM0
  guest.vcpu.setStruct('kvm_fpu', fpu);
  expect(guest.vcpu.getStruct('kvm_fpu')).toEqual(fpu);
  const debug = guest.vcpu.getStruct('kvm_debugregs');
  viewOf(debug).setBigUint64(0, 0x1234_5678n, true);
  guest.vcpu.setStruct('kvm_debugregs', debug);
  expect(guest.vcpu.getStruct('kvm_debugregs')).toEqual(debug);
});

test.each([
  ['kvm_irqchip', 0, 520],
  ['kvm_irqchip', 1, 520],
  ['kvm_irqchip', 2, 520],
] as [VmStruct, number, number][])('%s (%d) is read, written back and the same', (name, chip, size) => {
  using guest = new TinyGuest({ irqchip: true });
  const before = guest.vm.getStruct(name, chip);
  expect(before).toHaveLength(size);
  guest.vm.setStruct(name, before, chip);
  expect(guest.vm.getStruct(name, chip)).toEqual(before);
});

test('kvm_pit_state2 keeps what is set', () => {
  using guest = new TinyGuest({ irqchip: true });
  guest.vm.createPit2(1);
  const pit = guest.vm.getStruct('kvm_pit_state2');
  expect(pit).toHaveLength(112);
  const channelBytes = 24;
  viewOf(pit).setUint32(2 * channelBytes, 0x1234, true);
  guest.vm.setStruct('kvm_pit_state2', pit);
  expect(viewOf(guest.vm.getStruct('kvm_pit_state2')).getUint32(2 * channelBytes, true)).toBe(0x1234);
});

test('kvm_clock_data can be set back', () => {
  using guest = new TinyGuest({ irqchip: true });
  const clock = guest.vm.getStruct('kvm_clock_data');
  expect(clock).toHaveLength(48);
  const view = viewOf(clock);
  view.setBigUint64(0, 1_000_000_000_000n, true);
  view.setUint32(8, 0, true);
  guest.vm.setStruct('kvm_clock_data', clock);
  const later = viewOf(guest.vm.getStruct('kvm_clock_data')).getBigUint64(0, true);
  expect(Number(later) / 1e9).toBeGreaterThanOrEqual(1000);
  expect(Number(later) / 1e9).toBeLessThan(1100);
});

test('setMsrs() and getMsrs() stop at the first that KVM refuses', () => {
  using guest = new TinyGuest();
  const indices = Uint32Array.of(MSR_STAR, MSR_LSTAR, MSR_SYSCALL_MASK);
  const values = BigUint64Array.of(0x0023_0010_0000_0000n, 0xffff_ffff_8000_0000n, 0x4_7700n);
  expect(guest.vcpu.setMsrs(indices, values)).toBe(3);
  expect(guest.vcpu.getMsrs(indices)).toEqual(values);
  const unknown = 0x4b56_ffff;
  expect(guest.vcpu.getMsrs(Uint32Array.of(MSR_STAR, unknown, MSR_LSTAR))).toHaveLength(1);
  expect(guest.vcpu.setMsrs(Uint32Array.of(MSR_STAR, unknown), BigUint64Array.of(values[0]!, 1n))).toBe(1);
});

test('kvmclockCtrl() says whether the guest has a kvm-clock', () => {
  using guest = new TinyGuest();
  expect(guest.vcpu.kvmclockCtrl()).toBe(false);
  guest.vcpu.setMsrs(
    Uint32Array.of(MSR_KVM_SYSTEM_TIME_NEW),
    BigUint64Array.of(BigInt(CODE_ADDR + 0x1000) | 1n),
  );
  expect(guest.vcpu.kvmclockCtrl()).toBe(true);
  guest.vm.close();
  expect(() => guest.vcpu.kvmclockCtrl()).toThrow(expect.objectContaining({ code: 'EBADF' }));
});

test('getMsrs() takes more than KVM does at once', () => {
  using guest = new TinyGuest();
  const indices = new Uint32Array(600).fill(MSR_LSTAR);
  expect(guest.vcpu.setMsrs(indices, new BigUint64Array(600).fill(0x4000n))).toBe(600);
  expect(guest.vcpu.getMsrs(indices)).toEqual(new BigUint64Array(600).fill(0x4000n));
});

test('setCpuid() is what getCpuid() gives', () => {
  using guest = new TinyGuest();
  const supported = guest.kvm.supportedCpuid();
  const set = guest.vcpu.getCpuid();
  expect(set.length).toBe(supported.length);
  // Leaf 0: its EBX, ECX, EDX are the vendor.
  expect(set.subarray(16, 28)).toEqual(supported.subarray(16, 28));
});

test('translate() follows the page tables', () => {
  using guest = new TinyGuest();
  expect(guest.vcpu.translate(0x1234n)).toBe(0x1234);
  enterLongMode(guest);
  expect(guest.vcpu.translate(0x1_2345n)).toBe(0x1_2345);
  expect(guest.vcpu.translate(0xffff_8000_0000_0000n)).toBeUndefined();
});

test('readStats() has the names and values of the VM and its vCPU', async () => {
  using guest = new TinyGuest({ code: code(asm.outAl(0x80)) });
  await guest.run();
  const statistics = (bytes: Uint8Array): Map<string, bigint> => {
    // struct kvm_stats_header, then descriptors of 16 bytes and a name.
    const view = viewOf(bytes);
    const [, nameSize, count, , descOffset, dataOffset] = [0, 4, 8, 12, 16, 20].map((at) =>
      view.getUint32(at, true),
    );
    const found = new Map<string, bigint>();
    for (let i = 0; i < count!; i++) {
      const at = descOffset! + i * (16 + nameSize!);
      const name = Buffer.from(bytes.subarray(at + 16, at + 16 + nameSize!))
        .toString()
        .replace(/\0.*/s, '');
      found.set(name, view.getBigUint64(dataOffset! + view.getUint32(at + 8, true), true));
    }
    return found;
  };
  expect(statistics(guest.vcpu.readStats()).get('exits')).toBeGreaterThan(0n);
  expect(statistics(guest.vm.readStats()).size).toBeGreaterThan(0);
  expect(statistics(guest.vm.readStats()).has('remote_tlb_flush')).toBe(true);
});

test('readStats() of a vCPU that runs works once it was opened', async () => {
  using guest = new TinyGuest({ code: code(asm.hang()) });
  const first = guest.run();
  expect(() => guest.vcpu.readStats()).toThrow(
    expect.objectContaining({ code: 'EBUSY', syscall: 'KVM_GET_STATS_FD' }),
  );
  guest.vcpu.kick();
  await first;
  guest.vcpu.readStats();
  const second = guest.run();
  expect(guest.vcpu.readStats().length).toBeGreaterThan(0);
  guest.vcpu.kick();
  await second;
});

test('setMemorySlot() of a read-only slot gives writes as MMIO, and size 0 removes a slot', async () => {
  const addon = loadAddon();
  using guest = new TinyGuest({
    esBase: 0x10_0000,
    code: code(asm.movDi(0x10), asm.loadAlEsDi(), asm.outAl(0x80), asm.storeEsDiAl(), asm.loadAlEsDi()),
  });
  const rom = addon.createMemory(4096, 'rom');
  new Uint8Array(rom.buffer)[0x10] = 0x99;
  guest.vm.setMemorySlot(1, 2, 0x10_0000, 4096, rom, 0);
  rom.close(); // the VM keeps the pages
  expect(await guest.run()).toMatchObject({ kind: 'io', data: Uint8Array.of(0x99) });
  expect(await guest.run()).toMatchObject({ kind: 'mmio', write: true, addr: 0x10_0010 });
  guest.vm.setMemorySlot(1, 2, 0x10_0000, 0, null, 0);
  expect(await guest.run()).toMatchObject({ kind: 'mmio', write: false, addr: 0x10_0010 });
});

test('createMemory() is sealed against truncation and takes 2 GiB', () => {
  const memory = loadAddon().createMemory(2 ** 31, 'big');
  expect(memory.sizeBytes).toBe(2 ** 31);
  const bytes = new Uint8Array(memory.buffer);
  bytes[2 ** 31 - 1] = 1;
  expect(bytes[2 ** 31 - 1]).toBe(1);
  expect(memory.buffer).toBe(memory.buffer);
  expect(readFileSync('/proc/self/maps', 'latin1')).toContain('/memfd:big');
  memory.close();
  memory.close();
  expect(bytes.length).toBe(0);
  expect(memory.sizeBytes).toBe(0);
});

test('flock(), fallocate() and blockDeviceBytes() work on open files', async () => {
  const addon = loadAddon();
  const directory = mkdtempSync(join(tmpdir(), 'tsvm-'));
  const path = join(directory, 'file');
  writeFileSync(path, Buffer.alloc(65536, 1));
  const one = openSync(path, 'r+');
  const two = openSync(path, 'r+');
  expect(addon.flock(one, 'exclusive')).toBe(true);
  expect(addon.flock(two, 'shared')).toBe(false);
  expect(addon.flock(one, 'shared')).toBe(true);
  expect(addon.flock(two, 'shared')).toBe(true);
  expect(addon.flock(two, 'exclusive')).toBe(false);
  expect(() => addon.flock(-1, 'shared')).toThrow(
    expect.objectContaining({ code: 'EBADF', syscall: 'flock' }),
  );
  await addon.fallocate(one, 3, 4096, 8192); // punch a hole, keep the size
  expect(statSync(path).size).toBe(65536);
  expect(
    readFileSync(path)
      .subarray(4096, 4096 + 8192)
      .every((byte) => byte === 0),
  ).toBe(true);
  expect(() => addon.blockDeviceBytes(one)).toThrow(expect.objectContaining({ code: 'ENOTTY' }));
  closeSync(one);
  closeSync(two);
  rmSync(directory, { recursive: true });
});

test('the first instruction is where the registers say', async () => {
  using guest = new TinyGuest({ code: code(asm.outAl(0x80)) });
  await guest.run();
  guest.vcpu.kick();
  await guest.run();
  expect(guest.regs().rip).toBe(BigInt(CODE_ADDR + 2));
});
