/**
 * TAP interfaces. What talks to a real one runs in a network namespace of its own, where nothing of this host's can be
 * touched: this file starts itself again in there.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { NetBackend, NetClient } from '../../../src/devices/net-backend.js';
import { NO_OFFLOADS } from '../../../src/devices/net-header.js';
import { openTap } from '../../../src/host/tap.js';
import { loadAddon, type NativeTap } from '../../../src/native/binding.js';
import { missing } from '../../support/skip-reasons.js';
import { tapProblem } from '../../support/tap-problem.js';
import { frameSource, PLAIN_HEADER } from '../../support/test-cable.js';

const ROOT = join(import.meta.dirname, '../../..');
const INSIDE = 'TSVM_TEST_IN_NAMESPACE';
const inside = process.env[INSIDE] === '1';
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 9);

class Guest implements NetClient {
  readonly got: Buffer[] = [];
  readonly headers: Buffer[] = [];
  readonly links: boolean[] = [];
  batches = 0;
  room = Number.POSITIVE_INFINITY;

  receive(frame: Uint8Array, header = PLAIN_HEADER): boolean {
    if (this.room <= 0) return false;
    this.room--;
    this.headers.push(Buffer.from(header));
    this.got.push(Buffer.from(frame));
    return true;
  }

  received(): void {
    this.batches++;
  }

  onWritable(): void {}

  onLink(up: boolean): void {
    this.links.push(up);
  }
}

let guest: Guest;
beforeEach(() => {
  guest = new Guest();
});

/** An interface that a test puts frames into. */
class FakeTap implements NativeTap {
  readonly mtu = 1500;
  readonly frames: Uint8Array[] = [];
  readonly written: Uint8Array[] = [];
  readonly offloads: number[] = [];
  /** Before every frame that is read. */
  header = new Uint8Array(12);
  listening: (() => void) | undefined;
  failure: Error | undefined;
  closed = 0;

  read(target: Uint8Array): number {
    if (this.failure !== undefined) throw this.failure;
    const next = this.frames.shift();
    if (next === undefined) return 0;
    target.set(this.header);
    target.set(next, this.header.length);
    return this.header.length + next.length;
  }

  write(frame: Uint8Array): boolean {
    this.written.push(frame.slice());
    return true;
  }

  setOffloads(flags: number): void {
    if (this.failure !== undefined) throw this.failure;
    this.offloads.push(flags);
  }

  listen(callback: () => void): void {
    this.listening = callback;
  }

  mute(): void {
    this.listening = undefined;
  }

  close(): void {
    this.closed++;
  }
}

describe('openTap() over a played interface', () => {
  const frame = (value: number): Uint8Array => new Uint8Array(60).fill(value);
  let tap: FakeTap;
  let backend: NetBackend;

  beforeEach(() => {
    tap = new FakeTap();
    backend = openTap({ openTap: () => tap }, 'tap0');
    backend.connect(MAC, guest);
  });

  test('reads a bounded number of frames in one turn', () => {
    for (let i = 0; i < 100; i++) tap.frames.push(frame(i));
    tap.listening?.();
    expect([guest.got.length, guest.batches]).toEqual([64, 1]);
    tap.listening?.();
    expect(guest.got.map((bytes) => bytes[0])).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });

  test('leaves frames to the kernel while the guest has no room, and keeps the one that it had read (hostile 43)', () => {
    for (let i = 0; i < 5; i++) tap.frames.push(frame(i));
    guest.room = 2;
    tap.listening?.();
    expect([guest.got.length, tap.frames.length, tap.listening]).toEqual([2, 2, undefined]);
    backend.resume();
    expect(tap.listening).toBeUndefined();
    guest.room = 10;
    backend.resume();
    tap.listening?.();
    expect(guest.got.map((bytes) => bytes[0])).toEqual([0, 1, 2, 3, 4]);
  });

  test('pulls the cable when the interface is gone', () => {
    tap.failure = Object.assign(new Error('gone'), { code: 'EBADFD' });
    tap.listening?.();
    expect([guest.links, tap.listening]).toEqual([[true, false], undefined]);
  });

  test('passes headers on both ways, and tells the interface what may be left to the guest', () => {
    const header = Uint8Array.of(1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0);
    backend.send(frameSource(frame(7)), header);
    expect(tap.written).toEqual([Uint8Array.of(...header, ...frame(7))]);
    tap.header = header;
    tap.frames.push(frame(8));
    tap.listening?.();
    expect([guest.headers, guest.got]).toEqual([[Buffer.from(header)], [Buffer.from(frame(8))]]);
    backend.setOffloads?.({ checksum: true, tcp4: true, tcp6: false, ecn: false });
    backend.setOffloads?.(NO_OFFLOADS);
    expect(tap.offloads).toEqual([3, 0]);
    tap.failure = new Error('gone');
    backend.setOffloads?.(NO_OFFLOADS);
  });

  test('writes what the guest sends, and nothing comes after close(), which closes once', async () => {
    backend.send(frameSource(frame(7)), PLAIN_HEADER);
    expect(tap.written).toEqual([Uint8Array.of(...PLAIN_HEADER, ...frame(7))]);
    const { listening } = tap;
    await backend.close();
    await backend.close();
    tap.frames.push(frame(1));
    listening?.();
    backend.resume();
    expect([guest.got.length, tap.closed]).toEqual([0, 1]);
  });
});

