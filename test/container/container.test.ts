/** Containers by what their insides see, and by what is left of them. */

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { CAPABILITIES } from '../../src/container/capabilities.js';
import { NAMESPACES } from '../../src/container/config.js';
import { startContainer } from '../../src/container/container.js';
import { TsvmError } from '../../src/errors.js';
import { abortedEverywhere } from '../support/abort.js';
import { commandLines, inContainer, makeBusyboxRoot, outputOf, traces } from '../support/container.js';
import { eventually } from '../support/eventually.js';
import { temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
const root = join(folder, 'root');
const run = (script: string, config?: Parameters<typeof inContainer>[2]) => inContainer(root, script, config);

/** Folder of a file system that can be the upper one of an overlay. */
const uppers = temporaryDirectory('/dev/shm');

beforeAll(() => void makeBusyboxRoot(root));

const newFolder = (name: string, parent = folder, mode = 0o777): string => {
  const path = join(parent, name);
  mkdirSync(path, { recursive: true, mode });
  return path;
};

describe('namespaces', () => {
  const kernelName = (name: string): string => (name === 'mount' ? 'mnt' : name);
  const seen = async (name: string, config = {}): Promise<string> =>
    (await run(`readlink /proc/self/ns/${kernelName(name)}`, config)).stdout.trim();
  const host = (name: string): string => readlinkSync(`/proc/self/ns/${kernelName(name)}`);

  test.each([...NAMESPACES, 'mount'])('%s is its own', async (name) => {
    expect(await seen(name)).toMatch(/\[\d+\]$/);
    expect(await seen(name)).not.toBe(host(name));
  });

  test.each(NAMESPACES)('%s is the host’s if it is shared', async (name) => {
    expect(await seen(name, { share: [name] })).toBe(host(name));
  });

  test('process 1 reaps orphans and sees no process of the host', async () => {
    const { stdout } = await run(
      '(sleep 0.1 &); sleep 0.4; ls -d /proc/[0-9]*; grep -l "State:.Z" /proc/[0-9]*/status',
    );
    expect(stdout.trim().split('\n').length).toBeLessThanOrEqual(4); // init, sh, ls
    expect(stdout).not.toContain('status');
  });

  test('the host name is its own, the loopback interface is up, and there is no other', async () => {
    const { stdout } = await run('hostname; ip -o addr | grep 127.0.0.1 | wc -l; ls /sys/class/net', {
      hostname: 'box',
    });
    expect(stdout).toBe('box\n1\nlo\n');
  });

  test('ids are mapped as they are asked for', async () => {
    const map = [
      { container: 0, host: 0, count: 1 },
      { container: 1, host: 100_001, count: 999 },
    ];
    const { stdout } = await run('cat /proc/self/uid_map', { uidMap: map, gidMap: map });
    expect(stdout.trim().split(/\s+/).map(Number)).toEqual([0, 0, 1, 1, 100_001, 999]);
  });
});

describe('files', () => {
  test('what is changed is thrown away, and the layer stays as it is', async () => {
    const before = readdirSync(root);
    await run('echo x > /new; rm /etc/passwd; mkdir /tmp/d');
    expect(readdirSync(root)).toEqual(before);
    expect((await run('ls /new /etc/passwd')).stdout).toBe('/etc/passwd\n');
  });

  test('an upper directory keeps changes, and is a layer for others: whiteouts and opaque directories hold', async () => {
    const upper = newFolder('upper', uppers, 0o700);
    await run('mkdir /d; echo low > /d/low', { upper });
    const base = join(upper, 'upper');
    const above = newFolder('above', uppers, 0o700);
    const layers = [root, base];
    await run('rm /etc/passwd; rm -r /d; mkdir /d; echo high > /d/high', { upper: above, layers });
    expect((await run('ls /d; cat /d/high; ls /etc', { upper: above, layers })).stdout).toBe('high\nhigh\n');
    const merged = await run('ls /d /etc', { layers: [...layers, join(above, 'upper')] });
    expect(merged.stdout).toBe('/d:\nhigh\n\n/etc:\n');
    expect((await run('ls /d', { layers })).stdout).toBe('low\n');
  });

  test('an upper directory that others may come to is refused: a setuid program in it would be the host’s', async () => {
    const upper = newFolder('open', uppers, 0o700);
    const started = () => run('cp /bin/busybox /su; chmod 4755 /su', { upper });
    for (const mode of [0o755, 0o711, 0o750, 0o777]) {
      chmodSync(upper, mode);
      await expect(started()).rejects.toMatchObject({
        code: 'TSVM_CONTAINER',
        hint: expect.stringMatching(/^chmod .*\/open$/),
      });
    }
    chmodSync(upper, 0o700);
    chownSync(upper, 1000, 1000);
    await expect(started()).rejects.toThrow('another user');
    chownSync(upper, 0, 0);
    const link = join(uppers, 'link-to-open');
    symlinkSync(upper, link);
    await expect(run('true', { upper: link })).rejects.toThrow('it is a link');
    expect(readdirSync(upper)).toEqual([]);
    await started();
    expect(statSync(join(upper, 'upper/su')).mode & 0o7777).toBe(0o4755);
    const asNobody = { uid: 65_534, gid: 65_534, cwd: '/' };
    const { error } = spawnSync(join(upper, 'upper/su'), ['id', '-u'], asNobody);
    expect(error).toMatchObject({ code: 'EACCES' });
  });

  test('where the kernel mounts no overlay for users, a copy takes its place, and goes', async () => {
    const layer = newFolder('gone', uppers);
    mkdirSync(join(layer, 'etc'));
    expect(spawnSync('mknod', [join(layer, 'etc/passwd'), 'c', '0', '0']).status).toBe(0);
    const copies = () => readdirSync(tmpdir()).filter((name) => name.startsWith('tsvm-root-'));
    const before = copies();
    const container = await startContainer(
      { layers: [root, layer], argv: ['sh', '-c', 'ls /etc; touch /x; ls -d /x; test -c /etc/passwd'] },
      { copy: true },
    );
    container.stdin?.end();
    const { stdout, status } = await outputOf(container);
    expect([stdout, status]).toEqual(['/x\n', { kind: 'exited', code: 1 }]);
    // A copy that an earlier process left goes, too: none is new.
    const left = copies().filter((name) => !before.includes(name));
    expect([existsSync(join(root, 'x')), left]).toEqual([false, []]);
  });

  test('the highest of many layers wins', async () => {
    const layers = Array.from({ length: 40 }, (_, i) => newFolder(`layers, and: odd names/${i}`));
    for (const [i, layer] of layers.entries()) writeFileSync(join(layer, 'which'), String(i));
    expect((await run('cat /which', { layers: [root, ...layers] })).stdout).toBe('39');
  });

  test('a read-only root takes nothing, /dev and a volume do', async () => {
    const volume = { source: newFolder('volume'), target: '/deep/in/volume' };
    const { stdout, stderr } = await run('touch /x; touch /dev/shm/x /deep/in/volume/x && echo ok', {
      readOnly: true,
      volumes: [volume],
    });
    expect([stdout, stderr]).toEqual(['ok\n', expect.stringContaining('Read-only')]);
    expect(readdirSync(volume.source)).toEqual(['x']);
  });

  test('a read-only volume takes nothing; a file is a file; a link of the image leads nowhere else', async () => {
    const image = newFolder('linked');
    symlinkSync('/var', join(image, 'data'));
    writeFileSync(join(folder, 'text'), 'text');
    const volumes = [{ source: join(folder, 'text'), target: '/data/of-the-container', readOnly: true }];
    const layers = [root, image];
    const { stdout } = await run('cat /var/of-the-container; echo no > /data/of-the-container; ls /var', {
      layers,
      volumes,
    });
    expect(stdout).toBe('textof-the-container\n');
    expect(readFileSync(join(folder, 'text'), 'utf8')).toBe('text');
    expect(existsSync('/var/of-the-container')).toBe(false);
  });

  test('an image whose /proc is a link is refused', async () => {
    const image = newFolder('proc-link');
    symlinkSync('/tmp', join(image, 'proc'));
    await expect(run('true', { layers: [image, root] })).rejects.toThrow(
      'find a directory at /proc of the image',
    );
  });

  test('/dev has the usual nodes, and no descriptor of the host is open', async () => {
    const { stdout } = await run(
      'ls /dev; ls /proc/self/fd; head -c 2 /dev/zero | wc -c; echo x > /dev/null; ls /proc/1/root',
    );
    expect(stdout.split('\n')).toEqual([
      ...['fd', 'full', 'mqueue', 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty'],
      ...['urandom', 'zero', '0', '1', '2', '3', '2', ''],
    ]);
  });
});

describe('hardening', () => {
  const status = async (config = {}): Promise<Record<string, string>> => {
    const { stdout } = await run('cat /proc/self/status', config);
    return Object.fromEntries(stdout.split('\n').map((line) => line.split(/:\s*/) as [string, string]));
  };

  test('its device nodes, which are the host’s, are written to and stay as they are', async () => {
    const { stdout } = await inContainer(
      root,
      `for at in null zero full random urandom tty; do
        for change in 'chmod 666' 'chown 0:0' 'touch'; do $change /dev/$at 2>/dev/null && echo $change $at; done
        { chmod 666 /proc/self/fd/3 && echo reopened $at; } 2>/dev/null 3</dev/$at
      done
      chmod 666 /proc/keys 2>/dev/null && echo keys
      echo x >/dev/null && head -c 2 /dev/zero | wc -c`,
    );
    expect(stdout).toBe('2\n');
  });

  test('a command has Docker’s 14 capabilities, no new privileges, and a filter', async () => {
    const docker = '00000000a80425fb';
    expect(await status()).toMatchObject({
      CapEff: docker,
      CapPrm: docker,
      CapBnd: docker,
      NoNewPrivs: '1',
      Seccomp: '2',
    });
    expect((await status())['CapInh']).toMatch(/^0+$/);
  });

  test('another user has none, and no group', async () => {
    const found = await status({ user: { uid: 1000, gid: 1000 } });
    expect(found).toMatchObject({ CapEff: '0'.repeat(16), Uid: '1000\t1000\t1000\t1000', Groups: '' });
  });

  test('another user is in the groups that are asked for, its own among them', async () => {
    const found = await status({ user: { uid: 1000, gid: 1000, groups: [44, 29] } });
    expect(found['Groups']?.trim().split(' ').sort()).toEqual(['1000', '29', '44']);
  });

  test('capabilities are as asked for', async () => {
    expect((await status({ capabilities: [] }))['CapBnd']).toBe('0'.repeat(16));
    expect((await status({ capabilities: ['CHOWN', 'SYS_ADMIN'] }))['CapEff']).toBe('0000000000200001');
  });

  test('a privileged one has all, and no filter', async () => {
    const found = await status({ privileged: true, capabilities: CAPABILITIES });
    expect(found).toMatchObject({ Seccomp: '0', NoNewPrivs: '0' });
    expect(BigInt(`0x${found['CapEff']}`) & 0x3fn).toBe(0x3fn);
  });

  test('what Docker’s profile refuses is refused', async () => {
    const { stdout, stderr } = await run(
      'mount -t tmpfs x /tmp; unshare -n true; dmesg; keyctl 2>/dev/null; swapoff /x; nsenter -t 1 -n true; echo end',
      { capabilities: CAPABILITIES.filter((name) => name !== 'SYS_ADMIN' && name !== 'SYSLOG') },
    );
    expect(stdout).toBe('end\n');
    expect(stderr.match(/permi|permitted/gi)?.length).toBeGreaterThanOrEqual(4);
  });

  test('SYS_ADMIN gives mounts back', async () => {
    const { status } = await run('mount -t tmpfs x /tmp', { capabilities: ['SYS_ADMIN'] });
    expect(status).toEqual({ kind: 'exited', code: 0 });
  });

  test('paths that tell of the host are masked, those that reach it read-only', async () => {
    const { stdout } = await run(
      'cat /proc/interrupts /proc/timer_list /proc/keys; ls /sys/firmware /proc/scsi; for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/uevent_helper; do (: >> $f) 2>/dev/null && echo writable $f; done; cat /proc/1/environ; readlink /proc/1/exe',
    );
    expect(stdout.replace(/.*:\n|\n/g, '')).toBe('');
  });

  // The whitelist is that no mount but those of /dev's nodes opens devices.
  test.each([[[]], [['user' as const]]])('a node that it makes opens nothing (sharing %j)', async (share) => {
    const { stdout } = await run(
      'for d in /tmp /dev /dev/shm; do mknod $d/n c 1 5 && head -c1 $d/n | wc -c; done',
      {
        share,
        capabilities: ['MKNOD'],
      },
    );
    expect(stdout.replace(/0\n/g, '')).toBe('');
  });
});

test('startContainer() that is aborted leaves nothing, at whatever step', async () => {
  const before = traces();
  const start = (signal: AbortSignal) => startContainer({ layers: [root], argv: ['cat'] }, { signal });
  const { value, steps } = await abortedEverywhere(start, async () => {
    await eventually(traces).toEqual(before);
  });
  expect(steps).toBeGreaterThan(2);
  await expect(value.wait({ signal: AbortSignal.abort(new Error('gone')) })).rejects.toThrow('gone');
  value.stdin?.end();
  expect((await value.wait()).status).toEqual({ kind: 'exited', code: 0 });
});

describe('the command', () => {
  const start = (argv: readonly string[]) => startContainer({ layers: [root], argv });

  test.each([
    ['exit 7', { kind: 'exited', code: 7 }],
    ['kill -15 $$', { kind: 'killed', signal: 15 }],
    ['kill -9 $$', { kind: 'killed', signal: 9 }],
  ])('%s is its status', async (script, expected) => {
    expect((await run(script)).status).toEqual(expected);
  });

  test('streams are binary and apart, and end', async () => {
    const container = await start(['sh', '-c', 'cat; echo err >&2']);
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7) & 0xff));
    const pieces: Buffer[] = [];
    container.stdout?.on('data', (piece: Buffer) => pieces.push(piece));
    container.stdin?.end(bytes);
    await container.wait();
    expect(Buffer.concat(pieces).equals(bytes)).toBe(true);
  });

  test('signals reach it; SIGKILL ends all of it', async () => {
    const trapping = await start([
      'sh',
      '-c',
      'trap "echo got; exit 5" TERM; echo up; while :; do sleep 0.05; done',
    ]);
    trapping.stdout?.once('data', () => trapping.signal(15));
    expect(await outputOf(trapping)).toMatchObject({
      stdout: 'up\ngot\n',
      status: { kind: 'exited', code: 5 },
    });
    const ignoring = await start(['sh', '-c', 'trap "" TERM; echo up; sleep 100 & sleep 100']);
    await new Promise((resolve) => ignoring.stdout?.once('data', resolve)); // by then it ignores it
    ignoring.signal(15);
    ignoring.signal(9);
    expect((await ignoring.wait()).status).toEqual({ kind: 'killed', signal: 9 });
  });

  test('a terminal is one: a session of its own, a size, input and output', async () => {
    const container = await startContainer({
      layers: [root],
      argv: ['sh', '-c', 'tty; stty size; read x; echo "<$x>"; ls -l /dev/console'],
      terminal: { rows: 33, columns: 99 },
    });
    container.stdin?.write('typed\n');
    const { stdout } = await outputOf(container);
    // The echo of what is typed stands where it came.
    expect(stdout.replaceAll('\r', '').replace('typed\n', '')).toContain('/dev/pts/0\n33 99\n<typed>');
    expect(stdout).toMatch(/^c.* 136, +0 .*\/dev\/console/m);
  });

  test('a terminal takes what is typed while it writes, and does not hinder the end of who is not read', async () => {
    const terminal = { rows: 24, columns: 80 };
    const shell = (script: string) =>
      startContainer({ layers: [root], argv: ['sh', '-c', script], terminal });
    const echo = await shell('stty raw -echo; echo ready; head -c 300000 | tr a b');
    const pieces: Buffer[] = [];
    const output = new Promise((resolve) => echo.stdout?.once('close', resolve));
    echo.stdout?.once('data', () => void echo.stdin?.write(Buffer.alloc(300_000, 'a')));
    echo.stdout?.on('data', (piece: Buffer) => pieces.push(piece));
    await echo.wait();
    await output;
    const text = Buffer.concat(pieces).toString();
    expect(text.length - text.indexOf('b')).toBe(300_000);
    const loud = await shell('yes');
    await new Promise((resolve) => setTimeout(resolve, 200));
    await loud[Symbol.asyncDispose]();
    expect((await loud.wait()).status).toEqual({ kind: 'killed', signal: 9 });
  });

  test.each([
    ['nope', 127],
    ['/etc', 126],
    ['/etc/passwd', 126],
    ['/etc/passwd/x', 127],
  ])('%s cannot be executed: %i', async (name, exitCode) => {
    await expect(start([name])).rejects.toMatchObject({ name: 'ExecuteError', exitCode });
  });
});

