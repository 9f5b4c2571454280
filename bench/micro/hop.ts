/**
 * What it costs a guest to be answered: by JavaScript, by a fast register, by an eventfd and back through memory.
 *
 * The guest is a loop of two or three instructions in real mode, on the bare addon: no machine and no device. Where ring
 * 0 is interpreted the guest's own part is most of it. "Without the guest" is what the addon, Node and an empty KVM_RUN
 * cost; the last alone is 7 us on such a host.
 */
import { loadAddon } from '../../src/native/binding.js';
import { quantile } from '../../src/util/statistics.js';
import { asm, code, TinyGuest } from '../../test/support/guest-code.js';
import type { Benchmark } from '../lib/benchmark.js';

const MMIO_ADDR = 0xd000_0000;
const FLAG_ADDR = 0x2000;
const ROUNDS = 5_000;
/** The first rounds run cold code. */
const WARM_UP = 500;

export const hop: Benchmark = {
  name: 'hop',
  summary: 'an exit to JavaScript and back',
  defaultRuns: () => 5,
  unfit: (host) => (host.kvm ? undefined : 'needs /dev/kvm'),
  async run({ runs }) {
    const kinds = [
      ['MMIO read answered in JavaScript', answered],
      ['exit without the guest', withoutGuest],
      ['doorbell, and back through memory', doorbell],
    ] as const;
    const samples = new Map<string, number[]>();
    const add = (metric: string, value: number): void => {
      samples.set(metric, [...(samples.get(metric) ?? []), value]);
    };
    for (let i = 0; i < runs; i++) {
      for (const [metric, measure] of kinds) {
        const times = (await measure()).slice(WARM_UP);
        add(`${metric}, p50`, quantile(times, 0.5));
        add(`${metric}, p99`, quantile(times, 0.99));
      }
      add('MMIO read served by a load register, mean', await served());
      add('signal() to listen(), p50', quantile((await eventFd()).slice(WARM_UP), 0.5));
    }
    return [...samples].map(([metric, values]) => ({ metric, unit: 'us', samples: values }));
  },
};

const microseconds = (): number => Number(process.hrtime.bigint()) / 1e3;

/**
 * Calls `step` once a round; each calls `done` when it is over. An event that is listened to keeps nothing alive, neither
 * the process nor whoever waits here: the timer does.
 */
async function rounds(step: (done: () => void) => void): Promise<number[]> {
  const times: number[] = [];
  let alive: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve) => {
    alive = setInterval(() => resolve, 1000);
    let start = 0;
    const next = (): void => {
      start = microseconds();
      step(done);
    };
    const done = (): void => {
      times.push(microseconds() - start);
      if (times.length < ROUNDS + WARM_UP) next();
      else resolve();
    };
    next();
  });
  clearInterval(alive);
  return times;
}

/** mov eax, es:[di]; jmp: from run() to the next exit. */
async function answered(): Promise<number[]> {
  using guest = new TinyGuest({ esBase: MMIO_ADDR, code: code(asm.loadEaxEsDi(), asm.jmp(-6)) });
  let onExit = (): void => {};
  guest.vcpu.onExit(() => {
    guest.answerMmio(1);
    onExit();
  });
  return await rounds((done) => {
    onExit = done;
    guest.vcpu.run();
  });
}

/** KVM_RUN that is told to return at once: two thread switches, and what KVM does on its threshold. */
async function withoutGuest(): Promise<number[]> {
  using guest = new TinyGuest({ code: code(asm.hang()) });
  let onExit = (): void => {};
  guest.vcpu.onExit(() => onExit());
  return await rounds((done) => {
    onExit = done;
    guest.vcpu.kick();
    guest.vcpu.run();
  });
}

/** The same read, never leaving the vCPU's thread. */
async function served(): Promise<number> {
  using guest = new TinyGuest({
    esBase: MMIO_ADDR,
    code: code(asm.movCx(ROUNDS), asm.loadEaxEsDi(), asm.loop(-6), asm.outAl(0x80)),
  });
  guest.vm.setFastRegisters([{ space: 1, kind: 'load', addr: MMIO_ADDR, cell: Uint8Array.of(1, 2, 3, 4) }]);
  const start = microseconds();
  await guest.run();
  return (microseconds() - start) / ROUNDS;
}

/** The guest rings an ioeventfd and spins until JavaScript has set a flag in its memory. */
async function doorbell(): Promise<number[]> {
  using guest = new TinyGuest({
    esBase: MMIO_ADDR,
    code: code(
      asm.storeEsDiEax(),
      [0x80, 0x3e, FLAG_ADDR & 0xff, FLAG_ADDR >> 8, 0], // cmp byte [FLAG_ADDR], 0
      [0x74, 0xf9], // je cmp
      [0xc6, 0x06, FLAG_ADDR & 0xff, FLAG_ADDR >> 8, 0], // mov byte [FLAG_ADDR], 0
      asm.jmp(-18),
    ),
  });
  const event = loadAddon().createEventFd();
  guest.vm.ioeventfd(event, 1, MMIO_ADDR, 4, undefined, true);
  let onRing = (): void => {};
  event.listen(() => onRing());
  const stopped = { exit: undefined as Promise<unknown> | undefined };
  const times = await rounds((done) => {
    onRing = done;
    if (stopped.exit === undefined) stopped.exit = guest.run();
    else guest.bytes[FLAG_ADDR] = 1;
  });
  guest.vcpu.kick();
  await stopped.exit;
  event.close();
  return times;
}

async function eventFd(): Promise<number[]> {
  const event = loadAddon().createEventFd();
  let onSignal = (): void => {};
  event.listen(() => onSignal());
  const times = await rounds((done) => {
    onSignal = done;
    event.signal();
  });
  event.close();
  return times;
}
