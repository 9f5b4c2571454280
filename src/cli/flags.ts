/** Fields of the library, which errors name, as options of the command. */
import type { TsvmError } from '../errors.js';
import { inWords } from '../util/words.js';

/** Code in a hint, as a library's user writes it, and what the command line says instead. */
export const FLAGS: Readonly<Record<string, string>> = {
  kernel: '--kernel',
  "kernel: 'FILE'": '--kernel FILE',
  initrd: '--initrd',
  "initrd: 'FILE'": '--initrd FILE',
  'unpackInitrd: false': '--no-unpack-initrd',
  cmdline: '--append, or replace the whole line with --cmdline',
  memoryBytes: '--memory',
  'memoryBytes: 128 * 2 ** 20': '--memory 128M',
  'memoryBytes: 2 ** 30': '--memory 1G',
  'cpus: 2': '--cpus 2',
  entry: '--entry',
  "entry: 'bzimage'": '--entry bzimage',
  "entry: 'pvh'": '--entry pvh',
  "firmware: 'builtin'": '--firmware builtin',
  'blk({ path })': '--disk',
  'blk({ path, readOnly: true })': '--disk PATH,ro',
  "net({ backend: 'tap', name: 'tap0' })": '--net tap,name=tap0',
  'balloon()': '--balloon',
  'vsock()': '--vsock',
  'virtioConsole({ ports })': '--ports',
  "disks: 'direct'": '--disks direct',
  'createMachine()': '--no-template',
  'layers: [DIR]': '--rootfs DIR',
  "share: ['net']": '--host-namespace net',
  "share: ['user']": '--host-namespace user',
  uidMap: '--uid-map',
  gidMap: '--gid-map',
  "network: 'none'": '--net none',
  engine: '--engine',
  "argv: ['COMMAND']": '-- COMMAND',
};

/** Beginnings of messages, which name a field and some of them its value, and what the command line says instead. */
export const HEADS: Readonly<Record<string, string>> = {
  'memoryBytes: ': '--memory: ',
  'cpus: ': '--cpus: ',
  'net user: ': '--net user: ',
  'net tap: ': '--net tap: ',
  'network user: ': '--net user: ',
  'name ': '--name ',
  'engine ': '--engine ',
};

/** Message and hint of an error in the command's words. */
export function inFlags(error: TsvmError): { message: string; hint: string | undefined } {
  return inWords(error, { heads: HEADS, code: FLAGS });
}
