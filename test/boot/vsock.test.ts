/** Linux's own vsock driver against ours: test/boot/guest/vsock.c in the guest, streams and Unix sockets on the host. */
import { randomBytes } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type MachineVsock, restoreMachine, vsock } from '../../src/index.js';
import { ConsoleLog, initramfsWith, interpreted, Session, temporaryDirectory } from '../support/guest.js';
import { vsockPrograms } from '../support/vsock-programs.js';

const root = temporaryDirectory();
const path = join(root, 'vm.sock');
/** Bytes of a large transfer; where ring 0 is interpreted, each page that is copied costs milliseconds. */
const BULK_BYTES = interpreted ? 150_000 : 1_000_000;
const ECHO_PORT = 52;

/** The default guest's initramfs with the program in it, as /vsock. */
async function initramfs(): Promise<string> {
  return await initramfsWith(root, { vsock: vsockPrograms().guest });
}

function vsockOf({ vsock: found }: { readonly vsock: MachineVsock | undefined }): MachineVsock {
  if (found === undefined) throw new Error('no vsock');
  return found;
}

/** Sends `bytes`, says that there are no more, and returns what comes back. */
async function exchange(stream: Duplex, bytes: Uint8Array): Promise<Buffer> {
  stream.end(bytes);
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

describe('a guest with a vsock', () => {
  let session: Session;

  beforeAll(async () => {
    session = await Session.boot({
      initrd: await initramfs(),
      devices: [vsock({ path, cid: 42 })],
    });
    session.machine.console.write(Buffer.from(`/vsock echo ${ECHO_PORT} &\n`));
    await session.log.waitFor(/<listening>/);
  });

  afterAll(async () => {
    await session?.machine.stop();
  });

  test('a stream of the host’s, there and back', async () => {
    const bytes = randomBytes(BULK_BYTES);
    const answer = await exchange(await vsockOf(session.machine).connect(ECHO_PORT), bytes);
    expect(answer.equals(bytes)).toBe(true);
  });

  test('a port where nobody listens', async () => {
    await expect(vsockOf(session.machine).connect(99)).rejects.toMatchObject({ code: 'TSVM_VSOCK' });
  });

  test('a Unix socket of the host’s', async () => {
    const socket = connect({ path, allowHalfOpen: true });
    const answer = (await exchange(socket, Buffer.from(`CONNECT ${ECHO_PORT}\nhello`))).toString();
    expect(answer).toMatch(/^OK \d+\nhello$/);
  });

  test('a guest’s connection to a stream, to a Unix socket, and to nobody', async () => {
    using _ = vsockOf(session.machine).listen(80, (stream) => stream.pipe(stream));
    const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
    await new Promise<void>((resolve) => server.listen(`${path}_81`, resolve));
    try {
      const { output, status } = await session.run(
        'echo one | /vsock call 80; echo two | /vsock call 81; echo three | /vsock call 82',
      );
      expect(output).toBe('one\ntwo\nvsock: refused\n');
      expect(status).toBe(3);
    } finally {
      server.close();
    }
  });

  test('a reader on the host that is slow, and what it gets', async () => {
    let received = 0;
    const whole = new Promise<void>((resolve) => {
      vsockOf(session.machine).listen(83, (stream) => {
        void (async () => {
          for await (const part of stream) {
            received += part.length;
            await sleep(5);
          }
          stream.end();
          resolve();
        })();
      });
    });
    const { status } = await session.run(`head -c ${BULK_BYTES} /dev/zero | /vsock call 83`);
    await whole;
    expect({ received, status }).toEqual({ received: BULK_BYTES, status: 0 });
  });

  test('the connections of a fork end, it can be connected to, and its parent’s live on', async () => {
    const streams: Duplex[] = [];
    using _ = vsockOf(session.machine).listen(84, (stream) => streams.push(stream));
    session.machine.console.write(Buffer.from('/vsock hold 84 &\n'));
    await session.log.waitFor(/<connected>/);
    const [fork] = await session.machine.fork(1);
    if (fork === undefined) throw new Error('no fork');
    await using machine = fork;
    const log = new ConsoleLog(machine);
    await log.waitFor(/<ended>/);
    expect(vsockOf(machine).cid).toBe(42);
    expect(await exchange(await vsockOf(machine).connect(ECHO_PORT), Buffer.from('fork'))).toEqual(
      Buffer.from('fork'),
    );
    await vsockOf(machine).bind(join(root, 'fork.sock'));
    const socket = connect({ path: join(root, 'fork.sock'), allowHalfOpen: true });
    expect(String(await exchange(socket, Buffer.from(`CONNECT ${ECHO_PORT}\nagain`)))).toMatch(/\nagain$/);
    streams[0]?.end('to the parent\n');
    await session.log.waitFor(/to the parent\n<ended>/);
  });

  test('a fork that gets a CID of its own', async () => {
    const [fork] = await session.machine.fork(1);
    if (fork === undefined) throw new Error('no fork');
    await using machine = fork;
    vsockOf(machine).renumber(43);
    const calls: Duplex[] = [];
    vsockOf(machine).listen(80, (stream) => calls.push(stream.pipe(stream)));
    const log = new ConsoleLog(machine);
    machine.console.write(Buffer.from('echo renumbered | /vsock call 80\n'));
    await log.waitFor(/renumbered\n/);
    expect(calls).toHaveLength(1);
  });

  test('a restored guest listens still, at another path', async () => {
    const folder = join(root, 'saved');
    await session.machine.snapshot(folder);
    const elsewhere = join(root, 'restored.sock');
    await using machine = await restoreMachine(folder, { vsock: elsewhere });
    await machine.start();
    const socket = connect({ path: elsewhere, allowHalfOpen: true });
    const answer = await exchange(socket, Buffer.from(`CONNECT ${ECHO_PORT}\nback`));
    expect(answer.toString()).toMatch(/^OK \d+\nback$/);
  });
});