test.each([
  ['ENODEV', /tap0: there is no such interface/, /ip tuntap add dev tap0 mode tap user \$USER/],
  ['EBUSY', /tap0: it is in use by another machine/, /its own/],
  ['EPERM', /tap0: it belongs to another user/, /as root/],
  ['EINVAL', /tap0: it is not a TAP interface/, /choose another/],
  ['ENOENT', /dev\/net\/tun is missing/, /modprobe tun/],
  ['EACCES', /dev\/net\/tun: permission denied/, /chmod/],
  ['ENOMEM', /TUNSETIFF failed with ENOMEM/, undefined],
])('openTap() says what is wrong after %s, and the remedy', (code, message, hint) => {
  const addon = {
    openTap(): never {
      throw Object.assign(new Error(code), { code, errno: -1, syscall: 'TUNSETIFF' });
    },
  };
  let error: unknown;
  try {
    openTap(addon, 'tap0');
  } catch (caught) {
    error = caught;
  }
  expect(error).toMatchObject({ code: 'TSVM_NET', message: expect.stringMatching(message) });
  if (hint !== undefined) expect(error).toMatchObject({ hint: expect.stringMatching(hint) });
});

/** Reason why there can be no real interface here, if there cannot. */
function realTapProblem(): string | undefined {
  const built = existsSync(join(ROOT, 'kvm-addon/build/Release/kvm_addon.node'));
  return built ? tapProblem() : missing('the addon is not built');
}

const problem = inside ? undefined : realTapProblem();

// Each time one of the two is there: the other is not skipped, but done in the other process.
if (!inside) {
  test('a real TAP works in a namespace of its own', { timeout: 120_000 }, ({ skip }) => {
    skip(problem !== undefined, problem);
    const vitest = join(ROOT, 'node_modules/vitest/vitest.mjs');
    const args = ['-n', process.execPath, vitest, 'run', '--project', 'unit', import.meta.filename];
    const result = spawnSync('unshare', args, {
      cwd: ROOT,
      encoding: 'utf8',
      env: { ...process.env, [INSIDE]: '1' },
      timeout: 110_000,
    });
    expect(result.status, `${result.stdout}\n${result.stderr}`).toBe(0);
  });
} else
  describe('inside a namespace, a TAP', { timeout: 30_000 }, () => {
    const ip = (...args: string[]): void => {
      const { status, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
      if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
    };
    const arp = Buffer.from(
      'ffffffffffff02000000000908060001080006040001' + '0200000000090a0900020000000000000a090001',
      'hex',
    );
    const isReply = (frame: Buffer): boolean => frame.readUInt16BE(12) === 0x0806 && frame[21] === 2;
    let backend: NetBackend | undefined;

    async function until(condition: () => boolean): Promise<void> {
      for (const end = performance.now() + 20_000; !condition(); ) {
        if (performance.now() > end) throw new Error('nothing came for 20 s');
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }

    /** The kernel drops what it sends until it has noticed the new carrier, which it looks for once a second. */
    async function untilAnswered(opened: NetBackend): Promise<Buffer> {
      await until(() => {
        opened.send(frameSource(arp), PLAIN_HEADER);
        return guest.got.some(isReply);
      });
      return guest.got.find(isReply) as Buffer;
    }

    beforeEach(() => {
      ip('tuntap', 'add', 'dev', 'tap0', 'mode', 'tap');
      ip('link', 'set', 'tap0', 'mtu', '4000', 'up');
      ip('addr', 'add', '10.9.0.1/24', 'dev', 'tap0');
    });

    afterEach(async () => {
      await backend?.close();
      spawnSync('ip', ['link', 'del', 'tap0']);
    });

    function open(): NetBackend {
      backend = openTap(loadAddon(), 'tap0');
      backend.connect(MAC, guest);
      return backend;
    }

    test('talks to the kernel at its other end, which answers', async () => {
      const opened = open();
      expect(opened.mtu).toBe(4000);
      const reply = await untilAnswered(opened);
      expect(reply.subarray(0, 6)).toEqual(Buffer.from(MAC));
      expect(reply.subarray(28, 32)).toEqual(Buffer.from([10, 9, 0, 1]));
    });

    test('is paused while the guest has no room, and loses nothing meanwhile', async () => {
      const opened = open();
      await untilAnswered(opened);
      // From another address, so that late answers to the above are not counted.
      const other = Buffer.from(arp);
      other[31] = 3;
      const answers = (): Buffer[] => guest.got.filter((frame) => isReply(frame) && frame[41] === 3);
      guest.room = 0;
      for (let i = 0; i < 10; i++) opened.send(frameSource(other), PLAIN_HEADER);
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(answers()).toEqual([]);
      guest.room = Number.POSITIVE_INFINITY;
      opened.resume();
      await until(() => answers().length >= 10);
      expect(answers()).toHaveLength(10);
    });

    test('that is there no more pulls the cable', async () => {
      open();
      ip('link', 'del', 'tap0');
      await until(() => guest.links.includes(false));
    });

    test('that is down loses what is sent', () => {
      const opened = open();
      ip('link', 'set', 'tap0', 'down');
      opened.send(frameSource(arp), PLAIN_HEADER);
      expect(guest.links).toEqual([true]);
    });

    test('serves one machine, and the next when that has ended', async () => {
      const first = open();
      expect(() => openTap(loadAddon(), 'tap0')).toThrow(/tap0: it is in use by another machine/);
      await first.close();
      await openTap(loadAddon(), 'tap0').close();
    });

    test('that nobody made is not made in passing', () => {
      expect(() => openTap(loadAddon(), 'tap7')).toThrow(/tap7: there is no such interface/);
      expect(spawnSync('ip', ['link', 'show', 'tap7']).status).not.toBe(0);
    });

    test('is not just any interface', () => {
      expect(() => openTap(loadAddon(), 'lo')).toThrow(/lo: it is not a TAP interface/);
    });
  });
