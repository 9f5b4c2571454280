/** Images and volumes whose links lead out of the container: nothing of the host is changed or read, whoever runs them. */
import {
  chmodSync,
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { TsvmError } from '../../src/errors.js';
import { packageFile } from '../../src/util/package-file.js';
import { cliProblem, run } from '../support/cli.js';
import { inContainer, makeBusyboxRoot } from '../support/container.js';
import { temporaryDirectory } from '../support/guest.js';

// Dozens of containers in each, on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 });

const folder = temporaryDirectory();
const root = join(folder, 'root');
/** Folder that must not change: everybody may write to it, so that nothing but the launcher holds anybody back. */
const canary = join(folder, 'canary');
const installed = join(folder, 'tsvm');
const NOBODY = '65534';
const SECRET = 'secret of the host';

const newFolder = (name: string): string => {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  chmodSync(path, 0o777);
  return path;
};

beforeAll(() => {
  const problem = cliProblem();
  if (problem !== undefined) throw new Error(problem);
  makeBusyboxRoot(root);
  chmodSync(folder, 0o755);
  for (const path of ['dist/bin', 'kvm-addon/build/Release', 'package.json']) {
    mkdirSync(join(installed, dirname(path)), { recursive: true });
    cpSync(packageFile(path), join(installed, path), { recursive: true });
  }
  cpSync(join(root, 'bin'), join(folder, 'bare/bin'), { recursive: true, verbatimSymlinks: true });
  newFolder('canary/sub');
  chmodSync(canary, 0o777);
  for (const name of ['passwd', 'resolv.conf', 'null', 'sub/file']) {
    writeFileSync(join(canary, name), SECRET);
    chmodSync(join(canary, name), 0o666);
  }
});

/** Facts that are to be seen of a folder, but when it was read. */
function seen(path: string): object {
  const { mode, uid, mtimeMs, ctimeMs } = lstatSync(path);
  const facts = { mode, uid, mtimeMs, ctimeMs };
  return lstatSync(path).isDirectory()
    ? { ...facts, entries: readdirSync(path).map((name) => [name, seen(join(path, name))]) }
    : { ...facts, content: readFileSync(path, 'utf8') };
}

/** Links that would lead to the canary, if anything of the host's could be reached by them. */
const ESCAPES = (): readonly string[] => [
  `/..${canary}`,
  `../../../../../../../..${canary}`,
  `/../../..${canary}`,
  `../..${canary}`,
  `/tmp/../..${canary}`,
];
/** Links into /proc, which no path goes through. */
const MAGIC = (): readonly string[] => [
  `/proc/1/root${canary}`,
  `/proc/self/root/..${canary}`,
  `/proc/thread-self/cwd/..${canary}`,
  `/proc/self/fd/3/..${canary}`,
  '/proc/self/fd/5',
  '/proc/1/cwd',
];

/** A layer that has a link at each component of /a/b/c, in a folder of its own. */
function linked(name: string, link: string): string {
  const layer = newFolder(name);
  symlinkSync(link, join(layer, 'first'));
  mkdirSync(join(layer, 'middle/b'), { recursive: true });
  symlinkSync(link, join(layer, 'middle/b/c'));
  return layer;
}
const PLACES = ['/first/made/there', '/first/sub', '/first/sub/file', '/middle/b/c', '/middle/b/c/made'];

let number = 0;
const fresh = (what: string): string => `${what}-${number++}`;

/** Runs it, and returns what it said, or the one line of why not. The canary is as it was. */
async function tried(config: Parameters<typeof inContainer>[2], script = 'true'): Promise<string> {
  const before = seen(canary);
  const said = await inContainer(root, script, config).then(
    ({ stdout, stderr }) => stdout + stderr,
    (error: unknown) => {
      expect(error).toBeInstanceOf(TsvmError);
      return `refused: ${(error as Error).message}`;
    },
  );
  expect(seen(canary)).toEqual(before);
  expect(said).not.toContain(SECRET);
  return said;
}

describe('a volume’s target', () => {
  test('goes through links below the root of the container, and no further', async () => {
    for (const link of ESCAPES()) {
      const layers = [linked(fresh('image'), link), root];
      const source = newFolder(fresh('source'));
      writeFileSync(join(source, 'mine'), 'mine');
      for (const target of PLACES) {
        for (const from of [source, join(source, 'mine')]) {
          const script = `cat ${target}${from === source ? '/mine' : ''}; ls -d ${canary}`;
          const said = await tried({ layers, volumes: [{ source: from, target }] }, script);
          // The folder of the container that is called as the canary is on the host.
          expect([link, target, said]).toEqual([link, target, `mine${canary}\n`]);
        }
      }
    }
  });

  test('is refused when it leads into /proc', async () => {
    for (const link of MAGIC()) {
      const layers = [linked(fresh('image'), link), root];
      for (const target of PLACES) {
        const said = await tried({ layers, volumes: [{ source: newFolder(fresh('source')), target }] });
        expect([link, target, said]).toEqual([link, target, expect.stringMatching(/^refused: .*volume/)]);
      }
    }
  });

  test.each(['/', '/proc/1/..', '..', './../.', '/dev/..'])(
    'is refused on /dev, /proc and /sys by way of %j',
    async (link) => {
      const layer = newFolder(fresh('image'));
      symlinkSync(link, join(layer, 'srv'));
      for (const below of [
        'dev',
        'dev/shm',
        'dev/null',
        'dev/new',
        'proc',
        'proc/keys',
        'sys',
        'sys/fs/new',
      ]) {
        for (const privileged of below.startsWith('dev/') ? [false, true] : [false]) {
          const volumes = [{ source: newFolder(fresh('source')), target: `/srv/${below}` }];
          const said = await tried({ layers: [layer, root], volumes, privileged });
          expect([below, said]).toEqual([below, expect.stringMatching(/^refused: [^\n]*\/srv\//)]);
        }
      }
      const said = await tried({
        layers: [layer, root],
        volumes: [{ source: newFolder(fresh('source')), target: '/srv/.' }],
      });
      expect(said).toMatch(/^refused: [^\n]*\/srv/);
    },
  );

  test('is looked up below the volumes that are there already', async () => {
    for (const link of ESCAPES()) {
      const outer = newFolder(fresh('outer'));
      symlinkSync(link, join(outer, 'x'));
      const inner = newFolder(fresh('inner'));
      writeFileSync(join(inner, 'mine'), 'mine');
      const volumes = [
        { source: outer, target: '/vol', readOnly: true },
        { source: inner, target: '/vol/x/made' },
      ];
      expect(await tried({ volumes }, `cat ${canary}/made/mine`)).toBe('mine');
    }
  });

  test('on a FIFO or a link that leads nowhere waits for nobody and stays inside', async () => {
    const layer = newFolder(fresh('image'));
    expect((await run('mkfifo', [join(layer, 'fifo')])).status).toBe(0);
    symlinkSync('/run/missing/it', join(layer, 'dangling'));
    const source = join(newFolder(fresh('source')), 'mine');
    writeFileSync(source, 'mine');
    for (const target of ['/fifo', '/dangling']) {
      expect(await tried({ layers: [layer, root], volumes: [{ source, target }] }, `cat ${target}`)).toBe(
        'mine',
      );
    }
    symlinkSync('loop', join(layer, 'loop'));
    const said = await tried({ layers: [layer, root], volumes: [{ source, target: '/loop/x' }] });
    expect(said).toMatch(/^refused: .*ELOOP/);
  });
});

describe('the working directory', () => {
  test('of an image is made if it is missing, by the image’s own links', async () => {
    expect(await tried({ cwd: '/srv/not/there', makeCwd: true }, 'pwd')).toBe('/srv/not/there\n');
    for (const link of ESCAPES()) {
      const layers = [linked(fresh('image'), link), root];
      for (const place of ['/first/made/there', '/middle/b/c/made']) {
        const script = `pwd; ls -d ${canary}/made`;
        const expected = `${canary}${place.slice(place.indexOf('/made'))}\n${canary}/made\n`;
        expect(await tried({ layers, cwd: place, makeCwd: true }, script)).toBe(expected);
        expect(await tried({ layers, cwd: place })).toMatch(/^refused: .*working directory/);
      }
    }
  });

  test('is not entered by way of /proc, and nothing is made for it in /dev, /proc or /sys', async () => {
    for (const link of MAGIC()) {
      const layers = [linked(fresh('image'), link), root];
      for (const cwd of ['/first', '/first/sub', '/middle/b/c']) {
        for (const makeCwd of [false, true])
          expect(await tried({ layers, cwd, makeCwd }, 'cat passwd')).toMatch(
            /^refused: .*working directory/,
          );
      }
    }
    for (const cwd of ['/dev/new', '/proc/new', '/sys/new', '/dev/shm/new'])
      expect(await tried({ cwd, makeCwd: true })).toMatch(/^refused: .*working directory/);
    expect(await tried({ cwd: '/dev/shm', makeCwd: true }, 'pwd')).toBe('/dev/shm\n');
  });

  test('is the user’s to enter', async () => {
    const layer = newFolder(fresh('image'));
    mkdirSync(join(layer, 'closed'), { mode: 0o700 });
    const config = { layers: [layer, root], cwd: '/closed', user: { uid: 1000, gid: 1000 } };
    expect(await tried(config)).toMatch(/^refused: .*EACCES/);
  });
});

test('resolv.conf is written in the root, whatever link leads to it, and not in a volume', async () => {
  const network = 'user';
  for (const link of [...ESCAPES().slice(0, 3), ...MAGIC().slice(0, 3)]) {
    const etc = newFolder(fresh('image'));
    symlinkSync(link, join(etc, 'etc'));
    const said = await tried({ layers: [etc, join(folder, 'bare')], network }, 'cat /etc/resolv.conf');
    expect([link, said]).toEqual([
      link,
      expect.stringMatching(/^(nameserver 10.0.2.3\n|refused: .*etc|cat: can't open)/),
    ]);
    const file = newFolder(fresh('image'));
    mkdirSync(join(file, 'etc'));
    symlinkSync(`${link}/resolv.conf`, join(file, 'etc/resolv.conf'));
    expect(await tried({ layers: [file, root], network }, 'cat /etc/resolv.conf')).toBe(
      'nameserver 10.0.2.3\n',
    );
  }
  const volumes = [{ source: canary, target: '/etc' }];
  await tried({ network, volumes });
});

test.each(['proc', 'sys', 'dev'])(
  'an image whose /%s is a link is refused, whatever it leads to',
  async (name) => {
    for (const link of [...ESCAPES(), '/tmp', '/proc', 'dev']) {
      const layer = newFolder(fresh('image'));
      symlinkSync(link, join(layer, name));
      expect(await tried({ layers: [layer, join(folder, 'bare')] })).toMatch(
        `find a directory at /${name} of the image`,
      );
    }
  },
);

test('hidden paths are hidden, whatever an image and a volume have in their place', async () => {
  const layer = newFolder(fresh('image'));
  for (const name of [
    'proc/keys',
    'proc/kcore',
    'proc/acpi',
    'sys/firmware',
    'dev/null',
    'dev/shm',
    'dev/pts',
  ]) {
    mkdirSync(join(layer, dirname(name)), { recursive: true });
    symlinkSync(`/..${canary}/null`, join(layer, name));
  }
  symlinkSync('/', join(layer, 'srv'));
  const script =
    'cat /proc/keys /proc/interrupts /proc/timer_list; ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v :; echo x > /dev/null; echo x >> /proc/keys; ls -ld /dev/null';
  const said = await tried({ layers: [layer, root] }, script);
  expect(said.replace(/^\n*/, '')).toMatch(/^crw-rw-rw- .* 1, +3 .*\/dev\/null\n$/);
});

test('content of a volume that changes meanwhile leads nowhere else', async () => {
  const outer = newFolder(fresh('outer'));
  const inner = newFolder(fresh('inner'));
  const flipping = run('/bin/sh', [
    '-c',
    `cd ${outer}; while [ ! -e stop ]; do ln -sfn /..${canary} x; rm x; mkdir -p x/sub; mv x y; ln -s ../../../../../../..${canary} x; rm -rf x y; done`,
  ]);
  try {
    for (let i = 0; i < 15; i++) {
      const said = await tried({
        volumes: [
          { source: outer, target: '/vol' },
          { source: inner, target: '/vol/x/sub/made' },
        ],
        cwd: '/vol/x',
        makeCwd: true,
      });
      expect(said).toMatch(/^$|^refused: /);
    }
  } finally {
    writeFileSync(join(outer, 'stop'), '');
    await flipping;
  }
});

test('a user’s container leads nowhere else either', async () => {
  const before = seen(canary);
  const source = newFolder(fresh('source'));
  writeFileSync(join(source, 'mine'), 'mine');
  // Layers of its own: the kernel copies up no folder of a user that the container does not have.
  const own = newFolder('own');
  cpSync(root, own, { recursive: true, verbatimSymlinks: true });
  for (const link of [...ESCAPES().slice(0, 2), ...MAGIC().slice(0, 2)]) {
    const image = linked(fresh('image'), link);
    expect((await run('chown', ['-hR', `${NOBODY}:${NOBODY}`, image, own])).status).toBe(0);
    for (const target of ['/first/made', '/middle/b/c']) {
      const options = ['--rootfs', image, '--layer', own, '--volume', `${source}:${target}`];
      const command = ['container', 'run', ...options, '--', 'cat', `${target}/mine`];
      const result = await run('setpriv', [
        ...['--reuid', NOBODY, '--regid', NOBODY, '--clear-groups', process.execPath],
        ...[join(installed, 'dist/bin/tsvm.cjs'), ...command],
      ]);
      const expected = link.startsWith('/proc')
        ? [125, expect.stringMatching(/^tsvm: .*volume .*ELOOP\nhint: .*\n$/)]
        : [0, ''];
      expect([link, target, result.status, result.stderr]).toEqual([link, target, ...expected]);
    }
  }
  expect(seen(canary)).toEqual(before);
});
