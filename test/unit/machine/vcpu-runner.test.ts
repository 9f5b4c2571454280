/** The seam between a vCPU's thread and the machine, with vCPUs that are not there. */
import { expect, test } from 'vitest';
import { Bus } from '../../../src/bus/bus.js';
import { GuestError } from '../../../src/errors.js';
import type { ExitAssist } from '../../../src/kvm/profiles/profile.js';
import { type FatalExit, VcpuRunner } from '../../../src/machine/vcpu-runner.js';
import type { NativeVcpu } from '../../../src/native/binding.js';
import { Guard } from '../../../src/util/guard.js';

const PORT = 0x80;
const KVM_EXIT_IO = 2;
const KVM_EXIT_DEBUG = 4;

/** struct kvm_run, as far as these exits go (Documentation/virt/kvm/api.rst). */
function runPage(reason: number): ArrayBuffer {
  const page = new ArrayBuffer(8192);
  const view = new DataView(page);
  view.setUint32(8, reason, true);
  if (reason !== KVM_EXIT_IO) return page;
  view.setUint8(32, 1); // out
  view.setUint8(33, 1); // of a byte
  view.setUint16(34, PORT, true);
  view.setUint32(36, 1, true);
  view.setBigUint64(40, 4096n, true);
  return page;
}

function setUp(reason: number, write: () => void | Promise<void>, assist?: ExitAssist) {
  let exit: (errno: number) => void = () => {};
  let runs = 0;
  const vcpu = {
    id: 0,
    runPage: runPage(reason),
    onExit(callback: (errno: number) => void) {
      exit = callback;
    },
    run: () => void runs++,
    running: false,
  } as unknown as NativeVcpu;
  const ports = new Bus();
  ports.attach(PORT, 1, { name: 'test', read: () => {}, write });
  const faults: unknown[] = [];
  const fatal: FatalExit[] = [];
  new VcpuRunner({
    vcpu,
    ports,
    memory: new Bus(),
    assist,
    guard: new Guard((where, error) => void faults.push(`${where}: ${(error as Error).message}`)),
    onFatal: (_, which) => void fatal.push(which),
  });
  exit(0);
  return { faults, fatal, runs: () => runs };
}

const fail = (): never => {
  throw new Error('broken');
};

test('VcpuRunner reports what a device throws, and the vCPU stays where it is', () => {
  const { faults, runs } = setUp(KVM_EXIT_IO, fail);
  expect(faults).toEqual(['an exit of vCPU 0: broken']);
  expect(runs()).toBe(0);
});

test('VcpuRunner reports a device whose promise rejects', async () => {
  const { faults, runs } = setUp(KVM_EXIT_IO, async () => fail());
  await new Promise(setImmediate);
  expect(faults).toEqual([expect.stringContaining('took its time for: broken')]);
  expect(runs()).toBe(0);
});

test('VcpuRunner goes on without an assist that cannot read the guest’s tables', () => {
  const assist = {
    handle() {
      throw new GuestError('not RAM');
    },
  };
  const io = setUp(KVM_EXIT_IO, () => {}, assist);
  expect([io.faults, io.fatal, io.runs()]).toEqual([[], [], 1]);
  const debug = setUp(KVM_EXIT_DEBUG, () => {}, assist);
  expect(debug.faults).toEqual([]);
  expect(debug.fatal).toMatchObject([{ kind: 'kvm-error', exit: { kind: 'debug' } }]);
});

test('VcpuRunner reports an assist that is broken', () => {
  const { faults } = setUp(KVM_EXIT_IO, () => {}, { handle: fail });
  expect(faults).toEqual(['an exit of vCPU 0: broken']);
});
