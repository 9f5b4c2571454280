/** THE registration of devices: what the command line, help and hints know of them comes from these rows. */

import { balloonKind } from './balloon/balloon.js';
import { blkKind } from './blk/blk.js';
import { consoleKind } from './console/console.js';
import { fsKind } from './fs/fs.js';
import type { DeviceKind } from './kind.js';
import { netKind } from './net/net.js';
import { pmemKind } from './pmem.js';
import { rngKind } from './rng.js';
import { vsockKind } from './vsock/kind.js';

export type { DeviceKind, DeviceRequest, HostPath } from './kind.js';

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
