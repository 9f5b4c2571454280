/** The launcher: what it takes for a plan, and what is left of it in a container. */
import { spawn } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { beforeAll, describe, expect, test } from 'vitest';
import { startContainer } from '../../src/container/container.js';
import { cStrings, encodePlan, InnerPath, type Plan, Slot, STEP_PATH } from '../../src/container/plan.js';
import { nativeFile } from '../../src/util/package-file.js';
import { makeBusyboxRoot, outputOf } from '../support/container.js';
import { temporaryDirectory } from '../support/guest.js';

const launcher = nativeFile('container-launcher');
const folder = temporaryDirectory();
const root = join(folder, 'root');
beforeAll(() => void makeBusyboxRoot(root));

const HEAD_BYTES = 88;
const STEP_BYTES = 64;
const RELOCATIONS_AT = 80;
const EINVAL = 22;
const LAST = 2 ** 32 - 1;

/** Plan with close(-1), whose failure is none; a path; and pointers. */
const PLAN: Plan = {
  cloneFlags: 0,
  host: [
    { purpose: '', number: 3, arguments: [-1, 'text', cStrings(['a', 'b'])], ignore: [9] },
    { purpose: '', number: STEP_PATH, arguments: [new Slot(0), new InnerPath('/x'), 0] },
  ],
  init: [],
  command: [],
  keeper: [],
  cleanup: [],
};

/** Answer to a plan: words of the first report; none if it ends without. */
async function reportOf(bytes: Uint8Array): Promise<{ words: number[]; code: number | null }> {
  const child = spawn(launcher, [], {
    argv0: 'init',
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    env: {},
  });
  const pieces: Buffer[] = [];
  (child.stdio[4] as Readable).on('data', (piece: Buffer) => pieces.push(piece));
  const control = child.stdio[3] as Writable;
  control.on('error', () => {}); // it has ended
  control.end(bytes);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  const said = Buffer.concat(pieces);
  const words = said.length < 16 ? [] : [0, 4, 8, 12].map((at) => said.readUInt32LE(at));
  return { words, code };
}

type Change = (view: DataView, size: number) => void;
const u32 =
  (at: number, value: number): Change =>
  (view) =>
    view.setUint32(at, value, true);
const u64 =
  (at: number, value: bigint): Change =>
  (view) =>
    view.setBigUint64(at, value, true);
const step = (i: number, at: number): number => HEAD_BYTES + i * STEP_BYTES + at;
const KINDS = 10;
const VALUES = 16;

describe('a plan', () => {
  test('is taken as it is composed', async () => {
    // The steps of the host are done; a path below nothing is left out. Then process 1 waits for a byte, and hears the end.
    expect((await reportOf(encodePlan(PLAN))).words[0]).toBe(1);
  });

  test.each<[string, Change]>([
    ['another magic', u32(0, 0)],
    ['less than its head', u32(4, HEAD_BYTES - 1)],
    ['more than may be', u32(4, LAST)],
    ['a list that begins in its head', u32(24, 8)],
    ['a list that begins behind it', (view, size) => view.setUint32(24, size + 8, true)],
    ['a list that begins at the end of numbers', u32(24, 0xffff_fff8)],
    ['a list that begins between', u32(24, HEAD_BYTES + 4)],
    ['a list of more than there is', u32(28, 1000)],
    ['a list of as many as there are numbers', u32(28, LAST)],
    ['a last list that begins in its head', u32(RELOCATIONS_AT - 8, 8)],
    ['an unknown kind of argument', (view) => view.setUint8(step(0, KINDS), 3)],
    ['data in its head', u64(step(0, VALUES + 8), 8n)],
    ['data behind it', (view, size) => view.setBigUint64(step(0, VALUES + 8), BigInt(size), true)],
    ['data far behind it', u64(step(0, VALUES + 8), 2n ** 64n - 8n)],
    ['a slot that there is not', u64(step(1, VALUES), 256n)],
    ['a slot far off', u64(step(1, VALUES), 2n ** 63n)],
    ['a path that is a number', (view) => view.setUint8(step(1, KINDS + 1), 0)],
    ['a path below a number', (view) => view.setUint8(step(1, KINDS), 0)],
    ['a list of paths that is a number', u64(step(1, VALUES + 4 * 8), 64n)],
    ['pointers behind it', u32(RELOCATIONS_AT, 0xffff_fff8)],
    ['more pointers than there are', u32(RELOCATIONS_AT + 4, 1000)],
    [
      'a pointer in a step',
      (view) => view.setUint32(view.getUint32(RELOCATIONS_AT, true), step(0, VALUES), true),
    ],
    [
      'a pointer to behind it',
      (view) => view.setUint32(view.getUint32(RELOCATIONS_AT, true) + 4, LAST, true),
    ],
    [
      'a pointer between',
      (view) => {
        const at = view.getUint32(RELOCATIONS_AT, true);
        view.setUint32(at, view.getUint32(at, true) + 1, true);
      },
    ],
    [
      'a terminal in a slot that there is not',
      (view) => {
        view.setUint16(16, 1, true);
        view.setUint16(18, 256, true);
      },
    ],
  ])('with %s is refused before anything is done', async (_, change) => {
    const bytes = encodePlan(PLAN);
    change(new DataView(bytes.buffer), bytes.length);
    expect(await reportOf(bytes)).toEqual({ words: [2, 0, 0, EINVAL], code: 125 });
  });

  test('that is cut off is nobody’s', async () => {
    const bytes = encodePlan(PLAN);
    for (const length of [0, 1, HEAD_BYTES, bytes.length - 1])
      expect(await reportOf(bytes.subarray(0, length))).toEqual({ words: [], code: 1 });
  });
});

describe('process 1', () => {
  const lastOf = (text: string, name: string): string | undefined =>
    new RegExp(`^${name}:\\s*(\\S+)$`, 'm').exec(text)?.[1];

  test.each([{}, { privileged: true }, { share: ['user' as const] }, { user: { uid: 1000, gid: 1000 } }])(
    'runs from memory that nobody can change, with one capability and a filter (%j)',
    async (config) => {
      await using container = await startContainer({
        layers: [root],
        argv: ['sh', '-c', 'trap "exit 3" TERM; echo up; while :; do sleep 0.05; done'],
        ...config,
      });
      const status = readFileSync(`/proc/${container.pid}/status`, 'utf8');
      const CAP_KILL = '0000000000000020';
      expect(['CapEff', 'CapPrm', 'CapBnd', 'CapInh', 'CapAmb'].map((name) => lastOf(status, name))).toEqual([
        CAP_KILL,
        CAP_KILL,
        ...Array<string>(3).fill('0'.repeat(16)),
      ]);
      expect([lastOf(status, 'Seccomp'), lastOf(status, 'NoNewPrivs')]).toEqual(['2', '1']);
      for (const pid of [container.pid, container.launcherPid])
        expect(readlinkSync(`/proc/${pid}/exe`)).toMatch(/^\/memfd:/);
      // It does with them what it is there for.
      await new Promise((resolve) => container.stdout?.once('data', resolve));
      container.signal(15);
      expect((await outputOf(container)).status).toEqual({ kind: 'exited', code: 3 });
    },
  );
});
