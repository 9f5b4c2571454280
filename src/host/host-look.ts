/** A look at what devices name of the host, without the addon and before anything is made. */
import { access, constants, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { HostLook } from '../devices/host.js';
import { TsvmError } from '../errors.js';
import { lookAtDiskFile } from './disk-file.js';
import { describeFileError } from './files.js';
import { lookAtOverlayFile } from './overlay-file.js';
import { lookAtPmemFile } from './pmem-file.js';
import { portPlace } from './port-socket.js';
import { shareError } from './shared-folder.js';
import { lookAtSocketPath } from './unix-listener.js';
import { vsockPlace } from './vsock-sockets.js';

/** Looks at paths that are relative to the working directory. */
export const hostLook: HostLook = {
  async disk(path, { readOnly, overlay }) {
    await lookAtDiskFile(resolve(path), { readOnly: readOnly || overlay !== undefined });
    if (overlay !== undefined) await lookAtOverlayFile(resolve(overlay), { readOnly });
  },
  pmem: (path) => lookAtPmemFile(resolve(path)),
  share: (path) => lookAtSharedFolder(resolve(path)),
  portSocket: (path) => lookAtSocketPath(portPlace(resolve(path))),
  vsock: (path) => lookAtSocketPath(vsockPlace(resolve(path))),
};

async function lookAtSharedFolder(path: string): Promise<void> {
  const failed = shareError(path);
  try {
    if (!(await stat(path)).isDirectory()) throw failed('it is not a folder');
    await access(path, constants.R_OK | constants.X_OK);
  } catch (cause) {
    throw cause instanceof TsvmError ? cause : failed(describeFileError(cause), undefined, cause);
  }
}
