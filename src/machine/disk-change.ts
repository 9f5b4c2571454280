/** Another file in the place of a disk's, as when a medium is changed in a drive; or the same, of another size. */

import { type Blk, blk, refuseTiny } from '../devices/blk/blk.js';
import { type BlkConfig, checkBlkConfig } from '../devices/blk/config.js';
import { TsvmError } from '../errors.js';
import type { MachineHost } from '../host/host.js';
import type { MachineConfig } from './config.js';

/**
 * Only while no device touches a disk.
 *
 * @returns the machine's configuration, changed
 * @throws TsvmError `TSVM_CONFIG` if there is no such disk, `TSVM_DISK` if the file cannot be one; then nothing has changed.
 */
export async function changeDisk(
  { config, disks, host }: { config: MachineConfig; disks: readonly Blk[]; host: MachineHost },
  index: number,
  path: string,
): Promise<MachineConfig> {
  const disk = disks[index];
  const requests = [...(config.devices ?? [])];
  const at = requests.flatMap(({ kind }, i) => (kind === 'blk' ? [i] : []))[index];
  const request = at === undefined ? undefined : requests[at];
  if (disk === undefined || at === undefined || request?.config === undefined) {
    throw new TsvmError('TSVM_CONFIG', `disk ${index}: the machine has no such disk`);
  }
  const { overlay: _, ...rest }: BlkConfig = checkBlkConfig(request.config);
  requests[at] = blk({ ...rest, path });
  const changed = { ...config, devices: requests };
  const sizeBytes = await host.sizeOfSame(disk.backend, path);
  if (sizeBytes !== undefined) {
    await resize(disk, sizeBytes);
    return changed;
  }
  const successor = await host.openSuccessor(disk.backend, path);
  await refuseTiny(path, successor.disk);
  try {
    if (!disk.readOnly) await disk.backend.flush();
  } catch (error) {
    await successor.disk.close();
    throw error;
  }
  successor.succeed();
  // What was written to the old one is on it: there is nothing more that its closing could lose.
  await disk
    .replaceBackend(successor.disk)
    .close()
    .catch(() => {});
  return changed;
}

async function resize(disk: Blk, sizeBytes: number): Promise<void> {
  const { backend } = disk;
  if (sizeBytes === backend.sizeBytes) return;
  if (backend.resize === undefined) throw new TsvmError('TSVM_DISK', 'the size of this disk cannot change');
  await backend.resize(sizeBytes);
  disk.replaceBackend(backend);
}
