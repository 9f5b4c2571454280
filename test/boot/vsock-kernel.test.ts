/**
 * The Linux kernel's own tests of vsock (tools/testing/vsock/vsock_test.c, from the source that the default guest's kernel is built
 * of) as a judge of the device: one side in the guest over AF_VSOCK; one on the host, where host/af-vsock.c makes tsvm's Unix
 * sockets of AF_VSOCK. They keep step over TCP.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { net, vsock } from '../../src/index.js';
import { started } from '../support/cli.js';
import { freePort } from '../support/free-port.js';
import { initramfsWith, inRig, Session, temporaryDirectory } from '../support/guest.js';
import { passtProblem } from '../support/passt-problem.js';
import { cached, isCached } from '../support/test-cache.js';

type Role = 'client' | 'server';

/** Which tests are left out, with the guest as what, and why; in docs/devices/vsock.md, too. */
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

const PACKAGE = 'linux-source-6.12';
const ARCHIVE = `/usr/src/${PACKAGE}.tar.xz`;
const VERSION = spawnSync('dpkg-query', ['-W', PACKAGE], { encoding: 'utf8' }).stdout?.split('\t')[1]?.trim();
const CACHED = `vsock-test-${VERSION}`;

/** For each way round: 20 s of small steps where the guest's kernel is interpreted, and more where the machine is busy. */
const TIMEOUT_MS = 280_000;
/** Where the guest listens as the server. */
const GUEST_CONTROL_PORT = 1234;

const root = temporaryDirectory();
const path = join(root, 'vm.sock');

function problemHere(): string | undefined {
  if (!existsSync(ARCHIVE)) return `${ARCHIVE} is missing: apt-get install ${PACKAGE}`;
  if (inRig && !isCached(CACHED)) return 'unpacking takes minutes in the rig: run this test outside first';
  return passtProblem();
}

function must(program: string, ...args: string[]): void {
  const { error, status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${error ?? stderr}`);
}

/** Makes vsock_test, as its Makefile does, with more to link. */
function build(name: string, ...more: string[]): string {
  const source = cached(CACHED, (folder) => {
    mkdirSync(folder);
    const wanted = ['*/tools/testing/vsock', '*/tools/include'];
    must('tar', '-xf', ARCHIVE, '-C', folder, '--strip-components=1', '--wildcards', ...wanted);
  });
  const folder = join(source, 'tools/testing/vsock');
  const parts = ['vsock_test', 'vsock_test_zerocopy', 'timeout', 'control', 'util', 'msg_zerocopy_common'];
  const flags = ['-O2', '-w', '-s', '-fno-strict-overflow', '-fno-strict-aliasing', '-U_FORTIFY_SOURCE'];
  const include = ['-D_GNU_SOURCE', `-I${folder}/../../include`];
  const program = join(root, name);
  const sources = parts.map((part) => join(folder, `${part}.c`));
  must('gcc', ...flags, ...include, '-o', program, ...sources, ...more);
  return program;
}

const problem = problemHere();

describe(`Linux’s vsock_test passes${problem === undefined ? '' : ` (SKIPPED: ${problem})`}`, {
  skip: problem !== undefined,
  timeout: TIMEOUT_MS,
}, () => {
  let session: Session;
  let hostProgram: string;
  let initrd: string;
  /** A port of the host's that leads to the guest's. */
  let controlPort: number;
  /** Their names. Their numbers are their places. */
  let tests: string[];

  beforeAll(async () => {
    const wrap = ['socket', 'bind', 'connect', 'accept'].map((name) => `-Wl,--wrap=${name}`);
    hostProgram = build('on-host', join(import.meta.dirname, 'host/af-vsock.c'), ...wrap);
    const list = spawnSync(hostProgram, ['--list'], { encoding: 'utf8' }).stdout;
    tests = [...list.matchAll(/^\d+\t(.*)$/gm)].map(([, name]) => name as string);
    initrd = await initramfsWith(root, 'vsock_test', build('in-guest', '-static'));
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
