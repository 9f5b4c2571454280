/** An image as the root of a machine. */

import { share } from '../devices/fs/fs.js';
import { pmem } from '../devices/pmem.js';
import type { DeviceRequest } from '../devices/registry.js';
import type { Image } from './image.js';
import type { ImageStore, MakeProgress } from './store.js';

const TAG = 'root';

/** Device and parameters that give a machine its root. What the machine writes is in its memory, and lost with it. */
export interface MachineRoot {
  /** Name of what it holds: its content's, or the path of what may change. */
  readonly identity: string;
  readonly device: DeviceRequest;
  /** Addition to the kernel's command line. */
  readonly parameters: string;
}

/**
 * An image that never changes is a file system in memory that all its machines share, and nothing of it is copied into them; it
 * is made the first time. A directory may change, and is shared as it is.
 *
 * @param progress - told of what may take a while
 */
export async function machineRoot(
  image: Image,
  store: ImageStore,
  progress: MakeProgress = {},
): Promise<MachineRoot> {
  if (image.kind === 'directory') {
    return {
      identity: image.directory,
      device: share({ path: image.directory, tag: TAG, readOnly: true }),
      parameters: `root=${TAG} rootfstype=virtiofs rootoverlay`,
    };
  }
  const path = await store.rootFileOf(image, progress);
  return {
    identity: image.key,
    device: pmem({ path }),
    parameters: 'root=/dev/pmem0 rootfstype=erofs rootflags=dax rootoverlay',
  };
}