describe('bad input', () => {
  const file = join(folder, 'file');
  beforeAll(() => writeFileSync(file, ''));

  test.each([
    [{ layers: [] }, 'needs a root'],
    [{ layers: ['/nowhere'] }, '/nowhere: there is no such file'],
    [{ layers: [file] }, 'not a directory'],
    [{ upper: '/nowhere' }, 'upper /nowhere'],
    [{ argv: [] }, 'no command'],
    [{ cwd: 'tmp' }, 'not an absolute path'],
    [{ cwd: '/nowhere' }, 'working directory /nowhere'],
    [{ limits: { cpus: 0.001 } }, 'below what the kernel takes'],
    [{ limits: { pids: 1 } }, 'no room for the command'],
    [{ limits: { memoryBytes: 4096 } }, 'nothing starts in it'],
    [{ limits: { io: [{ device: '/dev/null', readBytes: 1 }] } }, 'not a block device'],
    [{ volumes: [{ source: '/nowhere', target: '/x' }] }, 'volume /nowhere'],
    [{ volumes: [{ source: '/tmp', target: '/a/../b' }] }, 'not a place in the container'],
    [{ network: 'user', share: ['net'] }, "leave out `share: ['net']`"],
    [{ uidMap: [{ container: 0, host: 0, count: 0 }] }, 'ids 0:0:0'],
  ] as const)('%j is refused, and nothing is left', async (config, message) => {
    const before = traces();
    const { error } = await run('true', config as Parameters<typeof inContainer>[2]).then(
      () => ({ error: undefined }),
      (error: unknown) => ({ error: error as TsvmError }),
    );
    expect(error).toBeInstanceOf(TsvmError);
    expect(`${error?.message}; ${error?.hint}`).toContain(message);
    expect(traces()).toEqual(before);
  });
});

