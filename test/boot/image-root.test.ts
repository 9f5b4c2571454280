/** Root of a machine that was made of layers, as the kernels of guests show it: default, and Debian's. */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { findGuest } from '../../src/index.js';
import { tsvm } from '../support/cli.js';
import { interpreted, temporaryDirectory } from '../support/guest.js';
import { missing, notHere } from '../support/skip-reasons.js';
import { type TarEntry, tarOf } from '../support/tar.js';

const hasDebian = await findGuest('debian').then(
  () => true,
  () => false,
);
const folder = temporaryDirectory();
const BUSYBOX = readFileSync('/bin/busybox');
/** Capability to change any owner, for whoever runs the program. */
const CHOWN = '\x01\0\0\x02\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0';
const MANY = 1500;
const BOOT_MS = 240_000;

const folderEntry = (name: string, mode = 0o755): TarEntry => ({ name, type: '5', mode });
const program = (name: string, pax: Readonly<Record<string, string>> = {}): TarEntry => ({
  name,
  mode: 0o755,
  content: BUSYBOX,
  pax,
});

const ENTRIES: readonly TarEntry[] = [
  folderEntry('./'),
  folderEntry('bin'),
  program('bin/busybox'),
  program('bin/chown', { 'SCHILY.xattr.security.capability': CHOWN }),
  { name: 'bin/sh', type: '2', link: 'busybox' },
  folderEntry('etc'),
  { name: 'etc/passwd', content: 'root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n' },
  { name: 'etc/shadow', mode: 0, content: 'root:*' },
  { name: 'etc/hard', type: '1', link: 'etc/shadow' },
  folderEntry('t', 0o1777),
  { name: 't/long', content: 'l', pax: { path: `t/${'n'.repeat(255)}` } },
  { name: 't/suid', mode: 0o4755, uid: 4_294_967_294, content: 'x'.repeat(3000) },
  { name: 't/later', content: 'y'.repeat(70_000), pax: { mtime: '4294967297.5' } },
  { name: 't/empty', mode: 0o444 },
  folderEntry('many'),
  ...Array.from({ length: MANY }, (_, i): TarEntry => ({ name: `many/${i}`, content: `${i}` })),
];

/** Says of each name what stat(1) says, and of all data and names together what sha256sum(1) does. */
const SCRIPT = `
cd /; busybox stat -c '%n %F %a %u:%g %h %s %Y' bin/sh etc/shadow etc/hard many t/*
busybox cat t/* etc/shadow bin/busybox many/* | busybox sha256sum; busybox ls many | busybox wc -l
busybox touch /x; for program in '/bin/busybox chown' /bin/chown; do
  busybox su -s /bin/sh app -c "$program 7:7 /x" 2>/dev/null; busybox stat -c '%u:%g' /x
done
busybox grep -A30 ' /bin/busybox$' /proc/self/smaps | busybox grep -c -m1 '^VmFlags:.* hg'`;

const LONG = 'n'.repeat(255);
const contents = new Map(
  ENTRIES.map(({ name, pax, content = '' }) => [pax?.['path'] ?? name, Buffer.from(content)]),
);
const READ = ['t/empty', 't/later', `t/${LONG}`, 't/suid', 'etc/shadow', 'bin/busybox']
  .concat([...contents.keys()].filter((name) => name.startsWith('many/')).sort())
  .map((name) => contents.get(name) ?? Buffer.alloc(0));
const SEEN = `bin/sh symbolic link 644 0:0 1 7 0
etc/shadow regular file 0 0:0 2 6 0
etc/hard regular file 0 0:0 2 6 0
many directory 755 0:0 2 SIZE 0
t/empty regular empty file 444 0:0 1 0 0
t/later regular file 644 0:0 1 70000 4294967297
t/${LONG} regular file 644 0:0 1 1 0
t/suid regular file 4755 4294967294:0 1 3000 0
${createHash('sha256').update(Buffer.concat(READ)).digest('hex')}  -
${MANY}
0:0
7:7
1
`;

test.for(['default', 'debian'])(
  'a machine of the guest %s sees what the layers have, and maps its programs',
  {
    timeout: 2 * BOOT_MS,
  },
  async (guest, { skip }) => {
    if (guest === 'debian' && interpreted)
      return skip(notHere('Debian’s kernel does not come to init within minutes where it is interpreted'));
    if (guest === 'debian' && !hasDebian)
      return skip(missing('the guest "debian" (guests/build all debian)'));
    const archive = join(folder, 'root.tar');
    writeFileSync(archive, tarOf(ENTRIES));
    const env = { TSVM_IMAGE_DIR: join(folder, 'images'), TSVM_TEMPLATE_DIR: join(folder, 'templates') };
    const args = ['run', ...(guest === 'debian' ? ['--guest', guest] : []), '--image', archive];
    const command = ['--', '/bin/busybox', 'sh', '-c', SCRIPT];
    const { status, stdout, stderr } = await tsvm([...args, ...command], { env, timeoutMs: BOOT_MS });
    expect(status, stderr).toBe(0);
    expect(stdout.toString().replace(/^(many directory .*) \d+ 0$/m, '$1 SIZE 0')).toBe(SEEN);
  },
);
