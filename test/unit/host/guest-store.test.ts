import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { findGuest, findGuestFor, listGuests } from '../../../src/host/guest-store.js';
import { checkConfig, type MachineConfig } from '../../../src/machine/config.js';
import { GIB } from '../../../src/util/units.js';
import { temporaryDirectory } from '../../support/guest.js';
import { notRoot } from '../../support/skip-reasons.js';

const root = temporaryDirectory();

/** A built guest, without its files. */
function build(name: string, key: string, more: object = {}): string {
  const directory = join(root, `${name}-${key}`);
  mkdirSync(directory);
  const files = {
    kernel: 'vmlinux',
    bzImage: 'bzImage',
    initramfs: 'initramfs.cpio',
    rootfs: 'rootfs.ext4',
    systemMap: 'System.map',
  };
  const manifest = {
    format: 1,
    name,
    key,
    version: '6.12.1',
    cmdline: 'quiet',
    inputs: {},
    ...files,
    ...more,
  };
  writeFileSync(join(directory, 'manifest.json'), JSON.stringify(manifest));
  return directory;
}

const old = build('default', '1');
const directory = build('default', '2', { discovery: 'cmdline' });
symlinkSync('default-2', join(root, 'default'));
build('acpi', '3', { discovery: 'acpi' });

beforeEach(() => vi.stubEnv('TSVM_GUEST_DIR', root));
afterEach(() => vi.unstubAllEnvs());

test('findGuest() gives fields of a configuration, and the build that they are of', async () => {
  expect(await findGuest()).toEqual({
    kernel: join(directory, 'vmlinux'),
    initrd: join(directory, 'initramfs.cpio'),
    cmdline: 'quiet',
    discovery: 'cmdline',
    build: {
      name: 'default',
      key: '2',
      version: '6.12.1',
      directory,
      current: true,
      bzImage: join(directory, 'bzImage'),
      rootfs: join(directory, 'rootfs.ext4'),
    },
  });
});

test('findGuest() gives what is a configuration as it is', async () => {
  const config: MachineConfig = { ...(await findGuest()), command: { argv: ['true'] } };
  const check = (more: object) => () => checkConfig({ ...config, ...more }, { totalMemoryBytes: GIB });
  expect(check({})).not.toThrow();
  expect(check({ version: '6.12.1' })).toThrow(/^version: there is no such field/);
  expect(check({ build: 'default' })).toThrow(/^build: it must be what findGuest\(\) says of a guest$/);
});

test('listGuests() has a guest without bzImage and root image, as npm installs it', async () => {
  const lean = build('lean', '6', { bzImage: undefined, rootfs: undefined });
  const found = (await listGuests()).find(({ build }) => build.name === 'lean');
  expect(Object.keys(found!.build)).toEqual(['name', 'key', 'version', 'directory', 'current']);
  rmSync(lean, { recursive: true });
});

test('listGuests() has the current ones first', async () => {
  const guests = await listGuests();
  expect(guests.map(({ build: { name, key, current } }) => [name, key, current])).toEqual([
    ['default', '2', true],
    ['acpi', '3', false],
    ['default', '1', false],
  ]);
  expect(guests[2]?.build.directory).toBe(old);
});

describe('while the default guest is not built, findGuestFor()', () => {
  let guests: string;

  beforeEach(() => {
    guests = mkdtempSync(join(root, '.none-'));
    const [name, manifest] = ['debian-6', readFileSync(join(old, 'manifest.json'), 'utf8')];
    mkdirSync(join(guests, name));
    writeFileSync(join(guests, name, 'manifest.json'), manifest.replace('"default"', '"debian"'));
    symlinkSync(name, join(guests, 'debian'));
    vi.stubEnv('TSVM_GUEST_DIR', guests);
  });
  afterEach(() => rmSync(guests, { recursive: true }));

  test('takes the Debian one, unless the default one is named', () => {
    const facts = { kvmModules: ['kvm', 'kvm_amd'] };
    expect(findGuestFor(facts).build.name).toBe('debian');
    expect(() => findGuestFor(facts, 'default')).toThrow("the guest 'default' has not been built");
  });

  test('does not where the kernel is interpreted, and says why; it does if it is named', () => {
    const facts = { kvmModules: ['kvm', 'kvm_pvm'] };
    expect(() => findGuestFor(facts)).toThrow(/^the guest 'default' has not been built, and on kvm_pvm /);
    expect(findGuestFor(facts, 'debian').build.name).toBe('debian');
  });
});

describe('a folder that others could change', () => {
  const refused = async (message: string) => {
    for (const open of [findGuest, listGuests]) {
      await expect(open()).rejects.toMatchObject({
        code: 'TSVM_GUEST_BUILD',
        message: expect.stringContaining(message),
      });
    }
  };

  test.each([0o777, 0o775, 0o1777])(
    'is refused with mode %o, and so is the folder of a guest',
    async (mode) => {
      for (const path of [root, directory]) {
        chmodSync(path, mode);
        await refused('others may write there');
        chmodSync(path, 0o755);
      }
      expect((await findGuest()).build.key).toBe('2');
    },
  );

  test('is refused as a link', async () => {
    const link = join(temporaryDirectory(), 'guests');
    symlinkSync(root, link);
    vi.stubEnv('TSVM_GUEST_DIR', link);
    await refused('it is a link');
  });

  test('is refused if it is another user’s', async ({ skip }) => {
    skip(notRoot() !== undefined, notRoot());
    chownSync(root, 1000, 1000);
    await refused('another user');
    chownSync(root, 0, 0);
  });
});

test('a guest is named by plain names: links and manifests that lead elsewhere name none', async () => {
  const elsewhere = temporaryDirectory();
  const made = build('trap', '4');
  for (const target of [made, `../${root.split('/').at(-1)}/trap-4`, `${elsewhere}/trap-4`, '.', '..', '']) {
    if (target !== '') symlinkSync(target, join(root, 'trap'));
    await expect(findGuest('trap')).rejects.toThrow("the guest 'trap' has not been built");
    rmSync(join(root, 'trap'), { force: true });
  }
  for (const name of ['..', '.', '', 'a/b', '../x', 'trap\0']) {
    await expect(findGuest(name)).rejects.toThrow('has not been built');
  }
  for (const more of [
    { kernel: '../vmlinux' },
    { rootfs: '/etc/shadow' },
    { bzImage: 5 },
    { initramfs: '..' },
    { name: '../default' },
  ]) {
    build('trap', '5', more);
    expect((await listGuests()).map(({ build }) => build.key)).not.toContain('5');
    rmSync(join(root, 'trap-5'), { recursive: true });
  }
});
