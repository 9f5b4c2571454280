/**
 * The Linux kernel's own tests of vsock (tools/testing/vsock/vsock_test.c, from the source that the default guest's kernel is built
 * of) as a judge of the device: one side in the guest over AF_VSOCK; one on the host, where host/af-vsock.c makes tsvm's Unix
 * sockets of AF_VSOCK. They keep step over TCP.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { net, vsock } from '../../src/index.js';
import { started } from '../support/cli.js';
import { freePort } from '../support/free-port.js';
import { initramfsWith, Session, temporaryDirectory } from '../support/guest.js';
import { passtProblem } from '../support/passt-problem.js';
import { skipAll } from '../support/skip.js';
import { vsockPrograms, vsockProgramsProblem } from '../support/vsock-programs.js';

type Role = 'client' | 'server';

/** Tests that are left out, with the guest as what, and why; in docs/devices/vsock.md, too. */
const LEFT_OUT: readonly { readonly tests: RegExp; readonly guest: readonly Role[]; readonly why: string }[] =
  [
    {
      tests: /^SOCK_SEQPACKET /,
      guest: ['client', 'server'],
      why: 'the device has no SEQPACKET: Unix stream sockets have no records',
    },
    {
      tests: /^SOCK_STREAM SHUT_RD$/,
      guest: ['client', 'server'],
      why: 'shutdown(SHUT_RD) of a Unix socket is not heard of before the next write, and Node has none',
    },
    {
      tests: /^SOCK_STREAM MSG_ZEROCOPY$/,
      guest: ['client'],
      why: 'it expects that the peer has room for 192 KiB and not for 400; the device has room for 64',
    },
    {
      tests: /^SOCK_STREAM MSG_ZEROCOPY/,
      guest: ['server'],
      why: 'Unix sockets have no zero copy, nor its queue of errors',
    },
    {
      tests: /^SOCK_STREAM virtio credit update/,
      guest: ['client'],
      why: 'it is about the receiver, where a Unix socket has no SO_VM_SOCKETS_BUFFER_SIZE',
    },
    {
      tests: /^SOCK_STREAM double bind connect$/,
      guest: ['client'],
      why: 'it binds a port again when the host has heard of the close; the guest’s kernel may not have seen the answer yet',
    },
    {
      tests: /^SOCK_STREAM poll\(\) \+ SO_RCVLOWAT$/,
      guest: ['server'],
      why: 'poll() of a Unix socket ignores SO_RCVLOWAT',
    },
  ];

/** Time for each way round: 20 s of small steps where the guest's kernel is interpreted, and more where the machine is busy. */
const TIMEOUT_MS = 280_000;
/** Port at which the guest listens as the server. */
const GUEST_CONTROL_PORT = 1234;

const root = temporaryDirectory();
const path = join(root, 'vm.sock');

const problem = vsockProgramsProblem() ?? passtProblem();

describe('Linux’s vsock_test passes', { timeout: TIMEOUT_MS }, () => {
  skipAll(problem);

  let session: Session;
  let hostProgram: string;
  let initrd: string;
  /** A port of the host's that leads to the guest's. */
  let controlPort: number;
  /** Their names. Their numbers are their places. */
  let tests: string[];

  beforeAll(async () => {
    if (problem !== undefined) return;
    const { testInGuest, testOnHost } = vsockPrograms();
    hostProgram = testOnHost;
    const list = spawnSync(hostProgram, ['--list'], { encoding: 'utf8' }).stdout;
    tests = [...list.matchAll(/^\d+\t(.*)$/gm)].map(([, name]) => name as string);
    initrd = await initramfsWith(root, { vsock_test: testInGuest });
  });

  // A guest for each way round, and each try: what a failed one leaves is not the next one's.
  beforeEach(async () => {
    controlPort = await freePort();
    const forward = { protocol: 'tcp', address: '127.0.0.1', port: controlPort } as const;
    const forwards = [{ ...forward, guestPort: GUEST_CONTROL_PORT }];
    const devices = [vsock({ path }), net({ backend: 'user', forwards, loopback: true })];
    session = await Session.boot({ initrd, devices });
  }, TIMEOUT_MS);

  afterEach(async () => {
    await session?.machine.stop();
  });

  /** The host's side, once it runs. */
  async function onHost(args: readonly string[]) {
    return await started(hostProgram, ['--control-host=127.0.0.1', '--peer-cid=3', ...args], {
      env: { VSOCK_PATH: path },
      timeoutMs: TIMEOUT_MS,
    });
  }

  /** The guest's side. Its status is awaited after the host's side, whose end ends it. */
  function inGuest(args: string): () => Promise<number> {
    const from = session.log.text.length;
    session.machine.console.write(Buffer.from(`/vsock_test --peer-cid=2 ${args}; echo "<status $?>"\n`));
    return async () => Number((await session.log.waitFor(/<status (\d+)>/, from, TIMEOUT_MS))[1]);
  }

  test.each<Role>(['client', 'server'])('with the guest as the %s', async (guest) => {
    const omissions = LEFT_OUT.filter((row) => row.guest.includes(guest)).map((row) => row.tests);
    const isLeftOut = (name: string): boolean => omissions.some((pattern) => pattern.test(name));
    for (const pattern of omissions) expect(tests.filter((name) => pattern.test(name))).not.toEqual([]);
    // Either side's word is enough.
    const skips = tests.flatMap((name, number) => (isLeftOut(name) ? [`--skip=${number}`] : []));

    let host: Awaited<ReturnType<typeof onHost>>;
    let guestStatus: () => Promise<number>;
    if (guest === 'client') {
      const port = await freePort();
      host = await onHost(['--mode=server', `--control-port=${port}`, ...skips]);
      guestStatus = inGuest(`--mode=client --control-host=10.0.2.2 --control-port=${port}`);
    } else {
      const from = session.log.text.length;
      guestStatus = inGuest(`--mode=server --control-port=${GUEST_CONTROL_PORT}`);
      await session.log.waitFor(/Control socket listening/, from);
      host = await onHost(['--mode=client', `--control-port=${controlPort}`, ...skips]);
    }
    const { stdout, stderr, status } = await host.ended;
    const statuses = { host: status, guest: await guestStatus() };
    const said = `The host’s side:\n${stdout}${stderr}\nThe guest’s console:\n${session.log.text}`;
    expect(statuses, said).toEqual({ host: 0, guest: 0 });
    expect(stdout.toString().match(/^\d+ - .*$/gm)).toEqual(
      tests.map((name, number) => `${number} - ${name}...${isLeftOut(name) ? 'skipped' : 'ok'}`),
    );
  });
});
