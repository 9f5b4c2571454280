/** By what a template is found again: everything that decides what is in it. */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { readCpu, readHostFacts } from '../host/facts.js';
import { detectProfile } from '../kvm/profiles/registry.js';
import type { MachineConfig } from '../machine/config.js';
import { type HostPath, pathsOf, specOf } from '../machine/spec.js';
import { SNAPSHOT_FORMAT } from '../snapshot/format.js';
import { VERSION } from '../util/version.js';

/**
 * A file is known by where it is, its size and its last change: its contents are not read. Nothing of what is in a folder, or said over a
 * socket, is in a template.
 */
async function fileIdentity({ path, type }: HostPath): Promise<unknown> {
  const absolute = resolve(path);
  const found = type === 'file' ? await stat(absolute, { bigint: true }).catch(() => undefined) : undefined;
  return found === undefined
    ? [absolute]
    : [absolute, String(found.size), String(found.mtimeNs), String(found.ino)];
}

/** 16 hexadecimal digits. */
export async function templateKey(config: MachineConfig): Promise<string> {
  const { command: _, ...machine } = config;
  const spec = specOf({ ...machine, channel: true });
  const profile = detectProfile(readHostFacts());
  const facts = {
    format: SNAPSHOT_FORMAT,
    tsvm: VERSION,
    profile: [profile.name, profile.kernelParameters],
    cpu: readCpu(),
    paths: await Promise.all(pathsOf(spec).map(fileIdentity)),
    // Where the guest's files are is said by their paths.
    spec: { ...spec, kernel: spec.kernel !== undefined, initrd: spec.initrd !== undefined },
  };
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 16);
}
