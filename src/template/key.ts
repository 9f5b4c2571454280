/** By what a template is found again: everything that decides what is in it. */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { readCpu, readHostFacts } from '../host/host-facts.js';
import { detectProfile } from '../kvm/profiles/registry.js';
import type { MachineConfig } from '../machine/config.js';
import { SNAPSHOT_FORMAT } from '../snapshot/format.js';
import { VERSION } from '../util/version.js';

/** A file is known by where it is, its size and its last change: its contents are not read. */
async function fileIdentity(path: string | undefined): Promise<unknown> {
  if (path === undefined) return null;
  const absolute = resolve(path);
  const found = await stat(absolute, { bigint: true }).catch(() => undefined);
  return found === undefined
    ? [absolute]
    : [absolute, String(found.size), String(found.mtimeNs), String(found.ino)];
}

/** 16 hexadecimal digits. */
export async function templateKey(config: MachineConfig): Promise<string> {
  const {
    kernel,
    initrd,
    devices = [],
    command: _command,
    channel: _channel,
    build: _build,
    ...rest
  } = config;
  const disks = devices
    .filter(({ kind }) => kind === 'blk' || kind === 'pmem')
    .flatMap(({ config: device }) => [device?.['path'], device?.['overlay']])
    .filter((path) => typeof path === 'string');
  // What is in a folder may change: nothing of it is in a template.
  const folders = devices
    .filter(({ kind }) => kind === 'fs')
    .map(({ config: device }) => resolve(String(device?.['path'])));
  const profile = detectProfile(readHostFacts());
  const facts = {
    format: SNAPSHOT_FORMAT,
    tsvm: VERSION,
    profile: [profile.name, profile.kernelParameters],
    cpu: readCpu(),
    files: await Promise.all([kernel, initrd, ...disks].map(fileIdentity)),
    folders,
    devices: devices.map((device) => [device.kind, device.config]),
    config: Object.entries(rest).sort(([a], [b]) => (a < b ? -1 : 1)),
  };
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 16);
}
