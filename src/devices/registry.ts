/** THE registration of devices: what the command line, help and hints know of them comes from these rows. */
import type { DeviceKind } from './device-kind.js';
import { balloonKind } from './virtio/balloon.js';
import { blkKind } from './virtio/blk.js';
import { consoleKind } from './virtio/console.js';
import { fsKind } from './virtio/fs.js';
import { netKind } from './virtio/net.js';
import { pmemKind } from './virtio/pmem.js';
import { rngKind } from './virtio/rng.js';
import { vsockKind } from './virtio/vsock.js';

export type { DeviceKind, DeviceRequest } from './device-kind.js';

export const deviceKinds: Readonly<Record<string, DeviceKind>> = {
  blk: blkKind,
  rng: rngKind,
  console: consoleKind,
  vsock: vsockKind,
  net: netKind,
  fs: fsKind,
  balloon: balloonKind,
  pmem: pmemKind,
};
