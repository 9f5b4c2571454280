import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { refuseForeignFormat } from '../../../src/host/disk-format.js';
import { temporaryDirectory } from '../../support/guest.js';

const directory = temporaryDirectory();
const warned: string[] = [];

/** Looks at a file of that name with these bytes at its beginning. */
async function look(name: string, start: string): Promise<void> {
  const path = join(directory, name);
  const file = await open(path, 'w+');
  try {
    await file.write(Buffer.from(start.padEnd(512, '\0'), 'latin1'));
    await refuseForeignFormat(file, { code: 'TSVM_DISK', subject: `disk ${name}`, path }, (text) => {
      warned.push(text);
    });
  } finally {
    await file.close();
  }
}

test('refuseForeignFormat() refuses what is a format by name and content, whatever the case', async () => {
  await expect(look('a.qcow2', 'QFI\xfb\0\0\0\x03')).rejects.toMatchObject({
    message: 'disk a.qcow2 is a qcow2 image, not a raw one',
    hint: expect.stringContaining('qemu-img convert -f qcow2 -O raw'),
  });
  await expect(look('a.VMDK', 'KDMV')).rejects.toThrow('is a VMDK image');
  expect(warned).toEqual([]);
});

test('refuseForeignFormat() takes what a guest may have written as raw, and says so', async () => {
  await look('root.img', 'QFI\xfb\0\0\0\x03');
  await look('disk', 'COWD');
  await look('a.raw.qcow2.bak', 'QFI\xfb\0\0\0\x03');
  expect(warned.splice(0)).toEqual([
    'disk root.img begins as a qcow2 image does, and is taken as raw: convert it if it came as one',
    'disk disk begins as a VMDK image does, and is taken as raw: convert it if it came as one',
    'disk a.raw.qcow2.bak begins as a qcow2 image does, and is taken as raw: convert it if it came as one',
  ]);
  await look('a.qcow2', 'raw');
  expect(warned).toEqual([]);
});
