/** Servers at Unix sockets' paths. */
import { lstat, unlink } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { isErrnoError, TsvmError, type TsvmErrorCode } from '../errors.js';

/** sun_path of Linux has 108 bytes, one for the NUL. */
const MAX_PATH_BYTES = 107;

export interface ListenAt {
  readonly path: string;
  /** Who listens, for messages: `vsock`. */
  readonly what: string;
  readonly code: TsvmErrorCode;
  /** Of what will be added to the path for other sockets. */
  readonly suffixBytes?: number;
}

/** Takes over a socket that somebody left behind who no longer listens, as after SIGKILL. @throws TsvmError of `code` */
export async function listenAt(
  server: Server,
  { path, what, code, suffixBytes = 0 }: ListenAt,
): Promise<void> {
  const bytes = Buffer.byteLength(path);
  const most = MAX_PATH_BYTES - suffixBytes;
  if (bytes > most) {
    throw new TsvmError(code, `${what} ${path}: ${bytes} bytes are too long for a Unix socket`, {
      hint: `${suffixBytes > 0 ? 'with a port after it, ' : ''}${most} are the most: use a shorter path, such as /tmp/vm.sock`,
    });
  }
  try {
    await removeStale(path);
    await listen(server, path);
  } catch (cause) {
    const inUse = isErrnoError(cause) && cause.code === 'EADDRINUSE';
    const why = inUse
      ? 'another machine or program listens there, or it is no socket'
      : cause instanceof Error
        ? cause.message
        : String(cause);
    throw new TsvmError(code, `${what} ${path}: ${why}`, {
      hint: inUse ? 'give this machine a path of its own' : 'give a path in a folder that can be written',
      cause,
    });
  }
}

/** Node removes the socket's file. */
export async function closeServer(server: Server): Promise<void> {
  if (server.listening) await new Promise<void>((resolve) => server.close(() => resolve()));
}

async function removeStale(path: string): Promise<void> {
  const stat = await lstat(path).catch((error: unknown) => {
    if (isErrnoError(error) && error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (stat?.isSocket() === true && !(await answers(path))) await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error) => resolve(!isErrnoError(error) || error.code !== 'ECONNREFUSED'));
  });
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