test('what a user-mode network reads of the container is read by nobody, with rights over the container alone', async () => {
  const container = await startContainer({ layers: [root], argv: ['cat'], network: 'user' });
  const namespace = readlinkSync(`/proc/${container.pid}/ns/user`);
  const statusOfOurs = () =>
    readdirSync('/proc').flatMap((pid) => {
      try {
        const isPasta = readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('pasta\0');
        const isOurs = isPasta && readlinkSync(`/proc/${pid}/ns/user`) === namespace;
        return isOurs ? [readFileSync(`/proc/${pid}/status`, 'utf8')] : [];
      } catch {
        return []; // it ended
      }
    });
  // pasta goes to the background: for a moment there is the process that forked, too.
  await expect.poll(statusOfOurs, { timeout: 10_000 }).toHaveLength(1);
  const [status = ''] = statusOfOurs();
  container.stdin?.end();
  await container.wait();
  expect(/^Uid:\t(.*)$/m.exec(status)?.[1]).toBe('65534\t65534\t65534\t65534');
  expect(/^Gid:\t(.*)$/m.exec(status)?.[1]).toBe('65534\t65534\t65534\t65534');
  expect(/^Groups:\t(.*)$/m.exec(status)?.[1]?.trim()).toBe('');
});

test('a user-mode network has a route and the host’s name server, and goes with the container', async () => {
  const before = traces();
  const { stdout } = await run(
    'ip -o -4 addr show dev $(ip route | sed -n "s/^default.*dev //p"); cat /etc/resolv.conf',
    {
      network: 'user',
    },
  );
  expect(stdout).toContain('10.0.2.15/24');
  expect(stdout).toContain('nameserver 10.0.2.3');
  // pasta ends when it sees that its network is gone, which is a moment later.
  const pastas = () =>
    commandLines().filter((line) => line.startsWith('pasta ') && line.includes('--dns-forward 10.0.2.3'));
  await expect.poll(pastas, { timeout: 10_000 }).toEqual([]);
  await expect.poll(traces, { timeout: 10_000 }).toEqual(before);
});
