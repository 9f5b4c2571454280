/** Kernels of a few instructions that live on: they remember what they are told, so that copies of them can be told apart. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Machine } from '../../src/index.js';
import type { KvmMachine } from '../../src/machine/kvm-machine.js';
import type { GuestMemory } from '../../src/memory/guest-memory.js';
import { SERIAL_PORT } from '../../src/memory/layout.js';
import type { TinyMachine } from './kvm-machine.js';
import { asm64, tiny } from './tiny-kernel.js';

/** Address at which the notebook keeps its text. */
export const NOTEBOOK_ADDR = 0x20_0000;
const LINE_STATUS = SERIAL_PORT + 5;

const jump = (opcode: number, relative: number): number[] => [opcode, relative & 0xff];
const JZ = 0x74;
const JNE = 0x75;
const JMP = 0xeb;

/**
 * Adds every byte that it is sent to a text in memory, and prints all of the text after a line feed; its CPU is busy
 * meanwhile. `~` ends it. It prints `>` when it is ready.
 */
export function notebook(): number[] {
  const poll = [...asm64.movEdx(LINE_STATUS), ...asm64.inAlDx(), 0xa8, 1]; // test al, 1
  const wait = [...poll, ...jump(JZ, -(poll.length + 2))];
  const end = tiny.powerOff();
  const take = [
    ...asm64.movEdx(SERIAL_PORT),
    ...asm64.inAlDx(),
    ...[0x3c, 0x7e], // cmp al, '~'
    ...jump(JNE, end.length),
    ...end,
    ...asm64.storeAl(),
    ...[0x48, 0xff, 0xc7], // inc rdi
    ...[0x3c, 0x0a], // cmp al, '\n'
  ];
  const again = wait.length + take.length;
  const show = [
    ...asm64.movEsi(NOTEBOOK_ADDR),
    ...[0xac, 0xee], // lodsb; out dx, al
    ...[0x48, 0x39, 0xfe], // cmp rsi, rdi
    ...jump(JNE, -7),
  ];
  return [
    ...asm64.movEdi(NOTEBOOK_ADDR),
    ...tiny.print('>'),
    ...wait,
    ...take,
    ...jump(JNE, -(again + 2)),
    ...show,
    ...jump(JMP, -(again + 2 + show.length + 2)),
  ];
}

/** Address at which the counter counts, twice. */
export const COUNTER_ADDR = 0x21_0000;

/** Counts in memory, in two pages, as quickly as it can: the second is never ahead of the first, nor far behind. */
export function counter(): number[] {
  const body = [
    ...[0x48, 0xff, 0xc0], // inc rax
    ...asm64.storeRax(),
    ...[0x48, 0x89, 0x87, 0, 0x10, 0, 0], // mov [rdi + 0x1000], rax
  ];
  return [
    ...asm64.movEdi(COUNTER_ADDR),
    ...[0x31, 0xc0], // xor eax, eax
    ...tiny.print('>'),
    ...body,
    ...jump(JMP, -(body.length + 2)),
  ];
}

/** Keeps the time stamp counter where {@link counter} counts. */
export function stopwatch(): number[] {
  const body = [
    ...[0x0f, 0x31], // rdtsc
    ...[0x48, 0xc1, 0xe2, 32, 0x48, 0x09, 0xd0], // shl rdx, 32; or rax, rdx
    ...asm64.storeRax(),
  ];
  return [...asm64.movEdi(COUNTER_ADDR), ...tiny.print('>'), ...body, ...jump(JMP, -(body.length + 2))];
}

/** The guest's memory as the host sees it. Look only while the machine is paused, or at what nobody writes. */
export function memoryOf(machine: Machine): GuestMemory {
  return (machine as KvmMachine).parts.memory;
}

/** Adds a note to a notebook and returns all that is in it. No two notes in it may be the same. */
export async function note(guest: TinyMachine, text: string): Promise<string> {
  const from = guest.log.text.length;
  guest.machine.console.write(Buffer.from(`${text}\n`));
  await guest.log.waitFor(new RegExp(`(^|\n)${text}\n$`), from);
  return guest.log.text.slice(from).trim().replaceAll('\n', ' ');
}

/** Things that this process holds for machines. */
export interface Holdings {
  readonly fds: readonly string[];
  readonly threads: readonly string[];
  readonly mappings: number;
}

function holdings(): Holdings {
  const links = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return [];
    }
  });
  const threads = readdirSync('/proc/self/task').flatMap((task) => {
    try {
      return [readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim()];
    } catch {
      return [];
    }
  });
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
  return {
    fds: links.filter((link) => /kvm|memfd:tsvm|eventfd|tsvm-test/.test(link)).sort(),
    threads: threads.filter((name) => name.startsWith('vcpu')),
    mappings: maps.filter((line) => /kvm|memfd:tsvm|tsvm-test/.test(line)).length,
  };
}

/** Things that are held once everything that ends has ended. */
export async function settledHoldings(): Promise<Holdings> {
  for (let i = 0; i < 5; i++) await sleep(10);
  return holdings();
}
