/** Places that `--net user` lets a guest and a container reach, in a host and a LAN of the test's own. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { pastaArguments } from '../../src/container/user-network.js';
import type { NetClient } from '../../src/devices/backends/net.js';
import { openPasst } from '../../src/host/net/passt.js';
import { skipAll } from '../support/skip.js';
import { missingProgram, notRoot } from '../support/skip-reasons.js';
import { enter, LOOPBACK_PORT, PLACES, PORT, SmallNet, smallNetProblem } from '../support/small-net.js';
import { tcpSyn } from '../support/tcp-syn.js';
import { frameSource, PLAIN_HEADER } from '../support/test-cable.js';

const GATEWAY = '10.0.2.2';
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 9);
/** SYN and ACK: somebody is there. */
const ACCEPTED = 0x12;

const problem = notRoot() ?? missingProgram('passt') ?? smallNetProblem();

describe('--net user', () => {
  skipAll(problem);

  let net: SmallNet;
  beforeAll(async () => {
    if (problem === undefined) net = await SmallNet.open();
  });
  afterAll(() => net?.close());

  /** Asks each place for a connection, as a guest does, and tells whether somebody is there. */
  async function machineReaches(
    loopback: boolean,
    ...places: readonly (readonly [address: string, port: number])[]
  ): Promise<boolean[]> {
    const answers = new Map<number, boolean>();
    let heard: () => void = () => {};
    const client: NetClient = {
      receive(frame) {
        const bytes = Buffer.from(frame);
        // TCP, to a port that a question came from.
        if (bytes.length >= 54 && bytes.readUInt16BE(12) === 0x0800 && bytes[23] === 6)
          answers.set(bytes.readUInt16BE(36), bytes[47] === ACCEPTED);
        heard();
        return true;
      },
      received() {},
      onWritable() {},
      onLink() {},
    };
    const backend = await inHost(() => openPasst({ kind: 'user', mtu: 1500, forwards: [], loopback }));
    try {
      backend.connect(MAC, client);
      for (const [i, [address, port]] of places.entries()) {
        backend.send(frameSource(tcpSyn(MAC, 40_000 + i, address, port)), PLAIN_HEADER);
        backend.flush();
      }
      // The last is known to answer, and passt takes them in order.
      await new Promise<void>((resolve) => {
        heard = () => {
          if (answers.has(40_000 + places.length - 1)) resolve();
        };
      });
      return places.map((_, i) => answers.get(40_000 + i) ?? false);
    } finally {
      await backend.close();
    }
  }

  /** Calls `start` with a passt on the PATH that runs in the host's network namespace. */
  async function inHost<T>(start: () => Promise<T>): Promise<T> {
    const folder = mkdtempSync(join(tmpdir(), 'tsvm-passt-'));
    const path = process.env['PATH'] ?? '';
    const passt = execFileSync('sh', ['-c', 'command -v passt'], { encoding: 'utf8' }).trim();
    writeFileSync(join(folder, 'passt'), `#!/bin/sh\nexec ${enter(net.host).join(' ')} ${passt} "$@"\n`, {
      mode: 0o755,
    });
    process.env['PATH'] = `${folder}:${path}`;
    try {
      return await start();
    } finally {
      process.env['PATH'] = path;
      rmSync(folder, { recursive: true });
    }
  }

  test.each(Object.entries(PLACES))('leads a machine to %s', async (_, address) => {
    expect(await machineReaches(false, [address, PORT])).toEqual([true]);
  });

  test('leads a machine to no loopback of the host’s, but with loopback=yes', async () => {
    const known = [PLACES['the host’s own address'], PORT] as const;
    const loopback = [
      [GATEWAY, LOOPBACK_PORT],
      ['127.0.0.1', LOOPBACK_PORT],
      ['0.0.0.0', LOOPBACK_PORT],
      [PLACES['the host’s own address'], LOOPBACK_PORT],
    ] as const;
    expect(await machineReaches(false, ...loopback, known)).toEqual([false, false, false, false, true]);
    expect(await machineReaches(true, [GATEWAY, LOOPBACK_PORT])).toEqual([true]);
  });

  test('leads a container to the same places, and to no loopback of the host’s', async () => {
    // In a user namespace, as containers are.
    const container = spawn('unshare', ['-Urn', 'sh', '-c', 'echo; exec sleep 600'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    onTestFinished(() => void container.kill('SIGKILL'));
    await once(container.stdout, 'data');
    const pid = container.pid as number;
    // As root, since this user namespace knows no other user; where it reaches does not depend on that.
    const [program = '', ...args] = [...enter(net.host), 'pasta', ...pastaArguments(pid), '--runas', '0'];
    const pasta = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
    onTestFinished(() => void pasta.kill('SIGKILL'));
    const routes = (): string => readFileSync(`/proc/${pid}/net/route`, 'utf8');
    await expect.poll(routes, { timeout: 20_000 }).toMatch(/^\S+\t00000000\t/m);

    const reaches = (address: string, port: number, seconds = 2): boolean => {
      const [nsenter = '', ...rest] = [
        ...enter(pid),
        '-U',
        '--preserve-credentials',
        'timeout',
        String(seconds),
        'bash',
        '-c',
        `: < /dev/tcp/${address}/${port}`,
      ];
      try {
        execFileSync(nsenter, rest, { stdio: 'pipe' });
        return true;
      } catch {
        return false;
      }
    };
    expect(Object.values(PLACES).map((address) => reaches(address, PORT, 20))).toEqual([
      true,
      true,
      true,
      true,
    ]);
    expect(reaches('127.0.0.1', LOOPBACK_PORT)).toBe(false);
    expect(reaches(PLACES['the host’s own address'], LOOPBACK_PORT)).toBe(false);
    expect(reaches(GATEWAY, LOOPBACK_PORT)).toBe(false);
  });
});
