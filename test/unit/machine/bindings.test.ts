import { chmodSync, linkSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { blk } from '../../../src/devices/blk/blk.js';
import { share } from '../../../src/devices/fs/fs.js';
import { pmem } from '../../../src/devices/pmem.js';
import { rng } from '../../../src/devices/rng.js';
import { TsvmError } from '../../../src/errors.js';
import {
  bindDevices,
  bindSame,
  optionsFor,
  type SavedDevices,
  unboundWishes,
} from '../../../src/machine/bindings.js';
import { temporaryDirectory } from '../../support/guest.js';

const root = temporaryDirectory();
let folder = '';
let folders = 0;
beforeEach(() => {
  folder = join(root, `saved${++folders}`);
  mkdirSync(folder, { mode: 0o700 });
});

const savedWith = (...devices: { kind: string; config: object }[]): SavedDevices => ({
  folder,
  from: '/then',
  devices,
});

/** Devices of a manifest that wants all that can be had. */
const GREEDY = [
  { kind: 'blk', config: { path: 'root.img', readOnly: false } },
  { kind: 'rng', config: {} },
  { kind: 'blk', config: { path: '/etc/shadow', overlay: '/root/.bashrc' } },
  { kind: 'pmem', config: { path: '/dev/mem' } },
  { kind: 'fs', config: { path: '/', tag: 'x', readOnly: false, xattr: true } },
  { kind: 'net', config: { backend: 'tap', name: 'tap0' } },
  {
    kind: 'net',
    config: {
      backend: 'user',
      loopback: true,
      forwards: [{ protocol: 'tcp', address: '', port: 22, guestPort: 22 }],
    },
  },
  {
    kind: 'console',
    config: { console: false, ports: [{ name: 'log', path: '/tmp/any.sock' }, { name: 'free' }] },
  },
  { kind: 'vsock', config: { path: '/tmp/v.sock', cid: 3 } },
];

const refusal = async (action: Promise<unknown>): Promise<TsvmError> => {
  const outcome = await action.then(
    () => new Error('it was taken'),
    (error: unknown) => error,
  );
  expect(outcome).toBeInstanceOf(TsvmError);
  expect((outcome as TsvmError).message).not.toContain('\n');
  return outcome as TsvmError;
};

describe('bindDevices()', () => {
  test('gives a snapshot nothing because it asks, and says by which options it would have it', async () => {
    const error = await refusal(bindDevices(savedWith(...GREEDY), {}));
    expect(error).toMatchObject({ code: 'TSVM_BINDING' });
    for (const part of [
      'disk 0 (the disk image /then/root.img)',
      'disk 1 (the disk image /etc/shadow with the overlay /root/.bashrc)',
      'pmem 0 (the file /dev/mem, to read)',
      'share x (the folder /, to read and write, and its extended attributes)',
      'net 0 (the interface tap0)',
      "net 1 (this host's network as this user's, its loopback, its ports tcp *:22)",
      'port log (the socket /tmp/any.sock)',
      'vsock (the socket /tmp/v.sock and those beside it, /tmp/v.sock_PORT)',
    ])
      expect(error.message).toContain(part);
    expect(error.message).not.toContain('port free');
    expect(error.hint).toBe(
      'name what it may have: --disk 0=/then/root.img --disk 1=/etc/shadow,overlay=/root/.bashrc --pmem 0=/dev/mem --share x=/,xattr --net 0=tap,name=tap0 --net 1=user,hostfwd=tcp::22-:22,loopback=yes --ports log=/tmp/any.sock --vsock /tmp/v.sock',
    );
  });

  test('binds what is named, says so, and leaves the rest to be asked for', async () => {
    const devices = { 'disk 1': { path: '/mine', overlay: '/over' }, 'net 1': { backend: 'user' } };
    const wishes = await unboundWishes(savedWith(...GREEDY), {
      devices,
      vsock: '/own.sock',
      ports: { free: '/f' },
    });
    expect(wishes.map(({ slot }) => slot)).toEqual(['disk 0', 'pmem 0', 'share x', 'net 0', 'port log']);
    const rest = Object.fromEntries(wishes.map(({ slot, binding }) => [slot, binding]));
    const said: string[] = [];
    const bound = await bindDevices(savedWith(...GREEDY), {
      devices: { ...devices, ...rest },
      vsock: '/own.sock',
      ports: { free: '/f' },
      onBind: (slot, text) => said.push(`${slot}: ${text}`),
    });
    expect(bound.map(({ config }) => config)).toMatchObject([
      { path: '/then/root.img' },
      {},
      { path: '/mine', overlay: '/over' },
      { path: '/dev/mem' },
      { path: '/', tag: 'x', readOnly: false, xattr: true },
      { backend: 'tap', name: 'tap0' },
      { backend: 'user' },
      {
        ports: [
          { name: 'log', path: '/tmp/any.sock' },
          { name: 'free', path: '/f' },
        ],
      },
      { path: '/own.sock' },
    ]);
    expect(bound[6]?.config).toEqual({ backend: 'user' });
    expect(said).toContain('disk 1: the disk image /mine with the overlay /over');
    expect(said).toContain("net 1: this host's network as this user's");
    expect(said).toHaveLength(9);
  });

  test('has the disk itself written to if the operator says so, in either form, and never because the saved machine does', async () => {
    const disk = { path: join(folder, 'disk') };
    const saved = savedWith({ kind: 'blk', config: { ...disk, direct: true } });
    for (const devices of [{ 'disk 0': { ...disk, direct: true } }, [blk({ ...disk, direct: true })]]) {
      const said: string[] = [];
      const [bound] = await bindDevices(saved, { devices, onBind: (_slot, text) => said.push(text) });
      expect(bound?.config).toMatchObject({ ...disk, direct: true });
      expect(said).toEqual([`the disk image ${disk.path}, to be written to`]);
    }
    for (const devices of [{}, { 'disk 0': disk }, [blk(disk)]]) {
      const [bound] = await bindDevices(saved, { devices });
      expect(bound?.config).toEqual({ ...disk, readOnly: false });
    }
  });

  test('takes the list of devices that the machine was made with', async () => {
    const config = [
      { kind: 'blk', config: { path: '/a', readOnly: false } },
      { kind: 'fs', config: { path: '/b', tag: 'src', readOnly: true, xattr: false } },
      { kind: 'blk', config: { path: '/c', readOnly: true } },
    ];
    const devices = [
      rng(),
      blk({ path: 'x' }),
      share({ path: 'y', tag: 'src' }),
      blk({ path: 'z', readOnly: true }),
    ];
    const bound = await bindDevices(savedWith(...config), { devices });
    expect(bound.map((request) => request.config?.['path'])).toEqual(['x', 'y', 'z']);
    const error = await refusal(
      bindDevices(savedWith(...config), { devices: [...devices, pmem({ path: 'w' })] }),
    );
    expect(error).toMatchObject({
      code: 'TSVM_BINDING',
      message: expect.stringContaining('it has no pmem 0'),
    });
  });

  test.each(['disk 7', 'disk', 'share', 'port nope', '__proto__x', 'constructor', ''])(
    'refuses a slot that is not there: %j',
    async (name) => {
      const error = await refusal(bindDevices(savedWith(...GREEDY), { devices: { [name]: { path: '/x' } } }));
      expect(error).toMatchObject({
        code: 'TSVM_BINDING',
        message: expect.stringContaining(`it has no ${name}`),
      });
      expect(error.hint).toMatch(/^it has disk 0, /);
    },
  );

  test('keeps a name on its line, and off the terminal', async () => {
    for (const device of [
      { kind: 'a\nb\x1b[2J', config: {} },
      { kind: 'rng', config: { 'a\nb\u202e': 1 } },
    ])
      expect((await refusal(bindDevices(savedWith(device), {}))).message).not.toMatch(/\p{C}/u);
    const evil = '/a\x1b[2Jb\n--disk 9=/c';
    const error = await refusal(bindDevices(savedWith({ kind: 'blk', config: { path: evil } }), {}));
    expect(`${error.message}${error.hint}`).not.toMatch(/\p{C}/u);
    expect(error.hint).toContain("--disk $'0=/a\\x1b[2Jb\\x0a--disk 9=/c'");
    const [comma] = await unboundWishes(savedWith({ kind: 'blk', config: { path: '/a,b' } }), {});
    expect(optionsFor([comma!])).toBe('(disk 0: by the library, RestoreOptions.devices)');
  });
});

describe('what lies in the folder of a snapshot', () => {
  const inFolder = (name: string, more = {}) =>
    savedWith({ kind: 'blk', config: { path: join(folder, name), ...more } });

  test('is the machine’s without being named, wherever the folder is', async () => {
    writeFileSync(join(folder, 'disk'), 'x', { mode: 0o600 });
    mkdirSync(join(folder, 'tree'), { mode: 0o700 });
    const saved = [
      { kind: 'blk', config: { path: 'disk' } },
      { kind: 'fs', config: { path: './tree', tag: 't' } },
    ];
    const link = join(root, `link${folders}`);
    symlinkSync(folder, link);
    for (const from of [folder, '.', ''])
      for (const at of [folder, link]) {
        const said: string[] = [];
        const onBind = (_slot: string, text: string): void => void said.push(text);
        const bound = await bindDevices({ folder: at, from, devices: saved }, { onBind });
        expect(bound.map(({ config }) => config?.['path'])).toEqual(
          ['disk', 'tree'].map((name) => join(folder, name)),
        );
        expect(said).toHaveLength(2);
      }
  });

  test('is asked for if it lies below, beside or above, or if a part of it does', async () => {
    mkdirSync(join(folder, 'sub'));
    for (const path of ['sub/disk', '../disk', '.', '..', 'sub/../../disk', `../${'x'.repeat(3)}/disk`]) {
      const wishes = await unboundWishes(
        savedWith({ kind: 'blk', config: { path: `${folder}/${path}` } }),
        {},
      );
      expect(wishes, path).toHaveLength(1);
    }
    expect(await unboundWishes(inFolder('disk', { overlay: '/root/.bashrc' }), {})).toHaveLength(1);
  });

  test('and is a link, a device or another’s to change is refused', async () => {
    symlinkSync('/etc/passwd', join(folder, 'link'));
    symlinkSync('/', join(folder, 'tree'));
    writeFileSync(join(folder, 'open'), '');
    chmodSync(join(folder, 'open'), 0o666);
    mkdirSync(join(folder, 'wide'));
    writeFileSync(join(root, 'elsewhere'), '', { mode: 0o600 });
    linkSync(join(root, 'elsewhere'), join(folder, 'hard'));
    chmodSync(join(folder, 'wide'), 0o777);
    for (const name of ['link', 'tree', 'open', 'wide', 'hard'])
      expect(await refusal(bindDevices(inFolder(name), {}))).toMatchObject({ code: 'TSVM_SNAPSHOT' });
    chmodSync(folder, 0o777);
    expect(await refusal(bindDevices(inFolder('none'), {}))).toMatchObject({ code: 'TSVM_SNAPSHOT' });
  });

  test('is no socket: it leads to another program, and links beside it to others', async () => {
    const sockets = [
      { kind: 'vsock', config: { path: join(folder, 'v.sock') } },
      { kind: 'console', config: { ports: [{ name: 'log', path: join(folder, 'log.sock') }] } },
    ];
    symlinkSync('/run/docker.sock', join(folder, 'v.sock_1024'));
    expect((await unboundWishes(savedWith(...sockets), {})).map(({ slot }) => slot)).toEqual([
      'vsock',
      'port log',
    ]);
  });

  test('is nothing once the folder is gone', async () => {
    const saved = inFolder('disk');
    rmSync(folder, { recursive: true });
    expect(await unboundWishes(saved, {})).toHaveLength(1);
  });
});

describe('bindSame()', () => {
  test('gives a machine disks of its own in the place of its template’s, to be written to, and no others', async () => {
    const disks = [blk({ path: '/a', readOnly: true }), blk({ path: '/blank', direct: false })];
    const saved = savedWith(...disks.map(({ kind, config }) => ({ kind, config: config ?? {} })));
    const bound = await bindSame(saved, disks, { ownDisks: { 1: '/own' } });
    expect(bound.map(({ config }) => config)).toMatchObject([
      { path: '/a', readOnly: true },
      { path: '/own', direct: true },
    ]);
    expect(await refusal(bindSame(saved, disks, { ownDisks: { 2: '/own' } }))).toMatchObject({
      code: 'TSVM_BINDING',
      message: expect.stringContaining('disk 2'),
    });
  });

  const requests = [
    blk({ path: '/a', readOnly: true }),
    share({ path: '/b', tag: 'src', readOnly: true }),
    rng(),
  ];
  const asSaved = () =>
    JSON.parse(JSON.stringify(requests)) as { kind: string; config: Record<string, unknown> }[];

  test('uses the requests of who asks', async () => {
    const bound = await bindSame(savedWith(...asSaved()), requests, {});
    expect(bound.map(({ config }) => config)).toEqual(requests.map(({ config }) => config));
  });

  test.each<[string, (devices: ReturnType<typeof asSaved>) => void]>([
    ['another path', (devices) => void Object.assign(devices[0]!.config, { path: '/etc/shadow' })],
    ['another right', (devices) => void Object.assign(devices[1]!.config, { readOnly: false })],
    ['another tag', (devices) => void Object.assign(devices[1]!.config, { tag: 'x' })],
    ['a device more', (devices) => void devices.push({ kind: 'net', config: { backend: 'user' } })],
    ['a device less', (devices) => void devices.pop()],
    ['another order', (devices) => void devices.reverse()],
  ])('refuses %s in what was saved', async (_what, change) => {
    const devices = asSaved();
    change(devices);
    expect(await refusal(bindSame(savedWith(...devices), requests, {}))).toMatchObject({
      code: 'TSVM_SNAPSHOT',
    });
  });
});
