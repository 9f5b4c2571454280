/**
 * A Debian with systemd on the default guest's kernel, its root on virtio-blk and on virtio-fs, to its login prompt and to its reboot.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { cmdlineForRoot } from '../../src/guest/store.js';
import { blk, createMachine, findGuest, type MachineConfig, share } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { debianWithSystemd, systemdProblem } from '../support/debian.js';
import { ConsoleLog, interpreted } from '../support/guest.js';
import { skipAll } from '../support/skip.js';
import { notHere } from '../support/skip-reasons.js';

const BOOT_MS = 200_000;
const MAKING_MS = 600_000;
const MEMORY_BYTES = 512 * MIB;

const problem = interpreted
  ? notHere('a KVM that interprets the guest’s kernel takes long over what systemd asks of it')
  : systemdProblem();
let debian: { root: string; image: string } = { root: '', image: '' };
beforeAll(() => {
  if (problem === undefined) debian = debianWithSystemd();
}, MAKING_MS);

describe('Debian', () => {
  skipAll(problem);

  test.each([
    ['virtio-blk', /ext4\r?\n/, () => ({ devices: [blk({ path: debian.image })] }), 'root=/dev/vda rw'],
    [
      'virtio-fs',
      /virtiofs\r?\n/,
      () => ({ devices: [share({ path: debian.root, tag: 'root' })] }),
      'root=root rootfstype=virtiofs rw',
    ],
  ])(
    'comes up from %s, logs in, and reboots',
    { timeout: 2 * BOOT_MS },
    async (_, type, devices, parameters) => {
      const guest = await findGuest();
      const { kernel, discovery } = guest;
      const config: MachineConfig = {
        kernel,
        cmdline: `${cmdlineForRoot(guest)} ${parameters}`,
        discovery,
        memoryBytes: MEMORY_BYTES,
        ...devices(),
      };
      await using machine = await createMachine(config);
      const log = new ConsoleLog(machine);
      await machine.start();
      await log.waitFor(/login: /, 0, BOOT_MS);
      machine.console.write(Buffer.from('root\n'));
      await log.waitFor(/# /, 0, BOOT_MS);
      const from = log.text.length;
      machine.console.write(
        Buffer.from('systemctl is-active multi-user.target; findmnt -no FSTYPE /; echo $((6 * 7))\n'),
      );
      const [said] = await log.waitFor(/[\s\S]*\n42\r?\n/, from, BOOT_MS);
      expect(said).toMatch(/activ(e|ating)\r?\n/);
      expect(said).toMatch(type);
      machine.console.write(Buffer.from('systemctl reboot\n'));
      expect(await machine.wait()).toMatchObject({ kind: 'reset' });
    },
  );
});
