/** Tests of `tsvm run --image` for either isolation: one image, two kinds of wall, and the same to be seen of the command. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { tsvm } from './cli.js';
import { makeBusyboxRoot } from './container.js';
import { interpreted, temporaryDirectory } from './guest.js';
import { makeOciLayout } from './oci-layout.js';

export type Isolation = 'vm' | 'container';

const SCRIPT =
  'id -u; id -g; id -G; pwd; hostname; env | sort; cat; cat /etc/layer; echo error >&2; touch /tmp/x /x; exit 5';
const SEEN = `7
8
8 44
/srv/made/here
tsvm
FROM_IMAGE=1
HOME=/home/app
HOSTNAME=tsvm
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PWD=/srv/made/here
SHLVL=1
TERM=dumb
inputof the image
`;
/** Variable of the guest's init, where the kernel was told noxsave (guests/README.md). */
const TUNABLES =
  'GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX_Fast_Unaligned_Load,-AVX512F,-AVX512VL,-AVX512BW\n';
const seenIn = (isolation: Isolation): string =>
  interpreted && isolation === 'vm' ? SEEN.replace('HOME=', `${TUNABLES}HOME=`) : SEEN;

/** Defines them. Call it at the top of a file. */
export function imageTests(isolation: Isolation): void {
  const folder = temporaryDirectory();
  const directory = join(folder, 'root');
  const layout = join(folder, 'layout');
  const env = { TSVM_IMAGE_DIR: join(folder, 'images'), TSVM_TEMPLATE_DIR: join(folder, 'templates') };

  beforeAll(() => {
    makeBusyboxRoot(directory);
    mkdirSync(join(directory, 'home/app'), { recursive: true });
    writeFileSync(join(directory, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\napp:x:7:8::/home/app:/bin/sh\n');
    writeFileSync(join(directory, 'etc/group'), 'root:x:0:\nvideo:x:44:nobody,app\naudio:x:29:apps\n');
    makeOciLayout(layout, [{ directory }, { 'etc/layer': 'of the image\n' }], {
      User: 'app',
      Env: ['FROM_IMAGE=1'],
      WorkingDir: '/srv/made/here',
      Entrypoint: ['sh', '-c'],
      Cmd: ['echo by default'],
    });
  });

  const run = (image: string, args: readonly string[], input?: string) =>
    tsvm(
      ['run', '--image', image, '--isolation', isolation, ...args],
      input === undefined ? { env } : { env, input },
    );

  // Once more: the machine from its template, the container from the image that is unpacked.
  test.each(['first', 'second'])(`a layout in a ${isolation}, the %s time`, async () => {
    const result = await run(layout, ['-e', 'TERM=dumb', '--', SCRIPT], 'input');
    expect(result.stdout.toString()).toBe(seenIn(isolation));
    expect(result.stderr).toMatch(/error\ntouch: \/x: Permission denied\n$/);
    expect(result.status).toBe(5);
  });

  test(`the image’s own command, and statuses, in a ${isolation}`, async () => {
    expect((await run(layout, [])).stdout.toString()).toBe('by default\n');
    expect((await run(layout, ['--user', '0', '--', 'touch /x && kill -9 $$'])).status).toBe(137);
  });

  test(`a working directory that is missing is made in a ${isolation}, as Docker does; one that cannot be is said`, async () => {
    const made = await run(directory, [
      '-w',
      '/made/too',
      '--user',
      '7:8',
      '--',
      'stat',
      '-c',
      '%n %u %a',
      '/made',
      '.',
    ]);
    expect([made.status, made.stdout.toString()]).toEqual([0, '/made 0 755\n. 0 755\n']);
    const refused = await run(directory, ['-w', '/etc/passwd/x', '--', 'true']);
    expect([refused.status, refused.stderr]).toEqual([
      isolation === 'vm' ? 127 : 125,
      expect.stringContaining('/etc/passwd/x'),
    ]);
  });

  test(`a directory in a ${isolation}, which stays as it is`, async () => {
    const script = 'id -u; cat /etc/passwd; rm /etc/passwd; echo x > /new; ls /etc /new';
    const result = await run(directory, ['--', 'sh', '-c', script]);
    expect(result.stdout.toString()).toBe(
      `0\n${readFileSync(join(directory, 'etc/passwd'), 'utf8')}/new\n\n/etc:\ngroup\n`,
    );
    const missing = await run(directory, ['--', '/nope']);
    expect([missing.status, missing.stderr]).toEqual([127, expect.stringContaining('/nope: not found')]);
  });
}
