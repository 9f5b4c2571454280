/** C programs of the vsock tests, compiled before the rig starts, in which that takes half a minute. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { must } from './must.js';
import { cachedFor, findCached, uncached } from './test-cache.js';

const NAME = 'vsock-programs';
const PACKAGE = 'linux-source-6.12';
const ARCHIVE = `/usr/src/${PACKAGE}.tar.xz`;
/** Files of the repository, from whose root tests run. */
const AF_VSOCK = 'test/boot/host/af-vsock.c';
const GUEST_VSOCK = 'test/boot/guest/vsock.c';

const PARTS = ['vsock_test', 'vsock_test_zerocopy', 'timeout', 'control', 'util', 'msg_zerocopy_common'];
const FLAGS = ['-O2', '-w', '-s', '-fno-strict-overflow', '-fno-strict-aliasing', '-U_FORTIFY_SOURCE'];
const GUEST_FLAGS =
  '-Os -static -nostdlib -ffreestanding -fno-stack-protector -fcf-protection=none -fno-pie -no-pie -s -Wl,--build-id=none'.split(
    ' ',
  );
const WRAP = ['socket', 'bind', 'connect', 'accept'].map((name) => `-Wl,--wrap=${name}`);

/** Reason why there are none, if there are none. */
export const vsockProgramsProblem = (): string | undefined => uncached(NAME);

export interface VsockPrograms {
  /** test/boot/guest/vsock.c, for the guest. */
  readonly guest: string;
  /** vsock_test of the Linux kernel (tools/testing/vsock, from the source that the default guest's kernel is built of). */
  readonly testInGuest: string;
  /** The same for the host, where test/boot/host/af-vsock.c makes tsvm's Unix sockets of AF_VSOCK. */
  readonly testOnHost: string;
}

/** Compiles them. In the rig, those that were compiled before it started. */
export function vsockPrograms(): VsockPrograms {
  const found = process.env['TSVM_RIG'] === '1' ? findCached(NAME) : undefined;
  const folder = found ?? cachedFor(NAME, key(), build);
  const [guest, testInGuest, testOnHost] = ['guest', 'test-in-guest', 'test-on-host'].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  return { guest, testInGuest, testOnHost };
}

function key(): string {
  const version = must('dpkg-query', '-W', PACKAGE);
  const hash = createHash('sha256').update(JSON.stringify([version, PARTS, FLAGS, WRAP, GUEST_FLAGS]));
  for (const file of [AF_VSOCK, GUEST_VSOCK]) hash.update(readFileSync(file));
  return hash.digest('hex').slice(0, 12);
}

/** vsock_test as its Makefile makes it, with more to link. */
function build(folder: string): void {
  mkdirSync(folder);
  must('gcc', ...GUEST_FLAGS, '-o', join(folder, 'guest'), GUEST_VSOCK);
  const wanted = ['*/tools/testing/vsock', '*/tools/include'];
  must('tar', '-xf', ARCHIVE, '-C', folder, '--strip-components=1', '--wildcards', ...wanted);
  const tools = join(folder, 'tools');
  const include = ['-D_GNU_SOURCE', `-I${tools}/include`];
  const sources = PARTS.map((part) => join(tools, 'testing/vsock', `${part}.c`));
  const compile = (name: string, ...more: string[]): string =>
    must('gcc', ...FLAGS, ...include, '-o', join(folder, name), ...sources, ...more);
  compile('test-on-host', AF_VSOCK, ...WRAP);
  compile('test-in-guest', '-static');
  rmSync(tools, { recursive: true });
}
